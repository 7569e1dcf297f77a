"""A refit: the deployable policy is trained up to the holdout, and the windows stay the proof."""

import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from optimize.agents.artifacts import WEIGHTS
from optimize.bundles.evaluate import HOLDOUT, REFIT, plan_evaluation, run_evaluation
from optimize.bundles.export import export_best
from optimize.bundles.load import load_bundle
from optimize.bundles.manifest import read_manifest, verify_bundle, write_manifest
from optimize.bundles.replay import replay_bundle
from optimize.bundles.spans import SPANS_FILE, read_spans
from optimize.bundles.write import write_bundle
from optimize.errors import BadInputError
from optimize.hashing import hash_file
from optimize.results.runs import run_of_trial
from optimize.walkforward.files import run_folder, window_folder
from tests.optimize.study.bundles import Exports, flip

UNTIL = "2022-02-11"


def written(exports: Exports, folder: Path) -> Path:
    """Write the best trial as a bundle with a refit."""
    best = exports.exported[0]
    with exports.context.engine.connect() as conn:
        run = run_of_trial(conn, "tiny", best.rows[0].trial_number)
    assert run is not None
    source = run_folder(exports.context.spec.folder, run.trial_number, run.run_uuid)
    write_bundle(folder, run, best.score, source, {}, refitted=True)
    return folder


@pytest.fixture(scope="module")
def refitted(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(exports, tmp_path_factory.mktemp("refit") / "bundle")


def test_a_refit_is_labelled_and_its_windows_replay_to_the_score(exports: Exports, refitted: Path) -> None:
    replay = replay_bundle(refitted)
    assert replay.bitwise
    assert replay.replayed == exports.exported[0].score
    assert replay.unproven == (
        f"the deployable policy is a refit up to {UNTIL}, which no window has measured",
    )
    manifest = verify_bundle(refitted)
    assert (manifest.trained_until, manifest.eligible_from) == (UNTIL, "2022-02-18")
    assert manifest.deployable.startswith(f"refit: trained on every session before {UNTIL}")
    assert f"before {UNTIL}" in (refitted / "CARD.md").read_text(encoding="utf-8")
    last = len(read_spans(refitted).train_ends) - 1
    assert hash_file(refitted / WEIGHTS) != hash_file(window_folder(refitted, last, 0) / WEIGHTS)


def test_the_same_refit_comes_out_again(exports: Exports, refitted: Path, tmp_path: Path) -> None:
    again = written(exports, tmp_path / "again")
    assert hash_file(again / WEIGHTS) == hash_file(refitted / WEIGHTS)


def test_act_and_evaluate_use_the_refit(exports: Exports, refitted: Path) -> None:
    bundle = load_bundle(refitted)
    bars = pd.read_parquet(exports.prices).set_index("timestamp")
    decision = bundle.act(bars)
    assert "the model's training ended 6 days before the newest bar" in decision.notes
    plan = plan_evaluation(bundle, bundle.spec, HOLDOUT)
    assert plan.models == (REFIT,)
    _, refit, _ = run_evaluation(bundle, plan, HOLDOUT)
    plain = load_bundle(exports.exported[0].folder)
    _, former, _ = run_evaluation(plain, plan_evaluation(plain, plain.spec, HOLDOUT), HOLDOUT)
    assert refit.measured[0][0].returns.tolist() != former.measured[0][0].returns.tolist()
    with pytest.raises(BadInputError, match=f"begins on {UNTIL} or later"):
        plan_evaluation(bundle, bundle.spec, "2022-02-10..2022-02-18")


def test_a_byte_flip_and_a_moved_date_of_the_refit_are_refused(refitted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(refitted, copy)
    flip(copy / WEIGHTS)
    with pytest.raises(BadInputError, match="was changed"):
        load_bundle(copy)
    shutil.copyfile(refitted / WEIGHTS, copy / WEIGHTS)
    spans = json.loads((copy / SPANS_FILE).read_text(encoding="utf-8"))
    for forged, words in (("2022-02-05", "does not describe"), (None, "is unproven")):
        (copy / SPANS_FILE).write_text(json.dumps(spans | {"refit_until": forged}), encoding="utf-8")
        write_manifest(copy, dataclasses.replace(read_manifest(refitted), files={}))
        with pytest.raises(BadInputError, match=words):
            replay_bundle(copy)


def test_an_export_with_and_without_a_refit_replace_each_other(exports: Exports, tmp_path: Path) -> None:
    engine, folder = exports.context.engine, tmp_path / "studies"
    shutil.copytree(exports.output_dir, folder)
    before = (folder / "tiny" / "exports" / exports.exported[0].folder.name / WEIGHTS).read_bytes()
    (first,) = export_best(engine, str(folder), "tiny", 1, refitted=True)
    assert "written again" in first.outcome
    assert read_spans(first.folder).refit_until is not None
    assert export_best(engine, str(folder), "tiny", 1, refitted=True)[0].outcome == "unchanged"
    (second,) = export_best(engine, str(folder), "tiny", 1)
    assert (second.folder / WEIGHTS).read_bytes() == before
