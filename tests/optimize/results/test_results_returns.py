"""Session returns in the database: exact, by window, for the run that ended a trial."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, text

from optimize.database import open_engine
from optimize.results.creation import create_tables
from optimize.results.records import Outcome, save_study
from optimize.results.returns import load_returns, save_returns, save_sessions
from optimize.results.runs import finish_run, save_window, start_run
from optimize.results.states import RunState
from tests.optimize.results.factories import (
    STUDY,
    complete_outcome,
    make_run,
    make_study,
    make_window,
    take,
)

DAYS = {0: np.arange("2020-07-01", "2020-07-04", dtype="datetime64[D]"),
        1: np.arange("2020-07-04", "2020-07-06", dtype="datetime64[D]")}  # fmt: skip


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = open_engine(database_url)
    create_tables(made)
    with made.begin() as conn:
        save_study(conn, make_study())
        save_sessions(conn, STUDY, DAYS)
    yield made
    made.dispose()


def ended(engine: Engine, number: int, rows: list[list[float]], state: RunState = RunState.COMPLETE) -> None:
    lease = take(engine, number)
    with engine.begin() as conn:
        start_run(conn, lease, make_run(lease, parameters={"x": number % 2}))
        for window, row in enumerate(rows):
            save_window(conn, lease, make_window(lease, window))
            save_returns(conn, lease.run_uuid, window, 0, row)
        pruned = Outcome(RunState.PRUNED, 9.0, reason="pruner")
        finish_run(conn, lease, complete_outcome(1.0) if state == RunState.COMPLETE else pruned)


def test_the_matrix_holds_every_ended_trial_to_the_last_bit(engine: Engine) -> None:
    exact = [[0.1 + 0.2, -1 / 3, 1e-17], [2.0**-1074, 0.0]]
    ended(engine, 0, exact)
    ended(engine, 3, exact[:1], state=RunState.PRUNED)
    with engine.connect() as conn:
        found = load_returns(conn, STUDY)
    assert found is not None
    assert found.returns.shape == (2, 1, 5)
    assert found.returns[0, 0].tolist() == exact[0] + exact[1]
    assert found.returns[1, 0, :3].tolist() == exact[0]
    assert np.isnan(found.returns[1, 0, 3:]).all()
    assert found.sessions.tolist() == np.concatenate([DAYS[0], DAYS[1]]).tolist()
    assert found.window.tolist() == [0, 0, 0, 1, 1]
    assert found.trades[0].tolist() == [[42.0, 42.0]]
    assert found.trial_number.tolist() == [0, 3]
    assert found.pruned == (False, True)
    assert found.parameter_set[0] != found.parameter_set[1]


def test_sessions_are_stored_once_and_kept(engine: Engine) -> None:
    with engine.begin() as conn:
        save_sessions(conn, STUDY, {0: DAYS[1]})
        ended_on = (
            conn.execute(text('SELECT sessions_json FROM wf_sessions ORDER BY "window"')).scalars().all()
        )
    assert ended_on[0] == '["2020-07-01", "2020-07-02", "2020-07-03"]'


def test_a_run_that_failed_has_no_row_and_an_empty_study_no_matrix(engine: Engine) -> None:
    with engine.connect() as conn:
        assert load_returns(conn, STUDY) is None
        assert load_returns(conn, "other") is None


def test_a_database_without_the_tables_has_no_matrix(tmp_path: Path) -> None:
    bare = open_engine(f"sqlite:///{tmp_path / 'bare.db'}")
    with bare.connect() as conn:
        assert load_returns(conn, STUDY) is None
    bare.dispose()
