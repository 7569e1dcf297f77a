"""Export: only what replays in a fresh process is written, once, under its rank."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from optimize.cli.export import export
from optimize.cli.replay import replay
from optimize.compose import ExportConfig, ReplayConfig
from optimize.database import DatabaseSpec
from optimize.errors import BadInputError, WalkforgeError
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.hashing import hash_file
from optimize.results.queries import leaderboard
from optimize.results.records import (
    BaselineRecord,
    ExportRecord,
    load_exports,
    save_baselines,
    save_export,
)
from optimize.study.export.best import MOVED, REPLAYED, REWRITTEN, UNCHANGED, export_best
from optimize.study.export.bundle import replay_bundle
from optimize.study.export.manifest import MANIFEST
from optimize.study.handle import Handle
from tests.optimize.study.bundles import Exports, flip, run_all, stamps, tiny_spec, write_prices


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
    gone = ExportRecord(str(folder.with_name("09_gone")), "tiny", 9, "none", 9, 0.0, "none")
    with exports.handle.engine.begin() as conn:
        save_export(conn, gone)
    again = export_best(exports.handle.engine, exports.output_dir, "tiny", 2)
    assert [one.outcome for one in again] == [UNCHANGED, MOVED]
    assert sorted(path.name for path in folder.parent.glob("[0-9]*")) == [one.folder.name for one in again]
    with exports.handle.engine.connect() as conn:
        recorded = [record.bundle for record in load_exports(conn, "tiny")]
    assert recorded == [str(one.folder) for one in again]


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
    with pytest.raises(
        BadInputError, match=r"output_dir=.*elsewhere: there is no folder .*: name the output"
    ):
        export_best(exports.handle.engine, tmp_path / "elsewhere", "tiny", 1)
    assert not (tmp_path / "elsewhere").exists()
    assert not list((copied / "tiny" / "exports").glob("[!.]*"))


def test_more_than_the_kept_models_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    prices = write_prices(tmp_path / "tiny_prices.parquet")
    handle = run_all(tiny_spec(tmp_path, prices, n_trials=3, keep_models=1))
    said: list[str] = []
    second = leaderboard(handle.engine, "tiny", 3)[1].trial_number
    words = (
        rf"^tiny keeps the models of its best trials alone \(keep_models=1\), and those of trial {second} "
        rf"\(rank 2\) are gone: export top_n=1, or `walkforge replay name=tiny trial={second} "
        "database.url=.* output_dir=.*` trains it anew and puts its models back$"
    )
    with pytest.raises(WalkforgeError, match=words):
        export_best(handle.engine, handle.spec.output_dir, "tiny", 3, said.append)
    assert said == []
    (one,) = export_best(handle.engine, handle.spec.output_dir, "tiny", 1, said.append)
    handle.engine.dispose()
    assert said == [
        f"writing bundle 1 of 1: trial {one.trial}",
        f"replaying bundle 1 of 1 in a process of its own: trial {one.trial}",
    ]


def with_dropped_models(folder: Path) -> tuple[Handle, int]:
    """Return a study of two trials that keeps one model, and the trial whose models it dropped."""
    prices = write_prices(folder / "tiny_prices.parquet")
    handle = run_all(tiny_spec(folder, prices, n_trials=2, keep_models=1))
    return handle, leaderboard(handle.engine, "tiny", 2)[1].trial_number


def test_a_replay_puts_back_models_that_were_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handle, second = with_dropped_models(tmp_path)
    before = set(handle.spec.folder.iterdir())
    database = DatabaseSpec(url=handle.spec.database.url)
    anew = ReplayConfig(name="tiny", trial=second, database=database, output_dir=handle.spec.output_dir)
    replay(anew)
    assert f"{second:04d}_" in capsys.readouterr().out.splitlines()[-1]
    assert set(handle.spec.folder.iterdir()) == before
    exported = export_best(handle.engine, handle.spec.output_dir, "tiny", 2)
    assert [(one.trial, one.outcome) for one in exported][1] == (second, REPLAYED)
    replay(anew)
    assert "models" not in capsys.readouterr().out
    handle.engine.dispose()


def test_a_replay_that_does_not_prove_the_models_keeps_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handle, second = with_dropped_models(tmp_path)
    (folder,) = (handle.spec.folder / "trials").glob(f"{second:04d}_*")
    returns = folder / "windows/0/repeat_0/returns.parquet"
    shutil.copyfile(folder / "windows/1/repeat_0/returns.parquet", returns)
    database = DatabaseSpec(url=handle.spec.database.url)
    replay(ReplayConfig(name="tiny", trial=second, database=database, output_dir=handle.spec.output_dir))
    assert "its models are not kept" in capsys.readouterr().out.splitlines()[-1]
    assert not list(folder.rglob("policy.safetensors"))
    handle.engine.dispose()


def test_the_card_names_a_better_baseline_of_another_timeframe(tmp_path: Path) -> None:
    handle = run_all(tiny_spec(tmp_path, write_prices(tmp_path / "tiny_prices.parquet"), n_trials=1))
    figures = {"sharpe_zero_cost": 9.0, "total_return": 0.1, "cost": 0.0, "turnover": 0.1}
    best = BaselineRecord(study_name="tiny", timeframe="2h", name="random_0.1", score=8.5, **figures)
    with handle.engine.begin() as conn:
        save_baselines(conn, [best])
    (one,) = export_best(handle.engine, handle.spec.output_dir, "tiny", 1)
    handle.engine.dispose()
    card = (one.folder / "CARD.md").read_text(encoding="utf-8")
    assert "best baseline of the study `random_0.1` (2h) 8.5000, which it does not beat; " in card
    assert "best baseline at its timeframe `" in card
    assert replay_bundle(one.folder).bitwise


def test_a_trial_that_does_not_replay_is_not_exported(exports: Exports, tmp_path: Path) -> None:
    copied = tmp_path / "studies"
    shutil.copytree(Path(exports.output_dir) / "tiny" / "trials", copied / "tiny" / "trials")
    number = exports.exported[0].trial
    (run,) = (copied / "tiny" / "trials").glob(f"{number:04d}_*")
    shutil.copyfile(run / "windows/0/repeat_0/returns.parquet", run / "windows/0/repeat_1/returns.parquet")
    with pytest.raises(WalkforgeError, match=rf"trial {number} of tiny is refused: its bundle: the score"):
        export_best(exports.handle.engine, copied, "tiny", 1)
    assert not list((copied / "tiny" / "exports").glob("[0-9]*"))


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


def test_cli_export_and_replay(exports: Exports, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = exports.handle.spec.database
    export(ExportConfig(name="tiny", output_dir=exports.output_dir, top_n=5, database=database))
    out, err = capsys.readouterr()
    assert UNCHANGED in out
    assert err.splitlines()[0] == "top_n=5 were asked for; 3 distinct trials are feasible"
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


@pytest.mark.parametrize(("score", "format"), [(1e6, "table"), (1e6, "json"), (-1e6, "table")])
def test_an_export_says_where_no_trial_beats_a_baseline(
    exports: Exports, capsys: pytest.CaptureFixture[str], score: float, format: str
) -> None:
    hold = BaselineRecord("tiny", "1h", "buy_and_hold", score, score, 0.1, 0.0, 2.0)
    with exports.handle.engine.begin() as conn:
        save_baselines(conn, [hold])
    database = exports.handle.spec.database
    config = ExportConfig(
        name="tiny", output_dir=exports.output_dir, top_n=1, database=database, format=format
    )
    export(config)
    said = capsys.readouterr()
    told = said.err if format == "json" else said.out
    line = (
        f"no trial beats the baseline buy_and_hold (1h, score {score:.4f}): what was exported is worth less"
    )
    assert (line in told) == (score > 0)
    if format == "json":
        assert len(json.loads(said.out)) == 1


PARENT = """
import os, signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from optimize.study.export import best

class Told(ProcessPoolExecutor):
    def __init__(self, **options):
        super().__init__(**options)
        print(self.submit(os.getpid).result(), flush=True)
best.ProcessPoolExecutor = Told
for _ in best.replay_afresh([Path("nothing")]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_process_that_replays_ends_with_an_export_that_is_killed(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:  # a pipe would be open as long as the other process lives
        code = subprocess.run([sys.executable, "-c", PARENT], stdout=out, timeout=120, check=False).returncode
    assert code == -signal.SIGKILL
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int((tmp_path / "out").read_text())).wait(timeout=30)
