"""The span and the spacing of bars: against data.months, data.source_timeframe and data.timeframe."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.data.calendars.spec import SessionSpec
from optimize.data.market import load_bars
from optimize.data.quality.report import QualityReport, enforce_report, inspect_bars
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from tests.optimize.data.quality.qualities import counts, hours, new_york, ohlcv, report_of


def several(folder: Path, months: int, **severity: str) -> QualityReport:
    """Return the report on 60 days of A and the first 20 of B, as far as the last months go."""
    hours().to_parquet(folder / "a.parquet")
    hours()[: 24 * 20].to_parquet(folder / "b.parquet")
    path = str(folder / "{symbol}.parquet")
    data = DataSpec(provider="file", path=path, symbols=["a", "b"], months=months, severity=severity)
    return inspect_bars(data, SessionSpec())


def test_a_symbol_that_ended_before_the_months_asked_for_is_refused_by_name(tmp_path: Path) -> None:
    report = several(tmp_path, months=1)
    (finding,) = report.findings
    assert (finding.check, finding.symbol, finding.severity) == ("ended", "b", "refuse")
    assert (
        finding.found == "it ended, with no bar in the last data.months=1, which begin 2024-02-01T00:00:00Z"
    )
    assert finding.first == finding.last == "2024-01-20T23:00:00Z"
    assert finding.source == str(tmp_path / "b.parquet")
    assert "data.symbols" in finding.remedy
    assert [each.symbol for each in report.coverage] == ["a"]
    assert not report.passed
    assert counts(several(tmp_path, months=2)) == {"ragged": 24 * 40}


def test_a_symbol_that_ended_may_stay_where_that_is_wished(tmp_path: Path) -> None:
    report = several(tmp_path, months=1, ended="warn")
    assert (report.passed, [each.severity for each in report.findings]) == (True, ["warn"])
    path = str(tmp_path / "{symbol}.parquet")
    bars = load_bars(DataSpec(provider="file", path=path, symbols=["a", "b"], months=1))
    assert (bars.tradable.any(axis=0)).tolist() == [True, False]
    assert several(tmp_path, months=1, ended="ignore").findings == ()


def test_a_span_shorter_than_the_months_asked_for_is_said(tmp_path: Path) -> None:
    report = report_of(hours(), tmp_path, months=24)
    (finding,) = report.findings
    assert (finding.check, finding.severity, finding.first) == ("short", "warn", "2024-01-01T00:00:00Z")
    assert finding.found == "data.months=24 asked for, 1.97 found"
    assert report_of(hours(), tmp_path, months=2).findings == ()  # to the end of February: all there is
    assert counts(report_of(hours(), tmp_path, months=3)) == {"short": 1}


def test_a_span_that_begins_after_a_weekend_or_a_holiday_is_whole(tmp_path: Path) -> None:
    frame = ohlcv(pd.bdate_range("2024-01-02", "2024-03-29", tz="UTC")[:-1], volatility=0.01)
    holidays = frame["timestamp"].dt.strftime("%m-%d").isin(["01-15", "02-19"])
    assert report_of(frame[~holidays], tmp_path, "XNYS", timeframe="1d", months=3).findings == ()


@pytest.mark.parametrize(
    ("claimed", "words"), [("5m", "spacing of the stamps is 1h"), ("4h", "spacing of the stamps is 1h")]
)
def test_a_source_timeframe_that_the_stamps_contradict_is_refused(
    tmp_path: Path, claimed: str, words: str
) -> None:
    (finding,) = report_of(hours(), tmp_path, timeframe="1d", source_timeframe=claimed).findings
    assert (finding.check, finding.severity, finding.count) == ("timeframe", "refuse", 1440)
    assert finding.found == f"data.source_timeframe={claimed}, but the most frequent {words}"
    spec = DataSpec(provider="file", path=str(tmp_path / "x.parquet"), source_timeframe=claimed)
    with pytest.raises(BadInputError, match=rf"data.source_timeframe={claimed}, but .* is 1h") as caught:
        load_bars(spec)
    assert "\n" not in str(caught.value)


def test_a_source_timeframe_that_few_stamps_show_is_believed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    minutes = ohlcv(pd.date_range("2024-01-01", periods=4000, freq="min", tz="UTC"))
    thin = minutes[rng.random(len(minutes)) < 0.1]  # one in ten minutes trades
    assert "timeframe" not in counts(report_of(thin, tmp_path, timeframe="1m", source_timeframe="1m"))
    halves = new_york(30)
    coarse = halves[
        halves["timestamp"].dt.tz_convert("America/New_York").dt.strftime("%H:%M").isin(["09:30", "13:30"])
    ]
    assert counts(report_of(coarse, tmp_path, timeframe="4h", source_timeframe="4h")) == {}
    assert counts(report_of(hours()[:2], tmp_path, "24/7", source_timeframe="1h")) == {}


@pytest.mark.parametrize(
    ("timeframe", "why"),
    [("30m", "finer than the source's 4h"), ("6h", "not a multiple of the source's 4h")],
)
def test_a_timeframe_that_cannot_be_made_is_refused_by_the_check(
    tmp_path: Path, timeframe: str, why: str
) -> None:
    frame = ohlcv(pd.date_range("2024-01-01", periods=400, freq="4h", tz="UTC"))
    (finding,) = report_of(frame, tmp_path, timeframe=timeframe).findings
    assert (finding.check, finding.severity) == ("timeframe", "refuse")
    assert finding.found == f"data.timeframe={timeframe} is {why}"
    assert finding.remedy == "set data.timeframe=4h, or coarser (12h, 1d)"


def fives(shift: str = "0min", rows: slice = slice(0, 0)) -> pd.DataFrame:
    """Return 5m bars, some of them stamped later."""
    frame = ohlcv(pd.date_range("2024-01-01", periods=2000, freq="5min", tz="UTC"))
    frame.loc[frame.index[rows], "timestamp"] += pd.Timedelta(shift)
    return frame


def test_bars_off_the_grid_are_refused_for_they_cut_the_bar_before_short(tmp_path: Path) -> None:
    report = report_of(fives("3min", slice(100, 1900, 450)), tmp_path, timeframe="5m")
    assert counts(report) == {"off_grid": 4, "gaps": 4}
    finding = report.findings[0]
    assert (finding.check, finding.severity, finding.count) == ("off_grid", "refuse", 4)
    assert finding.found == "4 bars (0.2 %) off the grid of 5m, in the median 3 min past it"
    assert "cut the bar before them short" in finding.remedy


def test_a_grid_of_its_own_is_told_apart_and_can_be_kept(tmp_path: Path) -> None:
    frame = fives("3min", slice(0, 2000))
    (finding,) = report_of(frame, tmp_path, timeframe="5m").findings
    assert (finding.check, finding.count) == ("off_grid", 2000)
    assert "data.severity.off_grid=warn takes them as they are" in finding.remedy
    assert report_of(frame, tmp_path, timeframe="5m", severity={"off_grid": "warn"}).passed


@pytest.mark.parametrize(
    ("calendar", "zone", "starts"),
    [
        ("XNYS", "America/New_York", ["09:30", "10:30", "11:30", "12:30", "13:30", "14:30", "15:30"]),
        ("XNYS", "America/New_York", ["09:30", "10:00", "11:00", "12:00", "13:00", "14:00", "15:00"]),
        ("XBOM", "Asia/Kolkata", ["09:15", "10:15", "11:15", "12:15", "13:15", "14:15", "15:15"]),
        ("XTKS", "Asia/Tokyo", ["09:00", "10:00", "11:00", "12:30", "13:30", "14:30"]),
    ],
)
def test_hours_may_begin_on_the_clock_or_where_trading_opens(
    tmp_path: Path, calendar: str, zone: str, starts: list[str]
) -> None:
    days = [f"2024-05-{day:02d}" for day in (7, 8, 9, 10, 13, 14)]
    local = pd.DatetimeIndex([f"{day} {start}" for day in days for start in starts]).tz_localize(zone)
    report = report_of(ohlcv(local.tz_convert("UTC"), volatility=0.001), tmp_path, calendar)
    assert "off_grid" not in counts(report)


def test_a_warning_before_a_study_is_short(tmp_path: Path) -> None:
    said: list[str] = []
    enforce_report(report_of(hours(), tmp_path, months=24), said.append)
    assert said == [
        "warn short X: data.months=24 asked for, 1.97 found",
        "dates and remedies: walkforge data data.check=true, with the same data keys",
    ]


def test_rows_off_the_grid_are_never_kept_beside_another_symbol(tmp_path: Path) -> None:
    late = hours()
    late["timestamp"] += pd.Timedelta("17min")
    for name in "ab":
        late.to_parquet(tmp_path / f"{name}.parquet")
    path = str(tmp_path / "{symbol}.parquet")
    found = inspect_bars(DataSpec(provider="file", path=path, symbols=["a", "b"]), SessionSpec()).findings
    assert [(each.check, each.symbol) for each in found] == [("off_grid", "a"), ("off_grid", "b")]
    assert {each.remedy for each in found} == {"stamp the rows with the start of their bars"}
    assert "data.severity.off_grid=warn" in report_of(late, tmp_path).findings[0].remedy


def test_daily_bars_begin_together_whatever_their_hour(tmp_path: Path) -> None:
    days = pd.bdate_range("2024-01-02", "2024-04-30", tz="UTC")
    for name, stamps in (("a", days), ("b", days + pd.Timedelta("5h")), ("c", days[3:])):
        ohlcv(stamps, volatility=0.01).to_parquet(tmp_path / f"{name}.parquet")
    path = str(tmp_path / "{symbol}.parquet")
    data = DataSpec(provider="file", path=path, symbols=["a", "b", "c"], timeframe="1d")
    found = inspect_bars(data, SessionSpec(calendar="24/5")).findings
    ragged = [(each.symbol, each.found) for each in found if each.check == "ragged"]
    assert ragged == [("c", "begins 3 days after the others (3 bars of 1d)")]


def test_a_period_beyond_the_only_file_names_its_span_and_the_keys_of_the_period(tmp_path: Path) -> None:
    report = report_of(hours(), tmp_path, start="2031-01-01")
    (finding,) = report.findings
    assert "it has no bar in the span of data.start=2031-01-01, and its bars are of 20" in finding.found
    assert finding.remedy.startswith("set data.start and data.end inside that span")
    assert "data.symbols" not in finding.remedy
