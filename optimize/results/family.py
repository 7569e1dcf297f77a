"""Family of a study: one run of every parameter set of all studies on its instrument and test dates."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from envs.types import DateArray, FloatArray, IntArray
from optimize.data.symbols import share_symbol
from optimize.database import has_table
from optimize.evaluate.captions import BUY_AND_HOLD
from optimize.evaluate.metrics import sharpe_ratio
from optimize.results.instrument_names import known_names
from optimize.results.records import load_baselines, load_study
from optimize.results.runs import parameter_set
from optimize.results.states import COUNTED, RunState
from optimize.results.tables import FINALIST_RUNS, RUNS, SESSION_RETURNS, TEST_SESSIONS, TRIED_RUNS
from optimize.results.tries import Tries, count_tries, tried_span

RUNS_AT_ONCE = 500  # runs whose returns are read by one statement
_TIMEFRAME = "data.timeframe"


@dataclass(frozen=True)
class FamilyRun:
    """The run of the lower median of a parameter set; one that was stopped or is blocked has no score."""

    study_name: str
    parameter_set: str
    run_uuid: str
    trial_number: int
    score: float | None
    pruned: bool
    timeframe: str


@dataclass(frozen=True, eq=False)
class Family:
    """Session returns of N runs over the T sessions on which any was tested; NaN where one was not."""

    runs: tuple[FamilyRun, ...]  # N
    returns: FloatArray  # (T, N) simple, net; of several repeats the one of the lower median
    hold: FloatArray  # (T, G) of buy-and-hold, one column for each study and timeframe
    hold_of: IntArray  # (N,) column of `hold`
    sessions: DateArray  # (T,)
    tries: Tries
    n_held: int  # tries that these runs stand for


@dataclass(frozen=True)
class _Tried:
    """A run of a study with the instruments of its try."""

    run: FamilyRun
    tries: int  # of its parameter set that overlap the span, finalists among them


def load_family(conn: Connection, study: str, risk_free: float = 0.0) -> Family | None:
    """Return the family of a study, None where an older version kept its returns in files alone.

    `risk_free` is the rate per session by which the repeat of the lower median is found, as in the score.
    """
    span = tried_span(conn, study)
    if span is None or not has_table(conn, SESSION_RETURNS.name):
        return None
    studies, counted = _overlapping(conn, span)
    tried = [each for name in studies for each in _medians(conn, name, counted)]
    dates = {name: _sessions(conn, name) for name in {each.run.study_name for each in tried}}
    every = [days for own in dates.values() for days in own.values()]
    if not every:
        return None
    sessions = np.unique(np.concatenate(every))
    columns = np.full((len(sessions), len(tried)), np.nan)
    for place, series in _returns(conn, [each.run for each in tried], dates, risk_free):
        days, values = series
        columns[np.searchsorted(sessions, days), place] = values
    present = np.flatnonzero(~np.isnan(columns).all(axis=0))
    kept = [tried[place] for place in present]
    if not (held := sum(each.tries for each in kept)):
        return None
    hold, hold_of = _buy_and_hold(conn, [each.run for each in kept], sessions)
    return Family(
        runs=tuple(each.run for each in kept),
        returns=columns[:, present],
        hold=hold,
        hold_of=hold_of,
        sessions=sessions,
        tries=count_tries(conn, *span),
        n_held=held,
    )


def _overlapping(
    conn: Connection, span: tuple[Sequence[str], date, date]
) -> tuple[list[str], frozenset[str]]:
    """Return the runs of the tries that share an instrument and a test session, and the studies of trials."""
    symbols, first, end = span
    names = known_names(conn, symbols)
    rows = conn.execute(
        select(TRIED_RUNS.c.run_uuid, TRIED_RUNS.c.symbols, RUNS.c.study_name)
        .outerjoin(RUNS, RUNS.c.run_uuid == TRIED_RUNS.c.run_uuid)
        .where(TRIED_RUNS.c.first < end, TRIED_RUNS.c.end > first)
    )
    found = [(uuid, name) for uuid, shared, name in rows if share_symbol(names, shared)]
    return sorted({name for _, name in found if name is not None}), frozenset(uuid for uuid, _ in found)


def _medians(conn: Connection, study: str, counted: Set[str]) -> Iterator[_Tried]:
    """Yield the run of the lower median of each parameter set; a run without a score is below every score.

    The set stands for those of its runs that are `counted`: a run that was stopped before the span is no try
    on it.
    """
    record = load_study(conn, study)
    default = "" if record is None else str(record.spec.get("data", {}).get("timeframe"))
    columns = (RUNS.c.trial_number, RUNS.c.run_uuid, RUNS.c.state, RUNS.c.score, RUNS.c.gate)
    rows = conn.execute(
        select(*columns, RUNS.c.parameter_set, RUNS.c.parameters).where(
            RUNS.c.study_name == study, RUNS.c.state.in_(COUNTED)
        )
    )
    sets: dict[str, list[FamilyRun]] = {}
    for number, uuid, state, score, gate, of_set, parameters in rows:
        ranked = score if state == RunState.COMPLETE and gate is None else None
        name = of_set or parameter_set(parameters or {})
        timeframe = str((parameters or {}).get(_TIMEFRAME, default))
        run = FamilyRun(study, name, uuid, number, ranked, state != RunState.COMPLETE, timeframe)
        sets.setdefault(name, []).append(run)
    retrained = _retrained(conn, study, counted)
    for name, runs in sets.items():
        runs.sort(key=lambda each: (-math.inf if each.score is None else each.score, each.trial_number))
        tries = sum(run.run_uuid in counted for run in runs)
        yield _Tried(runs[(len(runs) - 1) // 2], tries + retrained[name])


def _retrained(conn: Connection, study: str, counted: Set[str]) -> Counter[str]:
    """Return how many counted tries of finalists each parameter set has; its column stands for them too."""
    if not has_table(conn, FINALIST_RUNS.name):
        return Counter()
    of_study = FINALIST_RUNS.c.study_name == study
    rows = conn.execute(select(FINALIST_RUNS.c.parameter_set, FINALIST_RUNS.c.run_uuid).where(of_study))
    return Counter(name for name, uuid in rows if uuid in counted)


def _sessions(conn: Connection, study: str) -> dict[int, DateArray]:
    rows = select(TEST_SESSIONS.c.window, TEST_SESSIONS.c.sessions).where(TEST_SESSIONS.c.study_name == study)
    return {window: np.array(days, "datetime64[D]") for window, days in conn.execute(rows)}


def _returns(
    conn: Connection, runs: Sequence[FamilyRun], dates: dict[str, dict[int, DateArray]], risk_free: float
) -> Iterator[tuple[int, tuple[DateArray, FloatArray]]]:
    """Yield place, sessions and returns of each run that has any."""
    places = {run.run_uuid: place for place, run in enumerate(runs)}
    uuids = list(places)
    for first in range(0, len(uuids), RUNS_AT_ONCE):
        rows = conn.execute(
            select(
                SESSION_RETURNS.c.run_uuid,
                SESSION_RETURNS.c.window,
                SESSION_RETURNS.c.repeat,
                SESSION_RETURNS.c.returns,
            ).where(SESSION_RETURNS.c.run_uuid.in_(uuids[first : first + RUNS_AT_ONCE]))
        )
        stored: dict[str, dict[int, dict[int, Any]]] = {}
        for uuid, window, repeat, returns in rows:
            stored.setdefault(uuid, {}).setdefault(repeat, {})[window] = returns
        for uuid, repeats in stored.items():
            own = dates[runs[places[uuid]].study_name]
            if (joined := _joined(repeats, own, risk_free)) is not None:
                yield places[uuid], joined


def _joined(
    repeats: dict[int, dict[int, Any]], dates: dict[int, DateArray], risk_free: float
) -> tuple[DateArray, FloatArray] | None:
    """Return the returns of the repeat of the lower median, over the windows that every repeat has."""
    windows = sorted(set.intersection(*(set(each) for each in repeats.values())) & dates.keys())
    if not windows:
        return None
    days = np.concatenate([dates[window] for window in windows])
    series = [
        np.concatenate([np.array(each[window], np.float64) for window in windows])
        for _, each in sorted(repeats.items())
    ]
    ratios = [sharpe_ratio(each, 1.0, risk_free) for each in series]
    order = np.argsort([ratio if math.isfinite(ratio) else -math.inf for ratio in ratios], kind="stable")
    return days, series[int(order[(len(series) - 1) // 2])]


def _buy_and_hold(
    conn: Connection, runs: Sequence[FamilyRun], sessions: DateArray
) -> tuple[FloatArray, IntArray]:
    """Return buy-and-hold of each study and timeframe, NaN where none is stored, and each run's column."""
    pairs = sorted({(each.study_name, each.timeframe) for each in runs})
    keys = {pair: place for place, pair in enumerate(pairs)}
    hold = np.full((len(sessions), len(keys)), np.nan)
    for study in {study for study, _ in keys}:
        for baseline in load_baselines(conn, study):
            place = keys.get((study, baseline.timeframe))
            if place is None or baseline.name != BUY_AND_HOLD or not baseline.windows:
                continue
            days = np.array([day for part in baseline.windows["sessions"] for day in part], "datetime64[D]")
            values = np.array([value for part in baseline.windows["returns"] for value in part], np.float64)
            known = np.isin(days, sessions)
            hold[np.searchsorted(sessions, days[known]), place] = values[known]
    return hold, np.array([keys[each.study_name, each.timeframe] for each in runs], np.int64)
