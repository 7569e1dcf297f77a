"""Planted defects: each is found, named and dated, and nothing else is."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.types import FloatArray
from optimize.data.calendars.spec import SessionSpec
from optimize.data.market import load_bars
from optimize.data.quality import report as quality_report
from optimize.data.quality.findings import QualityFinding
from optimize.data.quality.report import QualityReport, enforce_report, inspect_bars
from optimize.data.spec import CHECKS, DataSpec, SyntheticSpec
from optimize.errors import BadInputError
from tests.optimize.data.quality.qualities import (
    PRICES,
    Plant,
    counts,
    hours,
    new_york,
    ohlcv,
    report_of,
    split,
)


def cell(row: int, column: str, value: float) -> Plant:
    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[row, column] = value
        return frame

    return plant


def swapped(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[[5, 6], "timestamp"] = frame.loc[[6, 5], "timestamp"].to_numpy()
    return frame


def repeated(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with a second row of the eighth stamp, of another volume."""
    return pd.concat([frame[:8], frame[7:8].assign(volume=1.0), frame[8:]])


def crossed(frame: pd.DataFrame) -> pd.DataFrame:
    frame["high"] = np.where(np.arange(len(frame)) == 9, 0.99 * frame["low"], frame["high"])
    return frame


def louder(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[700:, "volume"] *= 10
    return frame


def frozen(name: str) -> Plant:
    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        if name != "volume":
            frame[PRICES] = 100.0
            frame["high"] = frame["low"] = 100.0
        frame[name] = 100.0
        return frame

    return plant


PLANTED: list[tuple[str, Plant, dict[str, int], str]] = [
    ("order", swapped, {"order": 1}, "2024-01-01T05:00:00Z"),
    ("duplicates", repeated, {"duplicates": 1}, "2024-01-01T07:00:00Z"),
    ("nan", cell(9, "close", np.nan), {"nan": 1, "gaps": 1}, "2024-01-01T09:00:00Z"),
    ("infinite", cell(9, "volume", np.inf), {"nan": 1, "gaps": 1}, "2024-01-01T09:00:00Z"),
    ("infinite price", cell(9, "close", np.inf), {"nan": 1, "gaps": 1}, "2024-01-01T09:00:00Z"),
    ("minus infinity", cell(9, "open", -np.inf), {"nan": 1, "price": 1, "gaps": 1}, "2024-01-01T09:00:00Z"),
    ("price", cell(9, "low", 0.0), {"price": 1, "gaps": 1}, "2024-01-01T09:00:00Z"),
    ("negative", cell(9, "volume", -1.0), {"negative": 1}, "2024-01-01T09:00:00Z"),
    ("ohlc", crossed, {"ohlc": 1}, "2024-01-01T09:00:00Z"),
    ("gaps", lambda f: f.drop(index=range(100, 105)), {"gaps": 1}, "2024-01-05T03:00:00Z"),
    ("hole", lambda f: f.drop(index=range(100, 1000)), {"hole": 1}, "2024-01-05T03:00:00Z"),
    ("zero volume", cell(9, "volume", 0.0), {"zero_volume": 1}, "2024-01-01T09:00:00Z"),
    ("no volume", lambda f: f.drop(columns="volume"), {"zero_volume": 1440}, "2024-01-01T00:00:00Z"),
    ("constant volume", frozen("volume"), {"constant": 1440}, "2024-01-01T00:00:00Z"),
    ("split", split(700, 2), {"split": 1}, "2024-01-30T04:00:00Z"),
    ("reverse split", split(700, 1 / 10), {"split": 1, "volume_level": 1}, "2024-01-30T04:00:00Z"),
    ("split at the end", split(1438, 3), {"split": 1}, "2024-02-29T22:00:00Z"),
    ("volume level", louder, {"volume_level": 1}, "2024-01-3"),
]


@pytest.mark.parametrize(
    ("plant", "expected", "first"), [row[1:] for row in PLANTED], ids=[row[0] for row in PLANTED]
)
def test_a_planted_defect_is_found_and_dated_and_nothing_else(
    tmp_path: Path, plant: Plant, expected: dict[str, int], first: str
) -> None:
    report = report_of(plant(hours()), tmp_path)
    assert counts(report) == expected
    named = next(each for each in report.findings if each.check == next(iter(expected)))
    assert str(named.first).startswith(first)
    assert named.source == str(tmp_path / "x.parquet")
    assert named.symbol == "X"
    assert named.severity == CHECKS[named.check]
    assert report.passed == (named.severity != "refuse")


def test_a_dead_market_is_refused(tmp_path: Path) -> None:
    found = counts(report_of(frozen("close")(hours()), tmp_path))
    assert {"constant_close", "constant"} <= found.keys()


def test_all_defects_are_found_at_once_and_the_gravest_come_first(tmp_path: Path) -> None:
    frame = louder(split(300, 2)(cell(9, "close", np.nan)(hours().drop(index=range(900, 905)))))
    report = report_of(pd.concat([frame[:20], frame[19:20].assign(volume=1.0), frame[20:]]), tmp_path)
    assert counts(report) == {"duplicates": 1, "nan": 1, "split": 1, "gaps": 2, "volume_level": 1}
    assert [each.severity for each in report.findings] == ["refuse"] * 3 + ["warn"] * 2


@pytest.mark.parametrize("kind", ["random_walk", "known_optimum", "known_timeframe"])
@pytest.mark.parametrize("volatility", [0.002, 0.03])
def test_clean_synthetic_bars_are_silent(kind: str, volatility: float) -> None:
    for seed in range(5):
        made = SyntheticSpec(kind=kind, bars=3000, seed=seed, volatility=volatility)
        assert inspect_bars(DataSpec(provider="synthetic", synthetic=made), SessionSpec()).findings == ()


def test_clean_sessions_are_silent_over_a_clock_change(tmp_path: Path) -> None:
    report = report_of(new_york(), tmp_path, timeframe="30m")
    assert (report.calendar, report.findings) == ("XNYS", ())


def test_new_york_stamps_taken_for_utc_are_refused_with_the_remedy(tmp_path: Path) -> None:
    frame = new_york(minutes=15, zone="America/New_York")
    (finding,) = report_of(frame, tmp_path, timeframe="15m").findings
    assert (finding.check, finding.severity) == ("time_zone", "refuse")
    assert "data.time_zone=America/New_York" in finding.remedy
    frame["timestamp"] = frame["timestamp"].dt.tz_localize(None)
    assert report_of(frame, tmp_path, timeframe="15m", time_zone="America/New_York").findings == ()


def extended(zone: str = "UTC") -> pd.DataFrame:
    days = [day for day in pd.bdate_range("2024-01-02", "2024-01-12", tz="America/New_York")]
    stamps = [day + pd.Timedelta(minutes=30 * step) for day in days for step in range(8, 40)]
    return ohlcv(pd.DatetimeIndex(stamps).tz_convert(zone).tz_localize(None))


def test_us_extended_hours_are_named_and_dropped_on_request(tmp_path: Path) -> None:
    report = report_of(extended(), tmp_path, timeframe="30m")
    (finding,) = report.findings
    assert (report.calendar, finding.check, finding.severity) == ("XNYS", "calendar", "refuse")
    assert "US extended hours (04:00 to 20:00 New York)" in finding.found
    assert finding.remedy == "set session.outside=drop"
    data = DataSpec(provider="file", path=str(tmp_path / "x.parquet"), timeframe="30m")
    regular = inspect_bars(data, SessionSpec(outside="drop"))
    assert regular.findings == ()
    assert regular.coverage[0].rows == 9 * 13
    kept = replace(data, severity={"calendar": "warn"})
    assert inspect_bars(kept, SessionSpec()).passed


def test_us_extended_hours_in_local_time_are_named_with_both_options(tmp_path: Path) -> None:
    (finding,) = report_of(extended("America/New_York"), tmp_path, timeframe="30m").findings
    assert finding.check == "time_zone"
    assert finding.remedy == "set data.time_zone=America/New_York session.outside=drop"


def test_some_bars_before_and_after_the_session_are_named_by_their_hours(tmp_path: Path) -> None:
    frame = extended()
    local = frame["timestamp"].dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    minute = local.dt.hour * 60 + local.dt.minute
    report = report_of(frame[(minute >= 8 * 60) & (minute < 17 * 60)], tmp_path, timeframe="30m")
    assert counts(report) == {"outside_session": 9 * 5}
    assert "on most days 08:00 to 09:30 and 16:00 to 17:00" in report.findings[0].found
    assert "session.outside=drop" in report.findings[0].remedy


def test_prints_after_an_early_close_are_counted_apart(tmp_path: Path) -> None:
    frame = new_york(until="2024-07-12")  # 2024-05-27, 06-19, 07-04 are holidays, 07-03 ends at 13:00
    report = report_of(frame, tmp_path, timeframe="30m")
    (finding,) = [each for each in report.findings if each.check == "outside_session"]
    assert finding.count == 3 * 13 + 6
    assert "6 of them after an early close" in finding.found


def test_sessions_that_lack_their_exit_bar_are_named(tmp_path: Path) -> None:
    frame = new_york(minutes=15)
    local = frame["timestamp"].dt.tz_convert("America/New_York")
    kept = ~((local.dt.strftime("%m-%d") == "03-11") & (local.dt.hour >= 15))
    report = report_of(frame[kept], tmp_path, timeframe="15m")
    assert counts(report) == {"gaps": 1, "missing_exit": 1}
    assert "(2024-03-11)" in next(each.found for each in report.findings if each.check == "missing_exit")
    data = DataSpec(provider="file", path=str(tmp_path / "x.parquet"), timeframe="15m")
    held = inspect_bars(data, SessionSpec(flat_overnight=False))
    assert counts(held) == {"gaps": 1}
    coarse = report_of(frame[kept], tmp_path, timeframe="30m")  # no whole session has a bar that late
    assert counts(coarse) == {"gaps": 1}


def test_a_daily_gap_is_a_session_without_a_bar(tmp_path: Path) -> None:
    days = pd.bdate_range("2024-01-16", "2024-02-16", tz="UTC")
    frame = ohlcv(days.delete([4, 5, 9]), volatility=0.01)
    (finding,) = report_of(frame, tmp_path, timeframe="1d").findings
    assert (finding.check, finding.count) == ("gaps", 2)
    assert "3 bars missing in 3 of 24 sessions" in finding.found


def ragged(folder: Path) -> QualityReport:
    frame = hours()
    frame.to_parquet(folder / "a.parquet")
    frame[3:].to_parquet(folder / "b.parquet")
    frame[:-22].to_parquet(folder / "c.parquet")
    path = str(folder / "{symbol}.parquet")
    return inspect_bars(DataSpec(provider="file", path=path, symbols=["a", "b", "c"]), SessionSpec())


def test_symbols_that_begin_or_end_apart_are_named(tmp_path: Path) -> None:
    found = [(each.check, each.symbol, each.count, each.found) for each in ragged(tmp_path).findings]
    assert found == [
        ("ragged", "b", 3, "begins 3 h after the others (3 bars of 1h)"),
        ("ragged", "c", 22, "ends 22 h before the others (22 bars of 1h)"),
    ]


def test_symbols_of_two_timeframes_are_refused(tmp_path: Path) -> None:
    hours().to_parquet(tmp_path / "a.parquet")
    ohlcv(pd.date_range("2024-01-01", periods=50, tz="UTC")).to_parquet(tmp_path / "b.parquet")
    spec = DataSpec(provider="file", path=str(tmp_path / "{symbol}.parquet"), symbols=["a", "b"])
    (finding,) = [each for each in inspect_bars(spec, SessionSpec()).findings if each.check == "timeframe"]
    assert finding.found == "b has 1d bars, a 1h"


def test_bars_older_than_max_age_are_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality_report, "now", lambda: datetime(2024, 3, 8, tzinfo=UTC))  # the data end 03-01
    assert report_of(hours(), tmp_path, max_age=7.0).findings == ()
    report = report_of(hours(), tmp_path, max_age=6.9)
    assert counts(report) == {"stale": 1}
    assert "ended 7.0 days ago" in report.findings[0].found
    assert not report.passed
    (covered,) = report.coverage
    assert (covered.age_days, covered.days, covered.rows) == (7.0, 60.0, 1440)


def test_only_the_months_asked_for_are_judged(tmp_path: Path) -> None:
    frame = split(100, 2)(hours())
    assert counts(report_of(frame, tmp_path)) == {"split": 1}
    assert report_of(frame, tmp_path, months=1).findings == ()


def test_a_severity_is_what_the_configuration_says(tmp_path: Path) -> None:
    frame = split(700, 2)(hours().drop(index=range(100, 105)))
    severity = {"split": "warn", "gaps": "ignore"}
    report = report_of(frame, tmp_path, severity=severity)
    assert [(each.check, each.severity) for each in report.findings] == [("split", "warn")]
    assert report.passed
    stricter = report_of(frame, tmp_path, severity={"gaps": "refuse"})
    assert [each.severity for each in stricter.findings] == ["refuse", "refuse"]


def test_what_the_report_passes_can_be_loaded_and_what_breaks_bars_cannot(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    cell(9, "high", 1.0)(hours()).to_parquet(path)
    spec = {"provider": "file", "path": str(path)}
    with pytest.raises(
        BadInputError, match=r"x\.parquet: 1 bar that break .*; at 2024-01-01T09:00:00Z: repair"
    ):
        load_bars(DataSpec(**spec))  # type: ignore[arg-type]  # the settings are texts
    assert load_bars(DataSpec(**spec, severity={"ohlc": "warn"})).n_bars == 1440  # type: ignore[arg-type]


def test_enforcing_says_the_warnings_and_raises_on_a_refusal(tmp_path: Path) -> None:
    said: list[str] = []
    frame = hours().drop(index=range(100, 105))
    enforce_report(report_of(frame, tmp_path), said.append)
    assert said[0].startswith("warn gaps X: 1 gap in open market time, 5 bars missing")
    assert len(said[0]) <= 160
    assert said[1:] == ["dates and remedies: walkforge data data.check=true, with the same data keys"]
    enforce_report(report_of(frame, tmp_path), said.append, again=True)
    assert len(said) == 2
    broken = pd.concat([split(700, 2)(frame)[:20], frame[19:20].assign(volume=1.0), frame[20:]])
    with pytest.raises(BadInputError, match=r"1 duplicated stamp; at .*keep one row") as caught:
        enforce_report(report_of(broken, tmp_path), said.append)
    assert "\n" not in str(caught.value)


def test_the_span_of_unsorted_bars_runs_forward(tmp_path: Path) -> None:
    frame = hours()
    (finding,) = report_of(pd.concat([frame[700:], frame[:700][::-1]]), tmp_path).findings
    assert (finding.check, finding.count) == ("order", 700)
    assert (finding.first, finding.last) == ("2024-01-01T00:00:00Z", "2024-01-30T03:00:00Z")


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        ({"provider": "file"}, "use a file of prices adjusted for splits"),
        ({"provider": "alpaca", "adjustment": "raw"}, "set data.adjustment=split, or all"),
        ({"provider": "alpaca", "adjustment": "all"}, "delete the stored file and download it again"),
        ({"provider": "yfinance"}, "delete the stored file and download it again"),
    ],
)
def test_the_remedy_of_a_split_is_that_of_its_source(data: dict[str, str], remedy: str) -> None:
    spec = DataSpec(**data)  # type: ignore[arg-type]  # the settings are texts
    assert quality_report.split_remedy(spec).startswith(remedy)


@pytest.mark.parametrize(
    ("column", "expected", "words"),
    [
        (
            np.arange(1440) >= 24,
            {"zero_spread": 24},
            "24 bars (1.67 %) with a spread of 0, 24 of them in one",
        ),
        (np.arange(1440) >= 23, {}, ""),
        (
            np.arange(1440) % 10 > 0,
            {"zero_spread": 144},
            "144 bars (10 %) with a spread of 0, 1 of them in one",
        ),
        (np.arange(1440) % 100 > 0, {}, ""),
        (np.zeros(1440), {}, ""),  # a spread that is never there is refused by name where it is to be paid
    ],
)
def test_stretches_without_a_spread_are_said(
    tmp_path: Path, column: FloatArray, expected: dict[str, int], words: str
) -> None:
    report = report_of(hours().assign(spread=0.01 * column), tmp_path)
    assert counts(report) == expected
    assert all(words in each.found and "cost.spread_from_data" in each.remedy for each in report.findings)


def test_few_rows_are_a_finding_and_no_crash(tmp_path: Path) -> None:
    for rows in (1, 2, 3):
        report = report_of(hours()[:rows], tmp_path, "24/7")
        assert counts(report) == ({"rows": 1} if rows == 1 else {})
    report = report_of(cell(0, "close", np.nan)(hours()[:2]), tmp_path)
    assert counts(report) == {"nan": 1}
    assert report.coverage == ()


def test_a_spacing_that_is_no_timeframe_is_refused_and_named(tmp_path: Path) -> None:
    frame = ohlcv(pd.date_range("2024-01-01", periods=50, freq="37s", tz="UTC"))
    (finding,) = report_of(frame, tmp_path).findings
    assert isinstance(finding, QualityFinding)
    assert finding.found == (
        "the most frequent spacing is 37 s, and bars are whole minutes, or seconds that divide one"
    )
    assert finding.remedy.startswith("resample the file")
