"""Export: only a bundle that replays in a new process is written, once, under its rank."""

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine

from optimize.atomic import partial_of
from optimize.bundles import export as module
from optimize.bundles.export import MOVED, REPLAYED, REWRITTEN, UNCHANGED, export_best
from optimize.bundles.manifest import MANIFEST_FILE
from optimize.bundles.replay import replay_bundle
from optimize.cli.export import export
from optimize.cli.replay import replay
from optimize.database import DatabaseSpec, open_engine
from optimize.errors import BadInputError, WalkforgeError
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.hashing import hash_file
from optimize.report.luck import OF_ROW
from optimize.report.nested import earned_lines
from optimize.report.verdict import luck_lines, set_line
from optimize.results.luck import load_luck, load_luck_sets
from optimize.results.queries import best_models
from optimize.results.records import (
    BaselineRecord,
    ExportRecord,
    load_exports,
    load_study,
    save_baselines,
    save_export,
)
from optimize.schemas.records import ExportConfig, ReplayConfig
from optimize.study.context import StudyContext
from tests.optimize.bundles.in_process import IN_A_NEW_PROCESS
from tests.optimize.study.bundles import (
    Exports,
    export_tiny,
    flip,
    run_all,
    stamps,
    tiny_spec,
    write_prices,
)
from tests.optimize.study.forks import FORK


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    """Yield a study of three trials that this file exports again and again."""
    exported = export_tiny(tmp_path_factory.mktemp("export"))
    yield exported
    exported.context.engine.dispose()


@pytest.fixture
def exports(finished: Exports) -> Exports:
    return finished


def test_the_best_trials_are_exported_in_order_and_recorded(exports: Exports) -> None:
    best = best_models(exports.context.engine, "tiny", 2)
    got = exports.exported
    assert [(one.rank, one.trial, one.score) for one in got] == [
        (row.rank, row.trial_number, row.score) for row in best
    ]
    assert [one.outcome for one in got] == [REPLAYED, REPLAYED]
    assert got[0].folder.name == f"01_trial_{best[0].trial_number:04d}"
    with exports.context.engine.connect() as conn:
        records = load_exports(conn, "tiny")
    assert [(r.rank, r.trial_number, r.score, r.manifest_sha256) for r in records[:2]] == [
        (one.rank, one.trial, one.score, hash_file(one.folder / MANIFEST_FILE)) for one in got
    ]


def test_luck_is_the_same_on_the_board_in_sql_and_on_the_card(exports: Exports) -> None:
    row = best_models(exports.context.engine, "tiny", 1)[0]
    folder = exports.exported[0].folder
    luck = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["luck"]
    assert {name: luck["set"][name] for name in OF_ROW} == {name: getattr(row, name) for name in OF_ROW}
    assert row.n_tries == 3
    with exports.context.engine.connect() as conn:
        view = conn.exec_driver_sql(
            f"SELECT {', '.join(OF_ROW)} FROM best_models WHERE trial_number = {row.trial_number}"
        ).one()
        test, sets = load_luck(conn, "tiny"), load_luck_sets(conn, "tiny")
        record = load_study(conn, "tiny")
        earned = [] if record is None else earned_lines(conn, record, row.sessions_per_year)
    assert tuple(view) == tuple(getattr(row, name) for name in OF_ROW)
    assert test is not None
    assert luck["study"] == dataclasses.asdict(test)
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    own = next(each for each in sets if each.run_uuid == row.run_uuid)
    assert earned[0].startswith("selection walk-forward: ")
    for line in (
        *luck_lines(test),
        set_line(own),
        *earned,
        "PSR: probability that the true ratio is above 0",
    ):
        assert line in card


def test_a_second_export_changes_nothing(exports: Exports) -> None:
    before = stamps(Path(exports.output_dir))
    again = export_best(exports.context.engine, exports.output_dir, "tiny", 2)
    assert [one.outcome for one in again] == [UNCHANGED, UNCHANGED]
    assert stamps(Path(exports.output_dir)) == before


def test_a_damaged_bundle_is_written_again_with_the_same_content(exports: Exports) -> None:
    folder = exports.exported[1].folder
    before = {name: digest for name, (_, digest) in stamps(folder).items()}
    flip(folder / "CARD.md")
    again = export_best(exports.context.engine, exports.output_dir, "tiny", 2)
    assert [one.outcome for one in again] == [UNCHANGED, REWRITTEN]
    assert {name: digest for name, (_, digest) in stamps(folder).items()} == before


def test_a_bundle_moves_with_its_rank(exports: Exports) -> None:
    folder = exports.exported[1].folder
    folder.rename(folder.with_name(folder.name.replace("02_", "07_")))
    gone = ExportRecord(str(folder.with_name("09_gone")), "tiny", 9, "none", 9, 0.0, "none")
    with exports.context.engine.begin() as conn:
        save_export(conn, gone)
    again = export_best(exports.context.engine, exports.output_dir, "tiny", 2)
    assert [one.outcome for one in again] == [UNCHANGED, MOVED]
    assert sorted(path.name for path in folder.parent.glob("[0-9]*")) == [one.folder.name for one in again]
    with exports.context.engine.connect() as conn:
        recorded = [record.bundle for record in load_exports(conn, "tiny")]
    assert recorded == [str(one.folder) for one in again]


def test_what_a_killed_export_left_is_removed(exports: Exports) -> None:
    bundle = exports.exported[0].folder
    left = [partial_of(bundle), bundle.with_name(f".aside_{'0' * 32}")]  # of this version, and of 0.1
    for folder in left:
        folder.mkdir()
    export_best(exports.context.engine, exports.output_dir, "tiny", 1)
    assert [folder for folder in left if folder.exists()] == []


def test_weights_that_were_not_kept_are_named(exports: Exports, tmp_path: Path) -> None:
    copied = tmp_path / "studies"
    shutil.copytree(Path(exports.output_dir) / "tiny" / "trials", copied / "tiny" / "trials")
    for path in copied.rglob("policy.safetensors"):
        path.unlink()
    with pytest.raises(WalkforgeError, match=r"policy\.safetensors is gone; .*keep_models=20"):
        export_best(exports.context.engine, copied, "tiny", 1)
    with pytest.raises(
        BadInputError, match=r"output_dir=.*elsewhere: there is no folder .*: name the output"
    ):
        export_best(exports.context.engine, tmp_path / "elsewhere", "tiny", 1)
    assert not (tmp_path / "elsewhere").exists()
    assert not list((copied / "tiny" / "exports").glob("[!.]*"))


@pytest.fixture(scope="module")
def kept_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyContext]:
    """Yield a study of two trials that keeps one model."""
    folder = tmp_path_factory.mktemp("kept")
    prices = write_prices(folder / "tiny_prices.parquet")
    context = run_all(tiny_spec(folder, prices, n_trials=2, keep_models=1))
    yield context
    context.engine.dispose()


@pytest.fixture
def dropped(kept_one: StudyContext, tmp_path: Path) -> Iterator[tuple[Engine, Path, int]]:
    """Yield a copy of that study, its output_dir, and the trial whose models it dropped."""
    engine = copy_study(kept_one, tmp_path)
    yield engine, tmp_path / "studies", best_models(engine, "tiny", 2)[1].trial_number
    engine.dispose()


def copy_study(context: StudyContext, folder: Path) -> Engine:
    """Copy a finished study's database and trials into a folder; return the copy's engine."""
    shutil.copytree(context.spec.folder / "trials", folder / "studies" / "tiny" / "trials")
    engine = open_engine(f"sqlite:///{folder / 'copy.db'}")
    with context.engine.connect() as source, engine.connect() as target:
        source.connection.driver_connection.backup(target.connection.driver_connection)  # type: ignore[union-attr]  # sqlite3's own
    return engine


def test_more_than_the_kept_models_are_refused_before_anything_is_written(
    dropped: tuple[Engine, Path, int],
) -> None:
    engine, output_dir, second = dropped
    said: list[str] = []
    words = (
        rf"^tiny keeps the models of its best trials alone \(keep_models=1\), and those of trial {second} "
        rf"\(rank 2\) are gone: export top_n=1, or `walkforge replay name=tiny trial={second} "
        "database.url=.* output_dir=.*` trains it anew and puts its models back$"
    )
    with pytest.raises(WalkforgeError, match=words):
        export_best(engine, output_dir, "tiny", 2, said.append)
    assert said == []
    (one,) = export_best(engine, output_dir, "tiny", 1, said.append)
    assert said == [
        f"writing bundle 1 of 1: trial {one.trial}",
        f"replaying bundle 1 of 1 in a process of its own: trial {one.trial}",
    ]


def test_a_replay_puts_back_models_that_were_dropped(
    dropped: tuple[Engine, Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    engine, output_dir, second = dropped
    before = set((output_dir / "tiny").iterdir())
    database = DatabaseSpec(url=str(engine.url))
    anew = ReplayConfig(name="tiny", trial=second, database=database, output_dir=str(output_dir))
    replay(anew)
    assert f"{second:04d}_" in capsys.readouterr().out.splitlines()[-1]
    assert set((output_dir / "tiny").iterdir()) == before
    exported = export_best(engine, output_dir, "tiny", 2)
    assert [(one.trial, one.outcome) for one in exported][1] == (second, REPLAYED)
    replay(anew)
    assert "models" not in capsys.readouterr().out


def test_a_replay_that_does_not_prove_the_models_keeps_none(
    dropped: tuple[Engine, Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    engine, output_dir, second = dropped
    (folder,) = (output_dir / "tiny" / "trials").glob(f"{second:04d}_*")
    returns = folder / "windows/0/repeat_0/returns.parquet"
    shutil.copyfile(folder / "windows/1/repeat_0/returns.parquet", returns)
    database = DatabaseSpec(url=str(engine.url))
    replay(ReplayConfig(name="tiny", trial=second, database=database, output_dir=str(output_dir)))
    assert "its models are not kept" in capsys.readouterr().out.splitlines()[-1]
    assert not list(folder.rglob("policy.safetensors"))


def test_the_card_names_a_better_baseline_of_another_timeframe(exports: Exports, tmp_path: Path) -> None:
    engine = copy_study(exports.context, tmp_path)
    figures: dict[str, Any] = {"sharpe_zero_cost": 9.0, "total_return": 0.1, "cost": 0.0, "turnover": 0.1}
    best = BaselineRecord(study_name="tiny", timeframe="2h", name="random_0.1", score=8.5, **figures)
    with engine.begin() as conn:
        save_baselines(conn, [best])
    (one,) = export_best(engine, tmp_path / "studies", "tiny", 1)
    engine.dispose()
    card = (one.folder / "CARD.md").read_text(encoding="utf-8")
    assert "best baseline of the study `random_0.1` (2h) 8.5000, which it does not beat; " in card
    assert "best baseline at its timeframe `" in card
    assert replay_bundle(one.folder).bitwise


@pytest.mark.usefixtures("replays_in_a_new_process")
def test_a_trial_that_does_not_replay_in_a_new_process_is_not_exported_and_others_are(
    exports: Exports, tmp_path: Path
) -> None:
    copied = tmp_path / "studies"
    shutil.copytree(Path(exports.output_dir) / "tiny" / "trials", copied / "tiny" / "trials")
    number = exports.exported[0].trial
    (run,) = (copied / "tiny" / "trials").glob(f"{number:04d}_*")
    shutil.copyfile(run / "windows/0/repeat_0/returns.parquet", run / "windows/0/repeat_1/returns.parquet")
    with pytest.raises(WalkforgeError, match=rf"trial {number} of tiny is refused: its bundle: the score"):
        export_best(exports.context.engine, copied, "tiny", 2)
    (other,) = (copied / "tiny" / "exports").glob("[0-9]*")
    assert other.name == exports.exported[1].folder.name


def test_windows_of_a_file_are_frozen_into_the_bundle(tmp_path: Path) -> None:
    prices = write_prices(tmp_path / "tiny_prices.parquet")
    edges = ("train_start", "train_end", "test_start", "test_end")
    days = ("2022-01-03", "2022-01-20", "2022-01-20", "2022-01-28")
    spans = [dict(zip(edges, days, strict=True))]
    listed = tmp_path / "windows.json"
    listed.write_text(json.dumps(spans), encoding="utf-8")
    window = WindowSpec(file=str(listed), min_train_bars=50)
    context = run_all(tiny_spec(tmp_path, prices, n_trials=1, window=window))
    (one,) = export_best(context.engine, context.spec.output_dir, "tiny", 1)
    context.engine.dispose()
    listed.unlink()
    assert replay_bundle(one.folder).bitwise


def test_no_feasible_trial_says_which_gate(tmp_path: Path) -> None:
    prices = write_prices(tmp_path / "tiny_prices.parquet")
    score = ScoreSpec(min_periods=2, min_trades=100_000)
    context = run_all(tiny_spec(tmp_path, prices, n_trials=2, score=score))
    with pytest.raises(WalkforgeError, match=r"no feasible trial.*of 2 finished: 2 PRUNED \(min_trades\)"):
        export_best(context.engine, context.spec.output_dir, "tiny", 3)
    context.engine.dispose()


def test_cli_export_and_replay(exports: Exports, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = exports.context.spec.database
    export(
        ExportConfig(
            name="tiny",
            output_dir=exports.output_dir,
            top_n=5,
            database=database,
            min_selection_score=None,
            max_luck_p=None,
        )
    )
    out, err = capsys.readouterr()
    assert UNCHANGED in out
    assert err.splitlines()[0].startswith("gates: none")
    assert err.splitlines()[1] == "top_n=5 were asked for; 3 distinct trials are feasible"
    assert "walkforge replay bundle=" in out
    replay(ReplayConfig(name="", bundle=str(bundle)))
    assert "reproduced bit for bit" in capsys.readouterr().out
    replay(ReplayConfig(name="tiny", trial=1, database=database))
    assert "reproduced bit for bit" in capsys.readouterr().out


def test_cli_replay_wants_one_of_bundle_and_trial(exports: Exports, bundle: Path) -> None:
    database = exports.context.spec.database
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
    with exports.context.engine.begin() as conn:
        save_baselines(conn, [hold])
    database = exports.context.spec.database
    config = ExportConfig(
        min_selection_score=None,
        max_luck_p=None,
        name="tiny",
        output_dir=exports.output_dir,
        top_n=1,
        database=database,
        format=format,
    )
    export(config)
    said = capsys.readouterr()
    told = said.err if format == "json" else said.out
    named = f"no trial beats the baseline buy_and_hold (1h, score {score:+.2f})"
    line = f"{named}: every exported agent scores lower"
    assert (line in told) == (score > 0)
    if format == "json":
        assert len(json.loads(said.out)) == 1


class Printed(ProcessPoolExecutor):
    """Write the id of its process to a file."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        Path("replaying").write_text(str(self.submit(os.getpid).result()), encoding="utf-8")


def killed_while_it_replays(folder: Path) -> None:
    os.chdir(folder)
    pytest.MonkeyPatch().setattr(module, "ProcessPoolExecutor", Printed)
    for _ in IN_A_NEW_PROCESS([Path("nothing")]):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_the_process_that_replays_ends_with_an_export_that_is_killed(tmp_path: Path) -> None:
    parent = FORK.Process(target=killed_while_it_replays, args=(tmp_path,))
    parent.start()
    parent.join(300)
    assert parent.exitcode == -signal.SIGKILL
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int((tmp_path / "replaying").read_text())).wait(timeout=300)
