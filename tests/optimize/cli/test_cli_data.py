import json
import struct
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.cli.dispatch import compose_configs
from optimize.data.market import load_bars
from optimize.data.quality import report as quality_report
from optimize.data.spec import CHECKS, DataSpec
from tests.conftest import REPOSITORY
from tests.optimize.cli.conftest import Run

OWN = ("data", "data=file", "data.path=bars.csv")


def write_bars(path: Path, rows: int = 800, hole: bool = False, split: bool = False) -> None:
    stamps = pd.date_range("2024-01-01", periods=rows, freq="h")
    price = 100 + np.sin(np.arange(rows) / 7)
    volume = 10 + np.cos(np.arange(rows) / 5)
    if split:
        price[400:] /= 2
    prices = {"open": price, "high": price + 1, "low": price - 1, "close": price}
    frame = pd.DataFrame({"timestamp": stamps, **prices, "volume": volume})
    kept = frame.drop(index=range(100, 105)) if hole else frame
    kept.to_csv(path, index=False)


def test_the_embedded_data_are_described_and_cached(run: Run, tmp_path: Path) -> None:
    code, out, err = run("data")
    assert (code, err) == (0, "")
    for words in (
        "EURUSD",
        "no finding",
        "6,225 bars of 1h",
        "2017-01-01T22:00:00Z",
        "24/5 (inferred",
        "bars of warm-up",
    ):
        assert words in out
    (cached,) = [path for path in (tmp_path / "databases" / "market").iterdir() if path.is_dir()]
    assert cached.name in out
    assert [path.name for path in tmp_path.iterdir()] == ["databases"]  # nothing of Hydra's


def test_clean_bars_of_a_file_have_no_finding(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "own bars.csv")
    code, out, _ = run("data", "data=file", 'data.path="own bars.csv"', "data.check=true")
    assert code == 0
    assert "no finding" in out
    assert not (tmp_path / "databases").exists()


def test_a_gap_is_a_line_and_no_obstacle(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv", hole=True)
    code, out, _ = run(*OWN)
    assert code == 0
    assert "  warn gaps BARS: 1 gap in open market time, 5 bars missing in 1 of 34 sessions: 6 h after" in out
    assert (tmp_path / "databases").exists()


def test_a_split_is_refused_after_the_whole_report(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv", hole=True, split=True)
    for check in ("false", "true"):
        code, out, err = run(*OWN, f"data.check={check}")
        assert (code, err) == (2, "")
        assert "  refuse split BARS: 1 jump like a split (2:1 at 2024-01-17" in out
        assert "  warn gaps BARS" in out
        assert "refused: 1 of 2 findings" in out
        assert not (tmp_path / "databases").exists()
    code, out, _ = run(*OWN, "data.severity.split=ignore", "data.severity.gaps=ignore")
    assert code == 0
    assert "no finding" in out


def test_the_report_is_json_for_machines(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv", split=True)
    code, out, _ = run(*OWN, "data.check=true", "format=json")
    report = json.loads(out)
    assert (code, report["passed"], report["calendar"]) == (2, False, "24/7")
    (finding,) = report["findings"]
    assert finding == {
        "check": "split",
        "severity": "refuse",
        "symbol": "BARS",
        "source": str(tmp_path / "bars.csv"),
        "first": "2024-01-17T16:00:00Z",
        "last": "2024-01-17T16:00:00Z",
        "count": 1,
        "found": finding["found"],
        "remedy": finding["remedy"],
    }
    assert report["coverage"][0]["rows"] == 800
    code, out, _ = run(*OWN, "data.severity.split=warn", "format=json")
    passed = json.loads(out)
    assert (code, passed["passed"], passed["market"]["timeframe"]) == (0, True, "1h")
    assert passed["summary"]["sessions"] == 34


def test_the_findings_are_csv_for_a_sheet(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv", split=True)
    code, out, _ = run(*OWN, "data.check=true", "format=csv")
    head, row = out.splitlines()
    assert code == 2
    assert head == "check,severity,symbol,source,first,last,count,found,remedy"
    assert row.startswith("split,refuse,BARS,")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.severity.splits=warn"], f"the checks are {', '.join(CHECKS)}"),
        (["data.severity.nan=warn"], "cannot be lowered"),
        (["format=xml"], "table, csv, json"),
        (["check=true"], "did you mean data.check?"),
        (["cache_dir=taken"], "cannot create the folder taken"),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, tmp_path: Path, settings: list[str], words: str) -> None:
    (tmp_path / "taken").touch()
    code, _, err = run("data", *settings)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_a_daily_file_has_its_own_timeframe_and_no_finer_one(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "hours.csv", rows=24 * 500)
    daily = pd.read_csv(tmp_path / "hours.csv")[::24]
    daily.to_csv(tmp_path / "bars.csv", index=False)
    code, out, _ = run(*OWN)
    assert code == 0
    assert "  bars      161 of 1d after 339 bars of warm-up" in out
    finer = "data.timeframe=1h"
    for check in ("true", "false"):
        code, out, err = run(*OWN, finer, f"data.check={check}")
        assert (code, err) == (2, "")
        assert "  refuse timeframe BARS: data.timeframe=1h is finer than the source's 1d; from" in out
        assert ": set data.timeframe=1d\n" in out
    code, out, err = run("walk-forward", "name=x", *OWN[1:], finer)
    assert (code, err.count("\n")) == (2, 1)
    assert out == "BARS: 1d bars of bars.csv, 2024-01-01 to 2025-05-14, resampled to 1h\n"
    assert "finer than the source's 1d" in err


def test_a_finer_file_says_how_to_keep_its_own_timeframe(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv", rows=24 * 500)
    out = run(*OWN, "data.timeframe=4h")[1]
    assert "of 4h (data.timeframe=1h keeps the source's own) after 339 bars of warm-up" in out
    write_bars(tmp_path / "bars.csv")
    code, _, err = run(*OWN, "data.timeframe=4h")
    assert (code, err.count("\n")) == (2, 1)
    assert "a finer data.timeframe (down to 1h) or faster feature.indicators" in err


def test_what_bars_cover_is_said_in_plain_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality_report, "now", lambda: datetime(2018, 1, 8, 22, tzinfo=UTC))
    _, out, _ = run("data", "data.check=true")
    assert "2017-01-01T22:00:00Z to 2017-12-29T21:00:00Z: 362 days, ended 10 days ago; from " in out


@pytest.mark.parametrize("typed", ["data.path={symbol}.csv", 'data.path="{symbol}.csv"'])
def test_a_file_a_symbol_needs_the_quotes_that_are_advised(run: Run, tmp_path: Path, typed: str) -> None:
    for name in ("btc", "eth"):
        write_bars(tmp_path / f"{name}.csv")
    code, out, err = run("data", "data=file", typed, "data.symbols=[btc,eth]", "data.check=true")
    if '"' in typed:
        assert code == 0
        assert "btc: 800 bars" in out
    else:
        assert code == 2
        assert err.endswith(" is quoted twice: 'data.path=\"{symbol}.csv\"'\n")


def test_only_what_may_be_judged_is_offered_to_judge(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv", split=True)
    out = run(*OWN)[1]
    assert (
        "refused: 1 of 1 finding; each says what to do, or judge otherwise with data.severity.split=warn\n"
        in out
    )
    write_bars(tmp_path / "bars.csv")
    lines = (tmp_path / "bars.csv").read_text().splitlines()
    (tmp_path / "bars.csv").write_text("\n".join([*lines, lines[-1].rpartition(",")[0] + ",99"]))
    refused = run(*OWN)[1]
    assert "  refuse duplicates BARS: 1 duplicated stamp" in refused
    assert "refused: 1 of 1 finding; each says what to do\n" in refused


def test_an_exact_copy_of_a_row_is_dropped_with_a_line(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv")
    lines = (tmp_path / "bars.csv").read_text().splitlines()
    (tmp_path / "bars.csv").write_text("\n".join([*lines, lines[-1]]))
    code, out, _ = run(*OWN)
    assert code == 0
    assert "  BARS: 1 exact copy of other rows dropped\n" in out
    assert "  BARS: 800 bars of 1h" in out


def test_help_shows_what_to_type(run: Run) -> None:
    code, out, _ = run("data", "--help")
    assert code == 0
    assert out.startswith("walkforge data: fetch, resample, check and describe a data set\n")
    assert "'data.path=\"{symbol}.csv\"' data.symbols=[btc,eth]" in out


def test_columns_are_mapped_without_a_plus(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv")
    text = (tmp_path / "bars.csv").read_text().replace("close", "Traded", 1)
    (tmp_path / "bars.csv").write_text(text)
    code, _, err = run(*OWN, "data.check=true")
    assert (code, err.count("\n")) == (2, 1)
    assert "data.columns.close=NAME" in err
    assert run(*OWN, "data.check=true", "data.columns.close=Traded")[0] == 0


@pytest.mark.parametrize("verb", ["data", "study", "walk-forward"])
def test_the_checks_of_the_yaml_are_those_of_the_code(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["walkforge"])
    (config,) = compose_configs(verb, [])
    assert config.data.severity == CHECKS | {"gaps": "ignore"}  # of the embedded data
    assert (config.data.max_age, config.data.max_gap_days) == (DataSpec().max_age, DataSpec().max_gap_days)


def test_on_a_terminal_of_80_columns_the_table_is_whole(tmp_path: Path) -> None:
    """In a real pseudo-terminal: every word of the findings is there and no line is cut or wider."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    write_bars(tmp_path / "bars.csv", hole=True, split=True)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    command = [sys.executable, "-m", "optimize", *OWN, "data.check=true"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "", "TERM": "dumb"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=theirs, check=False)
    out = b""
    with open(theirs, "wb", buffering=0), open(ours, "rb", buffering=0) as screen:
        while b"refused: " not in out:
            out += screen.read(65536)
    lines = out.decode().replace("\r", "").splitlines()
    table = lines[2 : next(row for row, line in enumerate(lines) if line.startswith("refused"))]
    assert done.returncode == 2
    assert max(map(len, table)) <= 80
    words = " ".join(" ".join(table).split())
    for word in ("split", "refuse", "gaps", "warn", "2024-01-17T16:00:00Z", "data.severity.split=warn"):
        assert word in words


def test_the_last_months_are_whole_calendar_months() -> None:
    everything, three = load_bars(DataSpec()), load_bars(DataSpec(months=3))
    end = pd.Timestamp(int(everything.bar_end[-1]), tz="UTC")
    first = pd.Timestamp(int(three.timestamp[0]), tz="UTC")
    assert pd.Timedelta(0) <= first - (end - pd.DateOffset(months=3)) < pd.Timedelta(days=3)
    assert np.array_equal(three.close, everything.close[-three.n_bars :])
    assert three.timestamp[-1] == everything.timestamp[-1]
    assert load_bars(DataSpec(months=120)).n_bars == everything.n_bars


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_bars_and_features_become_one_table(run: Run, tmp_path: Path, suffix: str) -> None:
    small = ["data=synthetic", "data.synthetic.bars=1500"]
    code, out, err = run("data", *small, "features=true", f"output=out.{suffix}")
    assert (code, err) == (0, "")
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    table = read(tmp_path / f"out.{suffix}")
    assert list(table.columns[:3]) == ["timestamp", "known_at", "symbol"]
    assert {"open", "close", "returns", "rsi", "session"} <= set(table.columns)
    assert table.notna().all(axis=None)
    known = pd.to_datetime(table["known_at"]) - pd.to_datetime(table["timestamp"])
    assert (known == pd.Timedelta("1h")).all()
    assert f"{len(table):,} rows" in out
    assert [path.name for path in tmp_path.glob("*out*")] == [f"out.{suffix}"]


@pytest.mark.parametrize(
    "words", [["features=true"], ["output=x.xlsx"], ["output=absent/x.csv"]], ids=" ".join
)
def test_an_output_that_cannot_be_is_refused(run: Run, words: list[str]) -> None:
    code, _, err = run("data", "data=synthetic", "data.synthetic.bars=1500", *words)
    assert code == 2
    assert err.count("\n") == 1
