from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text

from optimize.results.finalists import (
    Finalist,
    FinalistHoldout,
    FinalistRun,
    StressRecord,
    ended_finalist_runs,
    finalist_holdouts,
    finalist_runs,
    finish_finalist,
    ranked_finalists,
    save_finalist_holdout,
    save_finalist_window,
    save_finalists,
    save_stress,
    start_finalist,
    stress_of,
)
from optimize.results.orphans import count_orphans
from optimize.results.records import Outcome, forget_study
from optimize.results.states import RunState
from tests.optimize.results.factories import STUDY, complete_outcome, make_window, take

EARLIER, LATER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def make_finalist_run(seed: int = 0, **changes: Any) -> FinalistRun:
    values: dict[str, Any] = {
        "run_uuid": f"uuid{seed}",
        "study_name": STUDY,
        "parameter_set": "aa",
        "seed": seed,
        "trial_number": 3,
        "parameters": {"agent.learning_rate": 0.1 + 0.2},
        "spec": {"agent": {"net": "small"}},
        "entropy": [7, 1, seed],
        "versions": {"optuna": "5.0.0"},
        "data_fingerprint": "cc",
    }
    return FinalistRun(**{**values, **changes})


def make_finalist(rank: int = 1, **changes: Any) -> Finalist:
    values: dict[str, Any] = {
        "study_name": STUDY,
        "parameter_set": f"set{rank}",
        "rank": rank,
        "trial_number": 3,
        "parameters": {"agent.learning_rate": 0.1},
        "search_score": 1.5,
        "fresh_score": 0.5,
        "lower_bound": -0.2,
        "upper_bound": 1.1,
        "score_mean": 0.5,
        "score_deviation": 0.1,
        "score_min": 0.4,
        "score_max": 0.6,
        "random_quantile": 0.7,
        "seeds": 3,
        "infeasible": 0,
        "run_uuid": "uuid0",
        "measured_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Finalist(**{**values, **changes})


def test_a_run_that_began_goes_on_under_its_uuid_and_a_failed_one_is_tried_again(engine: Engine) -> None:
    with engine.begin() as conn:
        first = start_finalist(conn, make_finalist_run(), EARLIER)
        again = start_finalist(conn, make_finalist_run(run_uuid="other"), EARLIER)
        assert first is not None
        assert first.run_uuid == "uuid0"
        assert again == first
        failed = Outcome(RunState.FAIL, 1.0, failure_kind="bug", failure_message="it broke")
        assert finish_finalist(conn, "uuid0", failed).failure_message == "it broke"
        assert ended_finalist_runs(conn, STUDY) == []
        assert start_finalist(conn, make_finalist_run(), EARLIER) is None  # it failed in this launch
        retried = start_finalist(conn, make_finalist_run(run_uuid="other"), LATER)
        assert retried is not None
        assert (retried.run_uuid, retried.state, retried.failure_kind) == ("uuid0", RunState.RUNNING, None)
        ended = finish_finalist(conn, "uuid0", complete_outcome(1.25, gate="drawdown"))
        assert (ended.score, ended.gate, ended.metrics) == (
            1.25,
            "drawdown",
            dict(complete_outcome(1).metrics),
        )
        assert finalist_runs(conn, STUDY) == [ended]
        assert (ended.as_run.run_uuid, ended.as_run.score, ended.as_run.trial_number) == ("uuid0", 1.25, 3)


def test_the_ranking_replaces_an_earlier_one(engine: Engine) -> None:
    with engine.begin() as conn:
        save_finalists(conn, STUDY, [make_finalist(1), make_finalist(2)])
        later = [replace(make_finalist(2), rank=1)]
        save_finalists(conn, STUDY, later)
        assert ranked_finalists(conn, STUDY) == later
        assert ranked_finalists(conn, "other") == []


@pytest.mark.parametrize("deleted", [True, False])
def test_windows_of_finalists_are_orphans_once_their_run_is_gone(engine: Engine, deleted: bool) -> None:
    lease = take(engine)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE studies (study_id INTEGER, study_name TEXT)"))
        conn.execute(text("CREATE TABLE trials (trial_id INTEGER, study_id INTEGER, number INTEGER)"))
        conn.execute(text("INSERT INTO studies VALUES (1, :name)"), {"name": STUDY})
        conn.execute(text("INSERT INTO trials VALUES (1, 1, 0)"))
        start_finalist(conn, make_finalist_run(), EARLIER)
        save_finalist_window(conn, replace(make_window(lease), run_uuid="uuid0"))
        save_stress(conn, StressRecord("uuid0", "costs_x2", 0.1))
        on_holdout = FinalistHoldout("uuid0", date(2025, 1, 1), date(2025, 2, 1), EARLIER, 0.1, 0.2)
        save_finalist_holdout(conn, on_holdout)
        assert finalist_holdouts(conn, STUDY) == [on_holdout]
        save_finalists(conn, STUDY, [make_finalist()])
        assert [each.scenario for each in stress_of(conn, STUDY)] == ["costs_x2"]
        assert count_orphans(conn) == {}
        if deleted:
            forget_study(conn, STUDY)
            for table in (
                "wf_finalist_runs",
                "wf_finalists",
                "wf_finalist_stress",
                "wf_finalist_holdouts",
                "wf_windows",
            ):
                assert conn.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar() == 0, table
        else:
            conn.execute(text("DELETE FROM wf_finalist_runs"))
            assert count_orphans(conn) == {
                "wf_finalist_holdouts": 1,
                "wf_finalist_stress": 1,
                "wf_windows": 1,
            }
        conn.rollback()
