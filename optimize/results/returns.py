"""Session returns in the database: stored by window, loaded as one matrix of a study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, null, select

from envs.types import BoolArray, DateArray, FloatArray, IntArray
from optimize.database import has_table
from optimize.evaluate.drawdowns import SessionLevels
from optimize.results.rows import insert_if_absent, replace_row, stored_columns
from optimize.results.states import COUNTED, RunState
from optimize.results.tables import RUNS, SESSION_RETURNS, TEST_SESSIONS, WINDOWS


@dataclass(frozen=True, eq=False)
class StudyReturns:
    """Session returns of the ended trials of a study (N trials, R repeats, T sessions, K windows).

    A trial that was stopped early has no returns after its last window: NaN.
    """

    returns: FloatArray  # (N, R, T) simple, net
    sessions: DateArray  # (T,)
    window: IntArray  # (T,) number of the window that a session belongs to
    trades: FloatArray  # (N, R, K) fills
    trial_number: IntArray  # (N,)
    parameter_set: tuple[str, ...]  # N hashes
    pruned: tuple[bool, ...]  # N: stopped early or not feasible
    gated: BoolArray  # (N, K) whether a gate blocks the windows up to this one, in any repeat


def save_sessions(conn: Connection, study: str, sessions: Mapping[int, DateArray]) -> None:
    """Store the dates of the test sessions of each window of a study, once."""
    for window, dates in sessions.items():
        row = {"study_name": study, "window": window, "sessions": np.datetime_as_string(dates, "D").tolist()}
        insert_if_absent(conn, TEST_SESSIONS, row)


def save_returns(
    conn: Connection,
    run_uuid: str,
    window: int,
    repeat: int,
    returns: FloatArray | Sequence[float],
    levels: SessionLevels | None = None,
) -> None:
    """Store session returns and drawdowns of a window, beside its metrics and in the same transaction."""
    row = {"run_uuid": run_uuid, "window": window, "repeat": repeat, "returns": [float(r) for r in returns]}
    drawdowns = None if levels is None else levels.drawdown.tolist()
    replace_row(conn, SESSION_RETURNS, row | {"drawdowns": drawdowns})


def returns_of_run(conn: Connection, run_uuid: str, repeat: int = 0) -> FloatArray:
    """Return the session returns (T,) of one training of a run, its windows in order."""
    of_run = (SESSION_RETURNS.c.run_uuid == run_uuid, SESSION_RETURNS.c.repeat == repeat)
    rows = select(SESSION_RETURNS.c.returns).where(*of_run).order_by(SESSION_RETURNS.c.window)
    parts = [np.array(row, np.float64) for row in conn.execute(rows).scalars()]
    return np.concatenate(parts) if parts else np.zeros(0)


def load_returns(conn: Connection, study: str) -> StudyReturns | None:
    """Return the session returns of a study, None where an older version kept them in files alone.

    A trial counts with the run that ended it; those of failed runs are left out.
    """
    if not has_table(conn, SESSION_RETURNS.name) or not has_table(conn, TEST_SESSIONS.name):
        return None
    of_study = select(TEST_SESSIONS.c.window, TEST_SESSIONS.c.sessions).where(
        TEST_SESSIONS.c.study_name == study
    )
    dates = {window: np.array(days, "datetime64[D]") for window, days in conn.execute(of_study)}
    gate = WINDOWS.c.gate if WINDOWS.c.gate in stored_columns(conn, WINDOWS) else null()
    rows = conn.execute(_OF_RUNS.add_columns(gate).where(RUNS.c.study_name == study)).all()
    if not dates or not rows:
        return None
    column = {window: index for index, window in enumerate(sorted(dates))}
    lengths = [len(dates[window]) for window in column]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    runs = {number: (state, of_set) for number, state, of_set, *_ in rows}
    place = {number: index for index, number in enumerate(runs)}
    repeats = 1 + max(repeat for *_, repeat, _, _, _ in rows)
    returns = np.full((len(place), repeats, starts[-1]), np.nan)
    trades = np.full((len(place), repeats, len(column)), np.nan)
    gated = np.zeros((len(place), len(column)), np.bool_)
    for number, _, _, window, repeat, values, fills, blocked in rows:
        first = starts[column[window]]
        returns[place[number], repeat, first : first + len(values)] = values
        trades[place[number], repeat, column[window]] = fills
        gated[place[number], column[window]] |= blocked is not None
    return StudyReturns(
        returns=returns,
        sessions=np.concatenate([dates[window] for window in column]),
        window=np.repeat(np.arange(len(column)), lengths),
        trades=trades,
        trial_number=np.array(list(runs), np.int64),
        parameter_set=tuple(of_set or str(number) for number, (_, of_set) in runs.items()),
        pruned=tuple(state != RunState.COMPLETE for state, _ in runs.values()),
        gated=gated,
    )


_OF_RUNS = (
    select(
        RUNS.c.trial_number,
        RUNS.c.state,
        RUNS.c.parameter_set,
        SESSION_RETURNS.c.window,
        SESSION_RETURNS.c.repeat,
        SESSION_RETURNS.c.returns,
        WINDOWS.c.trades,
    )
    .join(SESSION_RETURNS, SESSION_RETURNS.c.run_uuid == RUNS.c.run_uuid)
    .join(
        WINDOWS,
        (WINDOWS.c.run_uuid == SESSION_RETURNS.c.run_uuid)
        & (WINDOWS.c.window == SESSION_RETURNS.c.window)
        & (WINDOWS.c.repeat == SESSION_RETURNS.c.repeat),
    )
    .where(RUNS.c.state.in_(COUNTED))
    .order_by(RUNS.c.trial_number, SESSION_RETURNS.c.window, SESSION_RETURNS.c.repeat)
)
