"""Finalists of a small study: fresh seeds, resumed runs, failures, the ranking and the stress tests."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.bundles.export import export_best
from optimize.bundles.manifest import verify_bundle
from optimize.database import open_engine
from optimize.errors import BadInputError, StudyStoppedError
from optimize.evaluate.random_policies import random_quantile
from optimize.results.finalists import Finalist, finalist_runs, ranked_finalists, stress_of
from optimize.results.queries import best_models
from optimize.results.records import load_baselines, random_levels
from optimize.results.returns import returns_of_run
from optimize.results.runs import finished_runs, windows_of
from optimize.results.states import COUNTED, RunState
from optimize.study.context import StudyContext
from optimize.study.finalists import holdout as holdout_module
from optimize.study.finalists.holdout import check_holdout
from optimize.study.finalists.plan import FinalistPlan, choose_entrants
from optimize.study.finalists.ranking import rank_finalists
from optimize.study.finalists.retrain import ATTEMPTS, Place, _count_attempt
from optimize.study.finalists.run import FinalistSettings, run_finalists
from optimize.study.finalists.stress import scenarios_of
from optimize.study.finalists.work import entrant_markets, run_plan
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.walkforward import run as run_module
from optimize.walkforward.files import finalist_folder
from tests.optimize.study.studies import rows

SHARE = 0.01


def plan_of(study: StudySpec, place: Place, seeds: int = 2, top_n: int = 2) -> FinalistPlan:
    return FinalistPlan(study.name, study.seed, choose_entrants(place.engine, study, top_n), seeds, SHARE)


def place_of(study: StudySpec) -> Place:
    return Place(study.folder, open_engine(study.database.url))


def work(study: StudySpec, place: Place, plan: FinalistPlan, stopping: Callable[[], bool] = bool) -> None:
    run_plan(place, plan, entrant_markets(study), stopping)


def returns_of(place: Place, study: str) -> dict[tuple[str, int], Any]:
    with place.engine.connect() as conn:
        return {
            (run.parameter_set, run.seed): returns_of_run(conn, run.run_uuid).tolist()
            for run in finalist_runs(conn, study)
        }


def test_a_run_that_was_stopped_after_a_window_goes_on_to_the_same_results(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(study)
    work(study, place, plan := plan_of(study, place))
    whole = returns_of(place, study.name)
    assert len(whole) == 4
    with place.engine.begin() as conn:
        (first, *_) = finalist_runs(conn, study.name)
        assert first.state in COUNTED
        conn.exec_driver_sql("DELETE FROM wf_finalist_runs")
        conn.exec_driver_sql("DELETE FROM wf_finalist_stress")
    shutil.rmtree(study.folder / "finalists")
    asked = iter([False, True])
    work(study, place, plan, lambda: next(asked, True))  # asked before the run, and after its first window
    with place.engine.connect() as conn:
        (begun,) = finalist_runs(conn, study.name)
        assert begun.state == RunState.RUNNING
        assert [each.window for each in windows_of(conn, begun.run_uuid)] == [0]
    trained: list[int] = []
    real = run_module.run_window

    def count(spec: Any, windowed: Any, window: Any, *rest: Any) -> Any:
        trained.append(window.index)
        return real(spec, windowed, window, *rest)

    monkeypatch.setattr(run_module, "run_window", count)
    work(study, place, plan)
    assert returns_of(place, study.name) == whole
    assert sorted(trained) == [0, 0, 0, 1, 1, 1, 1]
    with place.engine.connect() as conn:
        assert begun.run_uuid in {run.run_uuid for run in finalist_runs(conn, study.name)}
    place.engine.dispose()


def test_every_trial_and_finalist_has_its_quantile_among_random_policies(study: StudySpec) -> None:
    place = place_of(study)
    work(study, place, plan_of(study, place, seeds=1, top_n=1))
    with place.engine.connect() as conn:
        levels = random_levels(load_baselines(conn, study.name), "1h")
        assert [len(scores) for _, scores in levels] == [200] * 5
        trials = finished_runs(conn, study.name)
        ended = [*trials, *(run.as_run for run in finalist_runs(conn, study.name))]
    assert len(ended) == 4
    for run in ended:
        turnover = (run.metrics or {})["turnover"]
        assert run.random_quantile == random_quantile(levels, turnover, run.score)
        assert run.random_quantile is not None
    in_view = {row.trial_number: row.random_quantile for row in best_models(place.engine, study.name)}
    assert in_view == {run.trial_number: run.random_quantile for run in trials}
    place.engine.dispose()


def test_fresh_seeds_are_those_of_no_trial_and_count_as_tries(study: StudySpec) -> None:
    place = place_of(study)
    plan = plan_of(study, place, seeds=1)
    work(study, place, plan)
    used = {tuple(json.loads(entropy)) for (entropy,) in rows(study, "SELECT entropy_json FROM wf_runs")}
    with place.engine.connect() as conn:
        runs = finalist_runs(conn, study.name)
    seeds = {np.random.SeedSequence([*run.entropy, 0, 0]).generate_state(1)[0] for run in runs}
    assert seeds.isdisjoint({np.random.SeedSequence([*each, 0, 0]).generate_state(1)[0] for each in used})
    assert all(tuple(run.entropy) not in used for run in runs)
    tries = "SELECT COUNT(*) FROM wf_tries WHERE kind = 'finalist'"
    assert rows(study, tries) == [(2,)]
    place.engine.dispose()


def test_the_verb_trains_ranks_and_goes_on_with_more_seeds(
    study: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    settings = FinalistSettings(
        study.name, top_n=5, seeds=2, output_dir=study.output_dir, database=study.database
    )
    lines: list[str] = []
    found = run_finalists(settings, lines.append)
    assert "6 of 6 runs to train" in "\n".join(lines)
    assert found.picture.is_file()
    assert [each.rank for each in found.finalists] == [1, 2, 3]
    bounds = [each.lower_bound for each in found.finalists if each.lower_bound is not None]
    assert bounds == sorted(bounds, reverse=True)
    engine = open_engine(study.database.url)
    searched = {row.trial_number: row.score for row in best_models(engine, study.name)}
    assert {each.trial_number: each.search_score for each in found.finalists} == searched
    for each in found.finalists:
        scores = sorted((run.score for run in found.runs if run.parameter_set == each.parameter_set), key=str)
        assert each.fresh_score == min(scores)  # type: ignore[type-var]  # the lower median of two
    tested = {(each.run_uuid, each.scenario) for each in found.stress}
    assert tested == {(run.run_uuid, name) for run in found.runs for name in scenarios_of(SHARE)}
    limited = dataclasses.replace(settings.worker, trial_timeout_s=60.0)
    again = run_finalists(dataclasses.replace(settings, seeds=3, top_n=1, worker=limited), lines.append)
    assert any(line.startswith("worker.trial_timeout_s and worker.max_memory_mb hold") for line in lines)
    assert "1 of 3 runs to train" in "\n".join(lines)
    seeds = {each.trial_number: each.seeds for each in again.finalists}
    best = max(searched, key=lambda number: searched[number])
    assert seeds == {number: 3 if number == best else 2 for number in searched}
    with engine.connect() as conn:
        assert ranked_finalists(conn, study.name) == again.finalists
    engine.dispose()


def openings(study: StudySpec) -> list[Any]:
    columns = "purpose, study_name, run_uuid, first, score"
    return rows(study, f"SELECT {columns} FROM wf_holdout_openings ORDER BY opening_id")


def test_the_finalists_are_evaluated_on_the_holdout_once(
    study: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    settings = FinalistSettings(
        study.name, top_n=2, seeds=2, output_dir=study.output_dir, database=study.database, holdout=True
    )
    lines: list[str] = []
    real = holdout_module._result
    monkeypatch.setattr(holdout_module, "_result", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # after the first opening was logged
        run_finalists(settings, lines.append)
    (logged,) = openings(study)
    assert (logged[0], logged[1], logged[4]) == ("finalists", study.name, None)
    monkeypatch.setattr(holdout_module, "_result", real)
    found = run_finalists(settings, lines.append)
    stored = {each.run_uuid: each.score for each in found.holdout}
    assert stored.keys() == {run.run_uuid for run in found.runs}
    scores = [stored[str(each.run_uuid)] for each in found.finalists]
    assert any(score is not None for score in scores)
    assert [(each[2], each[4]) for each in openings(study)] == [
        (each.run_uuid, score) for each, score in zip(found.finalists, scores, strict=True)
    ]
    assert rows(study, "SELECT score_holdout FROM finalists ORDER BY rank") == [(score,) for score in scores]
    assert rows(study, "SELECT COUNT(*) FROM wf_holdouts WHERE spent_at IS NULL") == [(0,)]
    assert run_finalists(settings, lines.append).holdout == found.holdout
    assert len(openings(study)) == 2
    (best, _) = found.finalists
    engine = open_engine(study.database.url)
    with engine.connect() as conn:
        agent = next(run for run in finalist_runs(conn, study.name) if run.run_uuid == best.run_uuid)
    engine.dispose()
    assert agent.score == best.fresh_score


def test_a_finalist_that_a_gate_blocks_opens_nothing_and_a_missing_holdout_is_refused(
    study: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    settings = FinalistSettings(
        study.name, top_n=1, seeds=1, output_dir=study.output_dir, database=study.database, holdout=True
    )
    monkeypatch.setattr("optimize.study.finalists.run.measure_on_holdout", measured_as_gated)
    run_finalists(settings, lambda line: None)
    assert openings(study) == []
    place = place_of(study)
    plan = plan_of(study, place, seeds=1, top_n=1)
    market_of = entrant_markets(study)
    windowed = market_of(plan.entrants[0])
    without = dataclasses.replace(windowed, plan=dataclasses.replace(windowed.plan, holdout=None))
    with pytest.raises(BadInputError, match="has no holdout"):
        check_holdout(plan, lambda entrant: without)
    longer = dataclasses.replace(plan.entrants[0].spec.score, min_periods=200)
    spec = dataclasses.replace(plan.entrants[0].spec, score=longer)
    entrant = dataclasses.replace(plan.entrants[0], spec=spec)
    with pytest.raises(BadInputError, match="fewer than the 200 of a score"):
        check_holdout(dataclasses.replace(plan, entrants=(entrant,)), lambda entrant: windowed)
    place.engine.dispose()


def test_a_gate_blocks_a_finalist_by_its_median_seed_alone(study: StudySpec) -> None:
    place = place_of(study)
    plan = plan_of(study, place, seeds=3, top_n=1)
    work(study, place, plan)
    (before,) = rank_finalists(place.engine, plan)
    blocked = "UPDATE wf_finalist_runs SET gate = CASE WHEN run_uuid {} ? THEN 'drawdown' END"
    found = []
    for relation in ("<>", "="):
        with place.engine.begin() as conn:
            conn.exec_driver_sql(blocked.format(relation), (before.run_uuid,))
        (after,) = rank_finalists(place.engine, plan)
        assert (after.run_uuid, after.fresh_score) == (before.run_uuid, before.fresh_score)
        found.append(after.gate)
    assert found == [None, "drawdown"]
    place.engine.dispose()


def test_finalists_of_a_study_of_a_cluster_train_here_and_workers_of_a_cluster_are_refused(
    study: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    settings = FinalistSettings(
        study.name, top_n=1, seeds=1, output_dir=study.output_dir, database=study.database
    )
    with pytest.raises(BadInputError, match=r"worker=ray is not allowed: finalists train on this machine"):
        run_finalists(dataclasses.replace(settings, worker=WorkerSpec(kind="ray")), lambda line: None)
    place = place_of(study)
    with place.engine.begin() as conn:
        as_ray = "json_set(spec_json, '$.worker.kind', 'ray', '$.worker.address', 'head:6379')"
        conn.exec_driver_sql(f"UPDATE wf_studies SET spec_json = {as_ray}")
    place.engine.dispose()
    assert len(run_finalists(settings, lambda line: None).runs) == 1


def measured_as_gated(
    place: Place, plan: FinalistPlan, finalists: list[Finalist], market_of: Any, echo: Any
) -> None:
    gated = [dataclasses.replace(each, gate="drawdown") for each in finalists]
    holdout_module.measure_on_holdout(place, plan, gated, market_of, echo)


@pytest.mark.usefixtures("replayed_here")
def test_an_export_takes_the_finalists_by_their_median_seed(
    study: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    settings = FinalistSettings(
        study.name, top_n=2, seeds=3, output_dir=study.output_dir, database=study.database
    )
    found = run_finalists(settings, lambda line: None)
    engine = open_engine(study.database.url)
    exported = export_best(engine, study.output_dir, study.name, 2)
    engine.dispose()
    assert [(each.trial, each.score) for each in exported] == [
        (each.trial_number, each.fresh_score) for each in found.finalists
    ]
    bundles = [verify_bundle(each.folder).run_uuid for each in exported]
    assert bundles == [each.run_uuid for each in found.finalists]


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the plan in this process in place of the workers."""

    class Here:
        def __init__(self, context: StudyContext, target: partial[None]) -> None:
            self.context, self.plan = context, target.args[0]

        def run(self, show: Callable[[], None]) -> None:
            place = Place(self.context.spec.folder, self.context.engine)
            run_plan(place, self.plan, entrant_markets(self.context.spec), lambda: False)
            show()

    monkeypatch.setattr("optimize.study.finalists.run.Supervisor", Here)


def test_costs_lower_the_stressed_scores(study: StudySpec) -> None:
    place = place_of(study)
    work(study, place, plan_of(study, place, seeds=1, top_n=1))
    with place.engine.connect() as conn:
        found = {each.scenario: each for each in stress_of(conn, study.name)}
        (run,) = finalist_runs(conn, study.name)
    metrics = run.metrics or {}
    assert found["costs_x2"].cost == pytest.approx(2 * (metrics["cost"] or 0.0), rel=0.2)
    assert found["costs_x3"].total_return < found["costs_x2"].total_return  # type: ignore[operator]
    assert found["worst_price"].total_return < (metrics["total_return"] or 0.0)  # type: ignore[operator]
    place.engine.dispose()


def test_a_run_that_fails_leaves_the_others_and_is_tried_again_by_the_next_launch(
    study: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(study)
    real = run_module.run_trial
    broken = [True]

    def run_trial(spec: Any, windowed: Any, entropy: list[int], **rest: Any) -> Any:
        if broken and entropy[-1] == 1:
            raise RuntimeError("this trainer raises")
        return real(spec, windowed, entropy, **rest)

    monkeypatch.setattr("optimize.study.finalists.retrain.run_trial", run_trial)
    work(study, place, plan_of(study, place, top_n=1))
    found = rows(study, "SELECT seed, state, failure_kind FROM wf_finalist_runs ORDER BY seed")
    assert found == [(0, "COMPLETE", None), (1, "FAIL", "bug")]
    broken.clear()
    work(study, place, plan_of(study, place, top_n=1))
    assert rows(study, "SELECT COUNT(*) FROM wf_finalist_runs WHERE state = 'COMPLETE'") == [(2,)]
    place.engine.dispose()


def test_a_run_whose_worker_died_twice_within_a_window_fails(study: StudySpec) -> None:
    place = place_of(study)
    plan = plan_of(study, place, seeds=1, top_n=1)
    folder = finalist_folder(study.folder, plan.entrants[0].parameter_set, 0)
    folder.mkdir(parents=True)
    for _ in range(2):
        _count_attempt(folder, 0)
    work(study, place, plan)
    told = rows(study, "SELECT state, failure_kind, failure_message FROM wf_finalist_runs")
    assert told[0][:2] == ("FAIL", "stale")
    assert "died 2 times within window 0" in told[0][2]
    assert not (folder / ATTEMPTS).exists()
    place.engine.dispose()


def test_other_data_and_a_study_without_scores_are_refused(
    study: StudySpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_this_process(monkeypatch)
    settings = FinalistSettings(study.name, top_n=1, seeds=1, database=study.database)
    here = dataclasses.replace(settings, output_dir=str(tmp_path / "elsewhere"))
    with pytest.raises(BadInputError, match=r"output_dir=.*elsewhere: there is no folder"):
        run_finalists(here, lambda line: None)
    here = dataclasses.replace(settings, output_dir=study.output_dir, data_path="bars.csv")
    with pytest.raises(BadInputError, match=r"data\.path='bars.csv' is not allowed"):
        run_finalists(here, lambda line: None)
    engine = open_engine(study.database.url)
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE wf_runs SET data_fingerprint = 'other'")
    engine.dispose()
    here = dataclasses.replace(settings, output_dir=study.output_dir)
    with pytest.raises(StudyStoppedError, match="failed with BadInputError: the data of trial"):
        run_finalists(here, lambda line: None)
