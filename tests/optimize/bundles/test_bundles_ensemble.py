"""An ensemble: one bundle whose target is the mean of its members' targets, measured and replayed as such."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from optimize.agents.artifacts import WEIGHTS
from optimize.agents.ensemble import Ensemble, load_member_or_ensemble
from optimize.bundles import export as module
from optimize.bundles.export import Exported, export_best, export_ensemble
from optimize.bundles.load import load_bundle
from optimize.bundles.replay import replay_bundle
from optimize.errors import BadInputError, WalkforgeError
from optimize.results.queries import best_models
from optimize.results.runs import run_of_trial
from optimize.walkforward.files import run_folder, window_folder
from tests.optimize.bundles.in_process import IN_A_NEW_PROCESS
from tests.optimize.study.bundles import Exports, flip


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
