"""Bundles: refused as soon as anything in them changed, replayed to their score otherwise."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from optimize.bundles.manifest import MANIFEST_FILE, read_manifest, verify_bundle, write_manifest
from optimize.bundles.replay import read_config, replay_bundle, replay_verdict
from optimize.errors import BadInputError, WalkforgeError
from optimize.walkforward.versions import versions
from tests.optimize.study.bundles import Exports, flip, write_prices

KINDS = [
    "policy.safetensors",
    "spec.json",
    "scaler.npz",
    "model.zip",
    "config.json",
    "features.json",
    "metrics.json",
    "CARD.md",
    "equity.png",
    "manifest.json",
    "windows/0/repeat_0/policy.safetensors",
    "windows/0/repeat_0/spec.json",
    "windows/1/repeat_1/scaler.npz",
    "windows/1/repeat_1/returns.parquet",
    "windows/1/repeat_1/trades.parquet",
]


def test_a_bundle_replays_in_a_new_process_without_the_database(bundle: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from optimize.bundles.replay import replay_bundle\n"
        "replay = replay_bundle(Path(sys.argv[1])); print(repr(replay.replayed), replay.bitwise)"
    )
    command = [sys.executable, "-c", program, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.split() == [repr(read_manifest(bundle).score), "True"]


def test_replay_reports_every_window_and_repeat(bundle: Path) -> None:
    replayed = replay_bundle(bundle)
    assert [(one.window, one.repeat, one.bitwise) for one in replayed.windows] == [
        (0, 0, True), (0, 1, True), (1, 0, True), (1, 1, True),
    ]  # fmt: skip
    assert replayed.bitwise
    assert replayed.verdict == "reproduced bit for bit"


@pytest.mark.parametrize("name", KINDS)
def test_one_changed_byte_is_refused_by_name(bundle: Path, name: str) -> None:
    flip(bundle / name)
    with pytest.raises(BadInputError, match=name):
        replay_bundle(bundle)


def test_every_byte_of_the_manifest_counts(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadInputError, match=MANIFEST_FILE):
            read_manifest(bundle)


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_file_is_refused_by_name(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BadInputError, match=name):
        verify_bundle(bundle)


def test_an_extra_file_is_refused_by_name(bundle: Path) -> None:
    (bundle / "windows" / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(BadInputError, match=r"notes\.txt"):
        verify_bundle(bundle)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such folder"):
        replay_bundle(tmp_path / "absent")


def test_a_forged_score_does_not_replay(bundle: Path) -> None:
    write_manifest(bundle, dataclasses.replace(read_manifest(bundle), score=9.0))
    with pytest.raises(WalkforgeError, match=r"stored 9\.0, replayed"):
        replay_bundle(bundle)


def test_other_data_are_refused(exports: Exports, bundle: Path, tmp_path: Path) -> None:
    other = write_prices(tmp_path / "tiny_other.parquet", seed=1)
    with pytest.raises(BadInputError, match=r"fingerprint .* data\.path=FILE"):
        replay_bundle(bundle, str(other))
    with pytest.raises(BadInputError, match=r"absent\.parquet.* data\.path=FILE"):
        replay_bundle(bundle, str(tmp_path / "absent.parquet"))


def test_moved_and_renamed_data_replay(exports: Exports, bundle: Path, tmp_path: Path) -> None:
    moved = tmp_path / "renamed.parquet"
    shutil.copyfile(exports.prices, moved)
    assert replay_bundle(bundle, str(moved)).bitwise


def test_data_path_needs_data_of_a_file(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    config["data"] |= {"provider": "synthetic", "path": None}
    (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BadInputError, match=r"data\.path='x\.csv' is not allowed"):
        read_config(bundle, "x.csv")


def test_the_configuration_stands_alone(exports: Exports, bundle: Path) -> None:
    spec = read_config(bundle)
    assert spec.data.path == str(exports.prices)
    assert spec.data.symbols == ["TINY_PRICES"]
    features = json.loads((bundle / "features.json").read_text(encoding="utf-8"))
    assert features["lookback"] == 2
    assert features["features"]


def test_the_card_says_what_it_is(bundle: Path) -> None:
    card = (bundle / "CARD.md").read_text(encoding="utf-8")
    for part in (
        "Score",
        "Zero-cost Sharpe",
        "buy_and_hold",
        "best baseline",
        "Parameters:",
        "Chosen from",
        "Reward",
        "score not measured on this very model",
    ):
        assert part in card
    assert "walkforge replay bundle=." in card
    assert (bundle / "equity.png").read_bytes().startswith(b"\x89PNG")
    assert read_manifest(bundle).score == json.loads((bundle / "metrics.json").read_text())["score"]


def test_other_versions_may_differ_by_the_tolerance_only() -> None:
    older = versions() | {"torch": "1.0"}
    replayed = replay_verdict("b", "s", "trial 1", 1.0, 1.0 + 1e-12, older, same=False, close=True)
    assert replayed.verdict.startswith("reproduced within 1e-09; versions differ: torch 1.0 there")
    with pytest.raises(WalkforgeError, match=r"stored 1\.0, replayed 1\.1"):
        replay_verdict("b", "s", "trial 1", 1.0, 1.1, older, same=False, close=True)
    with pytest.raises(WalkforgeError, match="versions are equal"):
        replay_verdict("b", "s", "trial 1", 1.0, 1.0 + 1e-12, versions(), same=True, close=True)
    with pytest.raises(WalkforgeError, match="replayed None"):
        replay_verdict("b", "s", "trial 1", 1.0, None, versions(), same=True, close=True)
