"""Parameter sets: one row each, scored by the median run; which sets are the same; which weights stay."""

from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import Engine, text, update

from optimize.errors import WalkforgeError
from optimize.report.gates import gate_lines, refuse_flagged
from optimize.report.unscored import why_unscored
from optimize.results.queries import best_models, best_score
from optimize.results.records import Outcome
from optimize.results.runs import (
    count_gated,
    fill_parameter_sets,
    finish_run,
    load_run,
    parameter_set,
    rank_sets,
    save_window,
    start_run,
    surplus_runs,
)
from optimize.results.states import RunState
from optimize.results.tables import RUNS
from optimize.results.views import create_views
from optimize.search.storage import load_or_create_study, open_storage
from tests.optimize.results.factories import STUDY, complete_outcome, make_run, make_window, take

RUIN = Outcome(RunState.PRUNED, 1.0, reason="ruin in window 1")
FAILED = Outcome(RunState.FAIL, 1.0, failure_kind="oom")
DISTRIBUTIONS = {
    "gamma": FloatDistribution(-1.0, 1.0),
    "net": CategoricalDistribution(["small", None, True, 1.5]),
    "steps": IntDistribution(-5, 100),
}


@pytest.fixture
def study(engine: Engine, url: str) -> Iterator[optuna.Study]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url)
    study = load_or_create_study(storage, STUDY)
    create_views(engine)
    yield study
    storage.engine.dispose()


def add(engine: Engine, study: optuna.Study, parameters: dict[str, Any], outcome: Outcome) -> str:
    """Add a trial that ended, with its run; return the uuid of the run."""
    number = len(study.get_trials(deepcopy=False))
    state = TrialState[outcome.state]
    used = {name: DISTRIBUTIONS[name] for name in parameters}
    study.add_trial(create_trial(params=parameters, distributions=used, state=state, value=outcome.score))
    lease = take(engine, number)
    with engine.begin() as conn:
        start_run(conn, lease, make_run(lease, parameters=parameters))
        save_window(conn, lease, make_window(lease))
        finish_run(conn, lease, outcome)
    return lease.run_uuid


def add_scores(engine: Engine, study: optuna.Study, gamma: float, *scores: float | None) -> list[str]:
    """Add a run for each score, and a ruined one for each None."""
    outcomes = [RUIN if score is None else complete_outcome(score) for score in scores]
    return [add(engine, study, {"gamma": gamma}, outcome) for outcome in outcomes]


def board(engine: Engine) -> list[tuple[Any, ...]]:
    names = ("score", "runs", "pruned_runs", "score_min", "score_max", "seeds")
    rows = best_models(engine, STUDY)
    return [(row.parameters.get("gamma"), *(getattr(row, name) for name in names)) for row in rows]


def test_the_luckiest_seed_does_not_rank(engine: Engine, study: optuna.Study) -> None:
    add_scores(engine, study, 0.9, 4.14, -3.0, -1.2, -0.9, -2.5, -1.0, -1.1, -4.0)
    uuids = add_scores(engine, study, 0.99, 1.0, 0.9, 0.96, 1.1)
    assert board(engine) == [
        (0.99, 0.96, 4, 0, 0.9, 1.1, "4 seeds"),
        (0.9, -1.2, 8, 0, -4.0, 4.14, "8 seeds"),
    ]
    first, second = best_models(engine, STUDY)
    assert (first.trial_number, first.run_uuid, first.windows) == (10, uuids[2], 1)
    assert second.trial_number == 2
    with engine.connect() as conn:
        assert best_score(conn, STUDY) == 0.96


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ([3.0], (3.0, 1, 0, 3.0, 3.0, "single seed")),
        ([3.0, 1.0], (1.0, 2, 0, 1.0, 3.0, "2 seeds")),
        ([3.0, None, 1.0], (1.0, 3, 1, 1.0, 3.0, "3 seeds")),
        ([3.0, None], None),
        ([9.0, *[None] * 7], None),
        ([None], None),
    ],
)
def test_a_run_that_was_pruned_counts_below_every_score(
    engine: Engine, study: optuna.Study, scores: list[float | None], shown: tuple[Any, ...] | None
) -> None:
    add_scores(engine, study, 0.5, *scores)
    add(engine, study, {"gamma": 0.5}, FAILED)  # a failure is no measurement of the parameters
    assert board(engine) == ([] if shown is None else [(0.5, *shown)])


def test_repeats_are_seeds(engine: Engine, study: optuna.Study) -> None:
    study.add_trial(create_trial(value=1.0))
    lease = take(engine)
    with engine.begin() as conn:
        start_run(conn, lease, make_run(lease, parameters={}))
        for repeat in range(3):
            save_window(conn, lease, make_window(lease, repeat=repeat))
        finish_run(conn, lease, complete_outcome(1.0))
    study.add_trial(
        create_trial(value=0.5, params={"steps": 1}, distributions={"steps": DISTRIBUTIONS["steps"]})
    )
    assert [(row.runs, row.seeds) for row in best_models(engine, STUDY)] == [
        (1, "3 seeds"),
        (1, "single seed"),
    ]


def test_sets_are_told_apart_by_every_bit_and_by_nothing_else(engine: Engine, study: optuna.Study) -> None:
    same: list[list[dict[str, Any]]] = [
        [{"gamma": 0.3}],
        [{"gamma": 0.1 + 0.2}],  # the next number after 0.3, with the same 15 digits
        [{"gamma": 0.0}, {"gamma": -0.0}],
        [{"gamma": 0.5, "steps": 3}, {"steps": 3, "gamma": 0.5}],
        [{"gamma": 1}, {"gamma": 1.0}],
        [{"net": True}],
        [{"net": None}],
        [{"net": 1.5, "gamma": 1.0}],
        [{}, {}],
    ]
    for sets in same:
        for parameters in sets:
            add(engine, study, parameters, complete_outcome(1.0))
    assert sorted(row.runs for row in best_models(engine, STUDY, 20)) == sorted(len(each) for each in same)
    with engine.connect() as conn:
        assert len(rank_sets(conn, STUDY, 20)) == len(same)


def test_the_runs_alone_rank_as_the_view_does(engine: Engine, study: optuna.Study) -> None:
    for gamma, scores in [(0.1, (1.0, 5.0, 3.0)), (0.2, (4.0,)), (0.3, (9.0, None)), (0.4, (2.0, 2.0))]:
        add_scores(engine, study, gamma, *scores)
    shown = [parameter_set(row.parameters) for row in best_models(engine, STUDY)]
    with engine.connect() as conn:
        assert rank_sets(conn, STUDY, 10) == shown
        assert rank_sets(conn, STUDY, 2) == shown[:2]
        highest = rank_sets(conn, STUDY, 10, by="highest")
    assert highest == [parameter_set({"gamma": gamma}) for gamma in (0.3, 0.1, 0.2, 0.4)]


def test_weights_stay_of_all_runs_of_the_best_sets(engine: Engine, study: optuna.Study) -> None:
    def surplus(run_uuid: str, kept: int) -> list[str]:
        with engine.connect() as conn:
            run = load_run(conn, run_uuid)
            assert run is not None
            return [uuid for _, uuid in surplus_runs(conn, run, kept)]

    first = add_scores(engine, study, 0.1, 1.0, 3.0, 2.0)
    assert surplus(first[-1], 1) == []  # each of them may be the median once the others have ended
    (better,) = add_scores(engine, study, 0.2, 9.0)
    assert surplus(better, 1) == first
    assert surplus(better, 2) == []
    (worse,) = add_scores(engine, study, 0.3, 0.5)
    assert surplus(worse, 2) == [worse]


def test_runs_of_an_older_version_are_identified_when_the_study_is_opened(
    engine: Engine, study: optuna.Study
) -> None:
    add_scores(engine, study, 0.1, 1.0)
    with engine.begin() as conn:
        conn.execute(update(RUNS).values(parameter_set=None))
        assert rank_sets(conn, STUDY, 10) == []
        fill_parameter_sets(conn, STUDY)
        assert rank_sets(conn, STUDY, 10) == [parameter_set({"gamma": 0.1})]


@pytest.mark.parametrize("sql", ["DROP VIEW best_models", "CREATE VIEW best_models AS SELECT 1 AS old"])
def test_a_view_that_is_missing_or_old_is_not_needed_to_read(
    engine: Engine, study: optuna.Study, sql: str
) -> None:
    add_scores(engine, study, 0.1, 1.0)
    with engine.begin() as conn:
        conn.execute(text("DROP VIEW best_models"))
        if sql.startswith("CREATE"):
            conn.execute(text(sql))
    assert [row.score for row in best_models(engine, STUDY)] == [1.0]


def test_a_run_that_a_gate_blocks_counts_below_every_score(engine: Engine, study: optuna.Study) -> None:
    blocked = complete_outcome(9.0, gate="max_drawdown")
    add_scores(engine, study, 0.5, 1.0, 1.2)
    add(engine, study, {"gamma": 0.5}, blocked)
    add(engine, study, {"gamma": 0.7}, blocked)
    rows = best_models(engine, STUDY)
    assert [(row.parameters["gamma"], row.score, row.runs, row.pruned_runs) for row in rows] == [
        (0.5, 1.0, 3, 0)
    ]
    with engine.connect() as conn:
        ranked = rank_sets(conn, STUDY, 10)
        gated = conn.execute(text("SELECT trial_number, gate, score FROM gated_trials ORDER BY trial_number"))
        assert [tuple(row) for row in gated] == [(2, "max_drawdown", 9.0), (3, "max_drawdown", 9.0)]
        assert count_gated(conn, STUDY) == {"max_drawdown": 2}
    assert ranked == [parameter_set({"gamma": 0.5})]
    assert study.best_value == 9.0  # a gate changes neither state nor value


def test_a_flagged_trial_is_ranked_and_export_asks_before_it_takes_it(
    engine: Engine, study: optuna.Study
) -> None:
    add(engine, study, {"gamma": 0.5}, complete_outcome(9.0, flags="implausible_sharpe, interest"))
    add(engine, study, {"gamma": 0.7}, complete_outcome(8.0, gate="min_equity"))
    rows = best_models(engine, STUDY)
    assert [row.flags for row in rows] == ["implausible_sharpe, interest"]
    with pytest.raises(WalkforgeError, match=r"trial 0 \(rank 1\) is flagged as implausible.*accept="):
        refuse_flagged(rows, None)
    refuse_flagged(rows, "implausible")
    with engine.connect() as conn:
        lines = gate_lines(conn, STUDY, rows)
    assert lines[0] == (
        "blocked by gates and not ranked: 1 trial (1 by gate.min_equity); the view gated_trials of the "
        "database lists them"
    )
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "rank 1 (trial 0) is flagged implausible_sharpe",
        "rank 1 (trial 0) is flagged interest",
    ]


def test_a_study_that_gates_block_as_a_whole_says_so(engine: Engine, study: optuna.Study) -> None:
    add(engine, study, {"gamma": 0.5}, complete_outcome(9.0, gate="max_drawdown"))
    assert "gates block every one" in why_unscored(engine, STUDY)
    assert "1 COMPLETE (gate.max_drawdown)" in why_unscored(engine, STUDY)
