"""A run that is ended from outside: its failure is stored, its own writes come too late."""

import pytest
from sqlalchemy import Engine

from optimize.errors import StaleRunError
from optimize.results.leases import active, release
from optimize.results.records import Outcome
from optimize.results.runs import fail_run, finish_run, save_window, start_run
from optimize.results.states import RunState
from tests.optimize.results.factories import STUDY, complete_outcome, make_run, make_window, take


def test_a_run_that_is_failed_from_outside_can_write_no_more(engine: Engine) -> None:
    lease = take(engine)
    with engine.begin() as conn:
        start_run(conn, lease, make_run(lease))
        failed = fail_run(conn, lease, "timeout", "it ran for over 5 s")
    assert (failed.state, failed.failure_kind, failed.failure_message) == (
        "FAIL",
        "timeout",
        "it ran for over 5 s",
    )
    assert failed.seconds is not None
    with pytest.raises(StaleRunError), engine.begin() as conn:
        save_window(conn, lease, make_window(lease))
    with engine.begin() as conn:  # a later outcome does not replace a failure
        assert finish_run(conn, lease, complete_outcome(1.0)) == failed
        release(conn, lease)
        assert not active(conn, STUDY)


def test_what_a_run_recorded_itself_stands(engine: Engine) -> None:
    lease = take(engine)
    with engine.begin() as conn:
        start_run(conn, lease, make_run(lease))
        finish_run(conn, lease, complete_outcome(1.0))
        assert fail_run(conn, lease, "timeout", "too late").state == "COMPLETE"


def test_a_run_whose_trial_another_run_has_is_left_alone(engine: Engine) -> None:
    lease = take(engine)
    with engine.begin() as conn:
        start_run(conn, lease, make_run(lease))
    successor = take(engine)
    with engine.begin() as conn:
        start_run(conn, successor, make_run(successor))
    with pytest.raises(StaleRunError), engine.begin() as conn:
        fail_run(conn, lease, "oom", "too late")
    with engine.begin() as conn:
        assert (
            finish_run(conn, successor, Outcome(RunState.PRUNED, 1.0, reason="min_trades")).state == "PRUNED"
        )
