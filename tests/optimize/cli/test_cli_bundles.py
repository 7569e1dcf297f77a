"""`walkforge evaluate` and `walkforge act`: exported agents on bars that they never saw."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from optimize.bundles.changes import changes_of
from optimize.bundles.export import export_best
from optimize.cli.evaluate import data_here
from optimize.data.spec import DataSpec
from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.results.holdout import holdout_of_study, openings_of
from tests.optimize.bundles.in_process import replays_in_this_process
from tests.optimize.cli.conftest import Run
from tests.optimize.study.bundles import Exports, run_all, tiny_spec, write_prices

OLD = "data.max_age=100000"  # days: the bars of these tests are old
HOLDOUT = ("2022-02-11", "2022-02-18")


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    folder = tmp_path_factory.mktemp("exported")
    prices = write_prices(folder / "tiny_prices.parquet")
    context = run_all(tiny_spec(folder, prices, n_trials=1))
    with replays_in_this_process():
        exported = export_best(context.engine, context.spec.output_dir, "tiny", 1)
    yield Exports(context, prices, exported)
    context.close()


@pytest.fixture
def bundle(exports: Exports, tmp_path: Path) -> str:
    copy = tmp_path / "bundle"
    shutil.copytree(exports.exported[0].folder, copy)
    return f"bundle={copy}"


def test_windows_without_changes_replay_and_open_nothing(run: Run, bundle: str, tmp_path: Path) -> None:
    code, out, err = run("evaluate", bundle)
    assert (code, err) == (0, "")
    assert "nothing was trained; reproduced bit for bit" in out
    assert "holdout" not in out
    assert not (tmp_path / "databases" / "walkforge.db").exists()


def test_the_holdout_is_logged_before_it_is_read_and_counted(run: Run, bundle: str, tmp_path: Path) -> None:
    _, first, err = run("evaluate", bundle, "span=holdout")
    assert err == ""
    assert f"{HOLDOUT[0]} to {HOLDOUT[1]} (exclusive), is opened for the 1st time" in first
    _, second, _ = run("evaluate", bundle, f"span={HOLDOUT[0]}..2022-02-13")
    assert "is opened for the 2nd time" in second
    assert "2 sessions: no score below score.min_periods" not in second  # this study's min_periods is 2
    engine = open_engine(f"sqlite:///{tmp_path / 'databases' / 'walkforge.db'}")
    with engine.connect() as conn:
        stored = openings_of(conn, ["TINY_PRICES"], date(2022, 2, 11), date(2022, 2, 12))
        assert [each.purpose for each in stored] == ["evaluate", "evaluate"]
        assert openings_of(conn, ["OTHER"], date(2022, 2, 11), date(2022, 2, 12)) == []
        assert openings_of(conn, ["TINY_PRICES"], date(2022, 2, 18), date(2022, 3, 1)) == []
    engine.dispose()


def test_another_name_of_the_bars_does_not_hide_that_the_holdout_was_opened(
    run: Run, bundle: str, exports: Exports
) -> None:
    run("evaluate", bundle, "span=holdout")
    _, out, err = run(
        "evaluate", bundle, "span=holdout", f"data.path={exports.prices}", "data.symbols=[OTHER]"
    )
    assert err == ""
    assert "is opened for the 2nd time" in out


def test_a_database_that_cannot_log_keeps_the_holdout_shut(run: Run, bundle: str, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("no database", encoding="utf-8")
    code, out, err = run("evaluate", bundle, "span=holdout", f"database.url=sqlite:///{tmp_path / 'full'}")
    assert code in (1, 2)
    assert err.count("\n") == 1
    assert "Sharpe" not in out


def test_new_bars_begin_after_all_data_of_the_study(run: Run, bundle: str, tmp_path: Path) -> None:
    code, _, err = run("evaluate", bundle, "span=new")
    assert code == 2
    assert "only those from 2022-02-18 on are new to the bundle" in err
    write_prices(tmp_path / "newer.parquet", days=60)
    _, out, err = run("evaluate", bundle, "span=new", "data.path=newer.parquet")
    assert err == ""
    assert "2022-02-18 .. 2022-03-02" in out
    assert "data.path" in out
    assert "is opened" not in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["cost=crypto"], ["cost.commission_bps: 1.0 in the bundle, 10.0 here", "cost.slippage_bps"]),
        (["cost.commission_bps=3"], ["cost.commission_bps: 1.0 in the bundle, 3.0 here"]),
    ],
)
def test_other_costs_are_named_and_paid(run: Run, bundle: str, words: list[str], expected: list[str]) -> None:
    _, before, _ = run("evaluate", bundle)
    _, out, err = run("evaluate", bundle, *words)
    assert err == ""
    for text in expected:
        assert text in out
    assert _scores(out) != _scores(before)


def test_listed_windows_are_played_by_models_trained_before_them(
    run: Run, bundle: str, tmp_path: Path
) -> None:
    edges = ("train_start", "train_end", "test_start", "test_end")
    late = dict(zip(edges, ("2022-01-10", "2022-02-01", "2022-02-03", "2022-02-09"), strict=True))
    early = dict(zip(edges, ("2022-01-05", "2022-01-08", "2022-01-09", "2022-01-20"), strict=True))
    (tmp_path / "late.json").write_text(json.dumps([late]), encoding="utf-8")
    (tmp_path / "early.json").write_text(json.dumps([early]), encoding="utf-8")
    _, out, err = run("evaluate", bundle, "window.file=late.json")
    assert err == ""
    assert "2022-02-03 .. 2022-02-09" in out
    assert "were among the study's test windows" in out
    code, _, err = run("evaluate", bundle, "window.file=early.json")
    assert code == 2
    assert "2022-01-09" in err
    assert "training of the bundle's models ended" in err


@pytest.mark.parametrize(
    "words",
    [
        ["span=soon"], ["span=holdot"], ["span=2022-02-12..2022-02-10"], ["span=2030-01-01..2030-02-01"],
        ["span=2022-01-01..2022-01-05"], ["data.timeframe=4h"], ["env.max_leverage=2"],
        ["feature.lookback=3"], ["window.holdout_share=2"], ["cost.commission_bps=-1"],
        ["data.path=absent.parquet", "span=new"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_is_not_evaluated_is_refused_in_one_line(run: Run, bundle: str, words: list[str]) -> None:
    code, _, err = run("evaluate", bundle, *words)
    assert code == 2
    assert err.count("\n") == 1
    assert ("did you mean holdout?" in err) == (words == ["span=holdot"])


def test_windows_of_bars_from_before_the_training_are_refused(
    run: Run, bundle: str, exports: Exports, tmp_path: Path
) -> None:
    bars = pd.read_parquet(exports.prices)
    bars["timestamp"] -= pd.Timedelta(days=728)
    bars.to_parquet(tmp_path / "older.parquet")
    code, out, err = run("evaluate", bundle, "data.path=older.parquet")
    assert code == 2, out
    assert "training of the bundle's models ended" in err


@pytest.mark.parametrize("verb", ["evaluate", "act"])
def test_a_file_named_after_another_symbol_is_refused(
    run: Run, bundle: str, exports: Exports, tmp_path: Path, verb: str
) -> None:
    for name in ("daily_ibm.parquet", "tiny_prices_1h.parquet"):
        shutil.copyfile(exports.prices, tmp_path / name)
    span = ["span=holdout"] if verb == "evaluate" else ["holding=0"]
    code, out, err = run(verb, bundle, *span, "data.path=daily_ibm.parquet")
    assert code == 2
    assert "daily_ibm.parquet is of IBM by its name, but the bundle trades TINY_PRICES" in err
    assert "opened" not in out
    assert run(verb, bundle, *span, "data.path=daily_ibm.parquet", "data.symbols=[IBM]", OLD)[0] == 0


@pytest.mark.parametrize("verb", ["evaluate", "act"])
def test_a_bundle_must_be_named(run: Run, verb: str) -> None:
    code, _, err = run(verb)
    assert code == 2
    assert "bundle is missing" in err
    code, _, err = run(verb, "bundle=nothing")
    assert code == 2
    assert "no such folder" in err


def test_act_gives_the_next_order_for_a_person_and_a_program(run: Run, bundle: str, exports: Exports) -> None:
    path = [f"data.path={exports.prices}", OLD]
    code, out, err = run("act", bundle, *path, "holding=0.25")
    assert (code, err) == (0, "")
    assert "+0.250" in out
    assert "equity=AMOUNT adds the units of an order" in out
    assert "fills at 2022-02-18T00:00:00Z" in out
    plain = json.loads(run("act", bundle, *path, "holding=0.25", "format=json")[1])
    assert plain["bar"] == "2022-02-17T23:00:00Z"
    assert plain["orders"][0]["holding"] == 0.25
    assert (
        run("act", bundle, *path, "holding={TINY_PRICES: 0.25}", "format=json")[1]
        == json.dumps(plain, indent=2) + "\n"
    )


def test_an_order_has_its_side_its_size_and_its_units(run: Run, bundle: str, exports: Exports) -> None:
    words = [f"data.path={exports.prices}", OLD, "holding=0.9", "equity=50000"]
    (order,) = json.loads(run("act", bundle, *words, "format=json")[1])["orders"]
    assert (order["trades"], order["side"]) == (True, "sell")
    assert order["size"] == pytest.approx(0.9 - order["target"])
    assert order["price"] == pd.read_parquet(exports.prices)["close"].iloc[-1]
    assert order["units"] == pytest.approx(order["size"] * 50_000 / order["price"])
    out = run("act", bundle, *words)[1]
    cells = next(line for line in out.splitlines() if line.startswith("  TINY_PRICES ")).split()
    assert cells[4:6] == ["sell", f"{order['size']:.3f}"]
    assert float(cells[7]) == pytest.approx(order["units"], rel=1e-3)
    code, _, err = run("act", bundle, *words[:-1], "equity=0")
    assert (code, "equity=0" in err) == (2, True)


def test_an_order_whose_bar_has_ended_is_refused_unless_an_age_is_allowed(
    run: Run, bundle: str, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"data.path={exports.prices}"  # hourly, around the clock; its last bar ends at midnight
    clock = [datetime(2022, 2, 18, 0, 59, tzinfo=UTC)]
    monkeypatch.setattr("optimize.cli.act.now", lambda: clock[0])
    code, out, err = run("act", bundle, path, "holding=0")
    assert (code, err) == (0, "")
    clock[0] = datetime(2022, 2, 18, 1, 1, tzinfo=UTC)
    code, out, err = run("act", bundle, path, "holding=0")
    assert (code, out.count("order at the close")) == (2, 0)
    assert "ended at 2022-02-18T00:00:00Z, 1.0 hours ago, and the bar in which its order fills " in err
    assert "(2022-02-18T00:00:00Z) has ended as well: give newer bars, or data.max_age=1 (days)" in err


@pytest.mark.parametrize("verb", ["evaluate", "act"])
def test_bars_with_prices_of_another_asset_are_refused(
    run: Run, bundle: str, tmp_path: Path, verb: str
) -> None:
    write_prices(tmp_path / "bars.parquet", days=60, seed=7)
    words = [verb, bundle, "data.path=bars.parquet", *(["span=new"] if verb == "evaluate" else [OLD])]
    code, out, err = run(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "the bars are not of TINY_PRICES, which the bundle trades: its returns differ by " in err
    assert "order" not in out
    assert run(*words, "data.symbols=[OTHER]")[0] == 0


def test_act_refuses_bars_that_a_study_would_refuse(run: Run, bundle: str, tmp_path: Path) -> None:
    frame = pd.read_parquet(write_prices(tmp_path / "spike.parquet"))
    frame["high"] = frame["high"].where(frame.index != 900, 100 * frame["high"])
    frame.to_parquet(tmp_path / "spike.parquet")
    code, out, err = run("act", bundle, "data.path=spike.parquet", "holding=0")
    assert code == 2
    assert "far from those around" in err
    assert err.count("\n") == 1
    assert "order" not in out


@pytest.mark.parametrize("symbols", [["bb", "aa"]])
def test_the_symbols_of_a_bundle_keep_their_order(symbols: list[str]) -> None:
    theirs = DataSpec(provider="file", path="{symbol}.csv", symbols=["aa", "bb"], timeframe="1h")
    changes = changes_of(DataSpec)
    with pytest.raises(BadInputError, match=r"data.symbols=\[bb,aa\].*aa, bb in this order"):
        data_here(theirs, changes(symbols=symbols))
    assert data_here(theirs, changes(symbols=["aa", "bb"])).symbols == ["aa", "bb"]


@pytest.mark.parametrize(
    "words", [["holding=much"], ["holding=[0.1,0.2]"], ["since=soon"], ["holding=.nan"]], ids=str
)
def test_act_refuses_nonsense_in_one_line(run: Run, bundle: str, words: list[str]) -> None:
    code, _, err = run("act", bundle, *words)
    assert code == 2
    assert err.count("\n") == 1


def _scores(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.strip().startswith("ppo")]


def test_an_export_opens_the_holdout_by_name_alone(run: Run, exports: Exports) -> None:
    place = (f"database.url={exports.context.spec.database.url}", f"output_dir={exports.output_dir}")
    words = ("export", "name=tiny", "top_n=1", "gate=none", *place)
    _, out, err = run(*words)
    assert "holdout" not in out + err
    code, out, err = run(*words, "holdout=true")
    assert code == 0
    assert f"{HOLDOUT[0]} to {HOLDOUT[1]} (exclusive), is opened for the 1st time" in err
    assert "trial 0 on its holdout: score" in out
    rows = json.loads(run(*words, "holdout=true", "format=json")[1])
    with exports.context.engine.connect() as conn:
        first, second = openings_of(conn, ["TINY_PRICES"], date(2022, 2, 11), date(2022, 2, 12))
        kept = holdout_of_study(conn, "tiny")
    assert (first.purpose, first.bundle) == ("export", str(exports.exported[0].folder.resolve()))
    assert first.score == second.score == rows[0]["holdout_score"]
    assert kept is not None
    assert kept.spent_at == first.opened_at
    board = run("leaderboard", "name=tiny", *place)[1]
    assert "holdout: 2022-02-11 to 2022-02-18 (exclusive), in no window, opened 2 times" in " ".join(
        board.split()
    )
