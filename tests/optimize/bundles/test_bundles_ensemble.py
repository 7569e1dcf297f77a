"""An ensemble: one bundle whose target is the mean of its members' targets, measured and replayed as such."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from sqlalchemy import select

from optimize.agents.artifacts import WEIGHTS
from optimize.agents.ensemble import Ensemble, load_member_or_ensemble
from optimize.bundles import export as module
from optimize.bundles import export_ensemble as module_of_ensemble
from optimize.bundles.export import Exported, export_best
from optimize.bundles.export_ensemble import export_ensemble
from optimize.bundles.gated_rows import gated_rows
from optimize.bundles.gates import NO_GATES, GateSpec
from optimize.bundles.load import load_bundle
from optimize.bundles.manifest import verify_bundle
from optimize.bundles.replay import replay_bundle
from optimize.errors import BadInputError, WalkforgeError
from optimize.evaluate.random_policies import random_quantile
from optimize.results.finalists import ended_finalist_runs, ranked_finalists
from optimize.results.outcome import outcome_of
from optimize.results.queries import best_models
from optimize.results.records import Outcome, load_baselines, random_levels
from optimize.results.runs import run_of_trial
from optimize.results.states import RunState
from optimize.results.tables import TRIED_RUNS
from optimize.study.context import StudyContext
from optimize.study.finalists.plan import FinalistPlan, choose_entrants
from optimize.study.finalists.ranking import rank_finalists
from optimize.study.finalists.retrain import Place
from optimize.study.finalists.work import entrant_markets, run_plan
from optimize.study.launch.markets import store_baselines
from optimize.walkforward.files import run_folder, window_folder
from tests.optimize.bundles.in_process import IN_A_NEW_PROCESS
from tests.optimize.study.bundles import Exports, flip
from tests.optimize.study.databases import close_studies
from tests.optimize.study.studies import ground_of, opened, play, small_spec


@pytest.fixture(scope="module")
def joined(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return the ensemble of the two best trials, replayed in a new process."""
    folder = tmp_path_factory.mktemp("ensemble") / "studies"
    shutil.copytree(exports.output_dir, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "replay_in_new_process", IN_A_NEW_PROCESS)
        (one,) = export_ensemble(exports.context.engine, folder, "tiny", 2)
    return one


def test_it_replays_bit_for_bit_to_its_own_score(joined: Exported) -> None:
    replay = replay_bundle(joined.folder)
    assert replay.bitwise
    assert replay.replayed == joined.score
    assert joined.folder.name == "ensemble_02"
    card = (joined.folder / "CARD.md").read_text(encoding="utf-8")
    assert "ensemble" in card


def test_its_target_is_the_mean_of_its_members_targets(exports: Exports, joined: Exported) -> None:
    rng = np.random.default_rng(0)
    engine, spec = exports.context.engine, exports.context.spec
    for window in (0, 1):
        for repeat in (0, 1):
            whole = load_member_or_ensemble(window_folder(joined.folder, window, repeat))
            assert isinstance(whole, Ensemble)
            seen = rng.normal(size=(50, whole.policy.observation_space.shape[0])).astype(np.float32)  # type: ignore[index]
            targets = []
            for row in best_models(engine, "tiny", 2):
                with engine.connect() as conn:
                    run = run_of_trial(conn, "tiny", row.trial_number)
                assert run is not None
                source = run_folder(spec.folder, row.trial_number, run.run_uuid)
                member = load_member_or_ensemble(window_folder(source, window, repeat))
                targets.append(member.act(seen, None, np.ones(50, bool))[0].astype(np.float64))
            assert not np.array_equal(targets[0], targets[1])
            got = whole.act(seen, None, np.ones(50, bool))[0]
            np.testing.assert_array_equal(got, ((targets[0] + targets[1]) / 2).astype(np.float32))


def test_it_acts_and_refuses_a_flipped_byte(exports: Exports, joined: Exported, tmp_path: Path) -> None:
    bars = pd.read_parquet(exports.prices).set_index("timestamp")
    (order,) = load_bundle(joined.folder).act(bars).orders
    assert -1.0 <= order.action <= 1.0
    copy = tmp_path / "copy"
    shutil.copytree(joined.folder, copy)
    flip(copy / WEIGHTS)
    with pytest.raises(BadInputError, match="was changed"):
        load_bundle(copy)


def test_a_wrong_output_dir_is_refused_and_not_made(exports: Exports, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no folder"):
        export_ensemble(exports.context.engine, tmp_path / "nowhere", "tiny", 2)
    assert not (tmp_path / "nowhere").exists()


def test_too_many_members_are_refused(exports: Exports, tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    shutil.copytree(exports.output_dir, folder)
    with pytest.raises(WalkforgeError, match="3 trials of tiny can be joined"):
        export_ensemble(exports.context.engine, folder, "tiny", 4)
    with pytest.raises(BadInputError, match="at least 2"):
        export_ensemble(exports.context.engine, folder, "tiny", 1)


def test_a_lock_that_another_export_keeps_is_one_line(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies"
    shutil.copytree(exports.output_dir, folder)
    monkeypatch.setattr(module, "EXPORT_LOCK_TIMEOUT_S", 0.0)
    engine, place = exports.context.engine, folder / "tiny" / "exports" / ".lock"
    with FileLock(place), pytest.raises(WalkforgeError, match="another export has held"):
        export_ensemble(engine, folder, "tiny", 2)
    with FileLock(place), pytest.raises(WalkforgeError, match="another export has held"):
        export_best(engine, folder, "tiny", 1)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyContext]:
    """Yield a study of which two finalists were retrained on two fresh seeds."""
    context = opened(small_spec(tmp_path_factory.mktemp("ranked"), n_trials=3))
    store_baselines(context, {("1h", 2, "{}"): ground_of(context, context.spec)})
    play(context)
    spec, place = context.spec, Place(context.spec.folder, context.engine)
    plan = FinalistPlan(spec.name, spec.seed, choose_entrants(context.engine, spec, 2), 2, 0.01, spec.gate)
    run_plan(place, plan, entrant_markets(spec), lambda: False)
    rank_finalists(context.engine, plan)
    yield context
    close_studies()


@pytest.mark.parametrize("of", ["finalists", "seeds"])
def test_an_ensemble_of_finalists_or_seeds_is_measured_as_itself(ranked: StudyContext, of: str) -> None:
    engine, folder = ranked.engine, ranked.spec.output_dir
    (one,) = export_ensemble(engine, folder, "small", 2, of=of)
    with engine.connect() as conn:
        runs, best = ended_finalist_runs(conn, "small"), ranked_finalists(conn, "small")[:2]
        tried = conn.execute(select(TRIED_RUNS.c.run_uuid).where(TRIED_RUNS.c.kind == "ensemble")).scalars()
        manifest = verify_bundle(one.folder)
        assert manifest.run_uuid in set(tried)
        levels = random_levels(load_baselines(conn, "small"), "1h")
    wanted = {each.run_uuid for each in best}
    if of == "seeds":
        wanted = {run.run_uuid for run in runs if run.parameter_set == best[0].parameter_set}
    members = [run for run in runs if run.run_uuid in wanted]
    assert len(members) == 2
    metrics = json.loads((one.folder / "metrics.json").read_text(encoding="utf-8"))
    assert one.folder.name == ("ensemble_02_seeds" if of == "seeds" else "ensemble_02")
    assert one.title == f"ensemble of {', '.join(metrics['parameters']['ensemble'])}"
    assert (manifest.trial, manifest.title) == (None, one.title)
    assert manifest.members == metrics["parameters"]["ensemble"]
    assert f"# small, {one.title}" in (one.folder / "CARD.md").read_text(encoding="utf-8")
    assert one.score not in {run.score for run in members}
    assert metrics["in_all"]["turnover"] not in {(run.metrics or {})["turnover"] for run in members}
    assert metrics["random_quantile"] == random_quantile(levels, metrics["in_all"]["turnover"], one.score)
    assert metrics["standard_error"] not in {run.standard_error for run in members}
    replay = replay_bundle(one.folder)
    assert (replay.bitwise, replay.title) == (True, one.title)
    (again,) = export_ensemble(engine, folder, "small", 2, of=of)
    assert again.outcome == "unchanged"


def test_the_weakest_member_stands_for_the_gates_on_luck(ranked: StudyContext) -> None:
    engine, folder = ranked.engine, ranked.spec.output_dir
    shutil.rmtree(Path(folder) / "small" / "exports", ignore_errors=True)
    gates = GateSpec(min_selection_score=-99.0, max_luck_p=1.0, min_trades=0)
    (one,) = export_ensemble(engine, folder, "small", 2, gates=gates)
    stored = json.loads((one.folder / "metrics.json").read_text(encoding="utf-8"))["gates"]
    largest = max(row.p_flat for row in one.rows if row.p_flat is not None)
    assert stored["max_luck_p"] == {"limit": 1.0, "figure": largest}
    assert stored["min_trades"]["limit"] == 0
    assert stored["min_selection_score"]["figure"] > -99.0
    card = (one.folder / "CARD.md").read_text(encoding="utf-8")
    assert "probability that chance alone shows the score of the weakest member" in card
    assert replay_bundle(one.folder).bitwise


def test_its_own_gates_and_flags_block_an_ensemble(
    ranked: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, folder = ranked.engine, ranked.spec.output_dir
    lowest = min(each.row.score for each in gated_rows(engine, "small", 2, NO_GATES, print))
    gates = dataclasses.replace(NO_GATES, min_score=lowest - 1.0)
    exports = Path(folder) / "small" / "exports"

    def marked(**marks: Any) -> None:
        def changed(*arguments: Any) -> Outcome:
            return dataclasses.replace(outcome_of(*arguments), **marks)

        monkeypatch.setattr(module_of_ensemble, "outcome_of", changed)

    for marks, words in (
        ({"gate": "max_drawdown"}, "is blocked by gate.max_drawdown of its study"),
        ({"flags": "implausible_sharpe"}, "is flagged as implausible"),
        (
            {"state": RunState.PRUNED, "score": None, "reason": "too few trades"},
            r"no score \(too few trades\)",
        ),
        ({"score": -99.0}, r"ensemble of trial \d, trial \d is refused by min_score"),
    ):
        marked(**marks)
        with pytest.raises(WalkforgeError, match=words):
            export_ensemble(engine, folder, "small", 2, gates=gates if "score" in marks else NO_GATES)
    assert not [path for path in exports.iterdir() if "ensemble_run" in path.name]


def test_seeds_need_a_finalist_with_enough_of_them(exports: Exports, ranked: StudyContext) -> None:
    with pytest.raises(BadInputError, match="ensemble_of=seeds: study tiny has no finalists"):
        export_ensemble(exports.context.engine, exports.output_dir, "tiny", 2, of="seeds")
    with pytest.raises(WalkforgeError, match=r"has 2 ended seeds: give a smaller one, or run .* seeds=3"):
        export_ensemble(ranked.engine, ranked.spec.output_dir, "small", 3, of="seeds")
    with pytest.raises(BadInputError, match="ensemble_of='trials' is not allowed"):
        export_ensemble(ranked.engine, ranked.spec.output_dir, "small", 2, of="trials")
