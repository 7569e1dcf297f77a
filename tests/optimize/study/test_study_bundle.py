"""Bundles: written only if they replay in a fresh process, refused as soon as anything in them changed."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.agents.spec import AgentSpec
from optimize.cli.export import export
from optimize.cli.replay import replay
from optimize.compose import ExportConfig, ReplayConfig
from optimize.data.spec import DataSpec, FeatureSpec
from optimize.database import DatabaseSpec
from optimize.errors import BadInputError, WalkforgeError
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.hashing import hash_file
from optimize.results.queries import leaderboard
from optimize.results.records import load_exports
from optimize.study.bundle import (
    MANIFEST,
    judge,
    read_config,
    read_manifest,
    replay_bundle,
    verify_bundle,
    write_manifest,
)
from optimize.study.caps import Claim, claim
from optimize.study.export import MOVED, REPLAYED, REWRITTEN, UNCHANGED, Exported, export_best
from optimize.study.handle import Handle, enroll, open_study
from optimize.study.perform import perform
from optimize.study.spec import StudySpec, resolve
from optimize.study.trial import lay_ground
from optimize.study.versions import versions

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
]


@dataclasses.dataclass(frozen=True, eq=False)
class Exports:
    handle: Handle
    prices: Path
    exported: list[Exported]

    @property
    def output_dir(self) -> str:
        return self.handle.spec.output_dir


def write_prices(path: Path, days: int = 48, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, days * 24)))
    opens = np.concatenate([[100.0], close[:-1]])
    stamp = pd.date_range("2022-01-01", periods=days * 24, freq="h", tz="UTC")
    prices = {"open": opens, "high": np.maximum(opens, close), "low": np.minimum(opens, close)}
    pd.DataFrame({"timestamp": stamp, **prices, "close": close, "volume": 1.0}).to_parquet(path)
    return path


def tiny_spec(folder: Path, prices: Path, **changes: object) -> StudySpec:
    score = ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0, repeats=2)
    ppo = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    spec = StudySpec(
        name="tiny",
        n_trials=3,
        output_dir=str(folder / "studies"),
        data=DataSpec(provider="file", path=str(prices)),
        feature=FeatureSpec(lookback=2, indicators=["returns", "range"]),
        agent=AgentSpec(total_timesteps=64, n_envs=2, net="tiny", hyperparameters=ppo),
        space={"agent": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}},
        window=WindowSpec(count=2, train_ratio=2.0, min_train_bars=50),
        score=score,
        database=DatabaseSpec(url=f"sqlite:///{folder / 'walkforge.db'}"),
    )
    return resolve(dataclasses.replace(spec, **changes))  # type: ignore[arg-type]  # changes are passed through


def run_all(spec: StudySpec) -> Handle:
    handle = open_study(spec)
    ground = lay_ground(spec, None)
    enroll(handle, ground)
    while isinstance(claimed := claim(handle, 0, lambda _: ground), Claim):
        run = perform(handle, claimed, stopping=lambda: False)
        assert run.state != "FAIL", run.traceback
    return handle


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    folder = tmp_path_factory.mktemp("bundle")
    prices = write_prices(folder / "tiny_prices.parquet")
    handle = run_all(tiny_spec(folder, prices))
    yield Exports(handle, prices, export_best(handle.engine, handle.spec.output_dir, "tiny", 2))
    handle.engine.dispose()


@pytest.fixture
def bundle(exports: Exports, tmp_path: Path) -> Path:
    copy = tmp_path / "bundle"
    shutil.copytree(exports.exported[0].folder, copy)
    return copy


def stamps(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path): (path.stat().st_mtime_ns, hash_file(path))
        for path in folder.rglob("*.*")
        if path.is_file()
    }


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_best_trials_are_exported_in_order_and_recorded(exports: Exports) -> None:
    best = leaderboard(exports.handle.engine, "tiny", 2)
    got = exports.exported
    assert [(one.rank, one.trial, one.score) for one in got] == [
        (row.rank, row.trial_number, row.score) for row in best
    ]
    assert [one.outcome for one in got] == [REPLAYED, REPLAYED]
    assert got[0].folder.name == f"01_trial_{best[0].trial_number:04d}"
    with exports.handle.engine.connect() as conn:
        records = load_exports(conn, "tiny")
    assert [(r.rank, r.trial_number, r.score, r.manifest_sha256) for r in records[:2]] == [
        (one.rank, one.trial, one.score, hash_file(one.folder / MANIFEST)) for one in got
    ]


def test_a_bundle_replays_in_a_new_process_without_the_database(bundle: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from optimize.study.bundle import replay_bundle\n"
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
    path = bundle / MANIFEST
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadInputError, match=MANIFEST):
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


def test_a_second_export_changes_nothing(exports: Exports) -> None:
    before = stamps(Path(exports.output_dir))
    again = export_best(exports.handle.engine, exports.output_dir, "tiny", 2)
    assert [one.outcome for one in again] == [UNCHANGED, UNCHANGED]
    assert stamps(Path(exports.output_dir)) == before


def test_a_damaged_bundle_is_written_again_with_the_same_content(exports: Exports) -> None:
    folder = exports.exported[1].folder
    before = {name: digest for name, (_, digest) in stamps(folder).items()}
    flip(folder / "CARD.md")
    again = export_best(exports.handle.engine, exports.output_dir, "tiny", 2)
    assert [one.outcome for one in again] == [UNCHANGED, REWRITTEN]
    assert {name: digest for name, (_, digest) in stamps(folder).items()} == before


def test_a_bundle_moves_with_its_rank(exports: Exports) -> None:
    folder = exports.exported[1].folder
    folder.rename(folder.with_name(folder.name.replace("02_", "07_")))
    again = export_best(exports.handle.engine, exports.output_dir, "tiny", 2)
    assert [one.outcome for one in again] == [UNCHANGED, MOVED]
    assert sorted(path.name for path in folder.parent.glob("[0-9]*")) == [one.folder.name for one in again]


def test_what_a_killed_export_left_is_removed(exports: Exports) -> None:
    left = exports.exported[0].folder.with_name(".aside_dead")
    left.mkdir()
    export_best(exports.handle.engine, exports.output_dir, "tiny", 1)
    assert not left.exists()


def test_weights_that_were_not_kept_are_named(exports: Exports, tmp_path: Path) -> None:
    copied = tmp_path / "studies"
    shutil.copytree(Path(exports.output_dir) / "tiny" / "trials", copied / "tiny" / "trials")
    for path in copied.rglob("policy.safetensors"):
        path.unlink()
    with pytest.raises(WalkforgeError, match=r"policy\.safetensors is gone; .*keep_models=20"):
        export_best(exports.handle.engine, copied, "tiny", 1)
    with pytest.raises(WalkforgeError, match="output_dir"):
        export_best(exports.handle.engine, tmp_path / "elsewhere", "tiny", 1)
    assert not list((copied / "tiny" / "exports").glob("[!.]*"))


def test_a_trial_that_does_not_replay_is_not_exported(exports: Exports, tmp_path: Path) -> None:
    copied = tmp_path / "studies"
    shutil.copytree(Path(exports.output_dir) / "tiny" / "trials", copied / "tiny" / "trials")
    number = exports.exported[0].trial
    (run,) = (copied / "tiny" / "trials").glob(f"{number:04d}_*")
    shutil.copyfile(run / "windows/0/repeat_0/returns.parquet", run / "windows/0/repeat_1/returns.parquet")
    with pytest.raises(WalkforgeError, match=rf"trial {number} of tiny is refused: its bundle: the score"):
        export_best(exports.handle.engine, copied, "tiny", 1)
    assert not list((copied / "tiny" / "exports").glob("[0-9]*"))


def test_other_data_are_refused(exports: Exports, bundle: Path, tmp_path: Path) -> None:
    other = write_prices(tmp_path / "tiny_other.parquet", seed=1)
    with pytest.raises(BadInputError, match=r"fingerprint .* data_path=FILE"):
        replay_bundle(bundle, str(other))
    with pytest.raises(BadInputError, match=r"absent\.parquet.* data_path=FILE"):
        replay_bundle(bundle, str(tmp_path / "absent.parquet"))


def test_moved_and_renamed_data_replay(exports: Exports, bundle: Path, tmp_path: Path) -> None:
    moved = tmp_path / "renamed.parquet"
    shutil.copyfile(exports.prices, moved)
    assert replay_bundle(bundle, str(moved)).bitwise


def test_data_path_needs_data_of_a_file(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    config["data"] |= {"provider": "synthetic", "path": None}
    (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BadInputError, match=r"data_path='x\.csv' is not allowed"):
        read_config(bundle, "x.csv")


def test_the_configuration_stands_alone(exports: Exports, bundle: Path) -> None:
    spec = read_config(bundle)
    assert spec.data.path == str(exports.prices)
    assert spec.data.symbols == ["TINY"]
    features = json.loads((bundle / "features.json").read_text(encoding="utf-8"))
    assert features["lookback"] == 2
    assert features["features"]


def test_windows_of_a_file_are_frozen_into_the_bundle(tmp_path: Path) -> None:
    prices = write_prices(tmp_path / "tiny_prices.parquet")
    edges = ("train_start", "train_end", "test_start", "test_end")
    days = ("2022-01-03", "2022-01-20", "2022-01-20", "2022-01-28")
    spans = [dict(zip(edges, days, strict=True))]
    listed = tmp_path / "windows.json"
    listed.write_text(json.dumps(spans), encoding="utf-8")
    window = WindowSpec(file=str(listed), min_train_bars=50)
    handle = run_all(tiny_spec(tmp_path, prices, n_trials=1, window=window))
    (one,) = export_best(handle.engine, handle.spec.output_dir, "tiny", 1)
    handle.engine.dispose()
    listed.unlink()
    assert replay_bundle(one.folder).bitwise


def test_no_feasible_trial_says_which_gate(tmp_path: Path) -> None:
    prices = write_prices(tmp_path / "tiny_prices.parquet")
    score = ScoreSpec(min_periods=2, min_trades=100_000)
    handle = run_all(tiny_spec(tmp_path, prices, n_trials=2, score=score))
    with pytest.raises(WalkforgeError, match=r"no feasible trial.*of 2 finished: 2 PRUNED \(min_trades\)"):
        export_best(handle.engine, handle.spec.output_dir, "tiny", 3)
    handle.engine.dispose()


def test_the_card_says_what_it_is(bundle: Path) -> None:
    card = (bundle / "CARD.md").read_text(encoding="utf-8")
    for part in ("Score", "Zero-cost Sharpe", "buy-and-hold", "score not measured on this very model"):
        assert part in card
    assert "walkforge replay bundle=." in card
    assert (bundle / "equity.png").read_bytes().startswith(b"\x89PNG")
    assert read_manifest(bundle).score == json.loads((bundle / "metrics.json").read_text())["score"]


def test_other_versions_may_differ_by_the_tolerance_only() -> None:
    older = versions() | {"torch": "1.0"}
    replayed = judge("b", "s", 1, 1.0, 1.0 + 1e-12, older, same=False, close=True)
    assert replayed.verdict.startswith("reproduced within 1e-09; versions differ: torch 1.0 there")
    with pytest.raises(WalkforgeError, match=r"stored 1\.0, replayed 1\.1"):
        judge("b", "s", 1, 1.0, 1.1, older, same=False, close=True)
    with pytest.raises(WalkforgeError, match="versions are equal"):
        judge("b", "s", 1, 1.0, 1.0 + 1e-12, versions(), same=True, close=True)
    with pytest.raises(WalkforgeError, match="replayed None"):
        judge("b", "s", 1, 1.0, None, versions(), same=True, close=True)


def test_cli_export_and_replay(exports: Exports, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = exports.handle.spec.database
    export(ExportConfig(name="tiny", output_dir=exports.output_dir, top_n=5, database=database))
    out = capsys.readouterr().out
    assert UNCHANGED in out
    assert "3 distinct trials are feasible" in out
    assert "walkforge replay bundle=" in out
    replay(ReplayConfig(name="", bundle=str(bundle)))
    assert "reproduced bit for bit" in capsys.readouterr().out
    replay(ReplayConfig(name="tiny", trial=1, database=database))
    assert "reproduced bit for bit" in capsys.readouterr().out


def test_cli_replay_wants_one_of_bundle_and_trial(exports: Exports, bundle: Path) -> None:
    database = exports.handle.spec.database
    for config in (
        ReplayConfig(),
        ReplayConfig(name="tiny", database=database),
        ReplayConfig(name="tiny", trial=0, bundle=str(bundle), database=database),
    ):
        with pytest.raises(BadInputError, match="either bundle=FOLDER or name=STUDY trial=NUMBER"):
            replay(config)
    with pytest.raises(BadInputError, match="trial=99"):
        replay(ReplayConfig(name="tiny", trial=99, database=database))


def test_cli_export_makes_no_database(tmp_path: Path) -> None:
    absent = tmp_path / "absent.db"
    with pytest.raises(BadInputError, match="there is no database"):
        export(ExportConfig(name="tiny", database=DatabaseSpec(url=f"sqlite:///{absent}")))
    assert not absent.exists()
