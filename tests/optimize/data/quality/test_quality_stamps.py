"""Rows that are still trading, come twice or lie ahead, and files of two spacings."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from optimize.data.quality import report as quality_report
from tests.optimize.data.quality.qualities import counts, hours, ohlcv, report_of


def days(count: int = 40) -> pd.DataFrame:
    return ohlcv(pd.date_range("2024-01-01", periods=count, tz="UTC"), volatility=0.01)


def moved(frame: pd.DataFrame, by: pd.Timedelta) -> "pd.Series[pd.Timestamp]":
    return frame["timestamp"].where(frame.index != len(frame) - 1, frame["timestamp"] + by)


def test_bars_after_now_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality_report, "now", lambda: datetime(2024, 2, 29, 20, 30, tzinfo=UTC))
    report = report_of(hours(), tmp_path)
    assert counts(report) == {"future": 3}
    assert not report.passed


def test_a_bar_that_has_not_ended_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality_report, "now", lambda: datetime(2024, 2, 29, 23, 30, tzinfo=UTC))
    report = report_of(hours(), tmp_path)
    assert counts(report) == {"unfinished": 1}
    assert report.passed
    assert "the last bar ends in 30 min" in report.findings[0].found


def test_a_last_row_stamped_unlike_all_others_is_named(tmp_path: Path) -> None:
    frame = days()
    frame["timestamp"] = moved(frame, pd.Timedelta(hours=9, minutes=37, seconds=5))
    (finding,) = report_of(frame, tmp_path, timeframe="1d").findings
    assert finding.check == "unfinished"
    assert "2024-02-09T09:37:05Z, unlike all others" in finding.found


def test_two_daily_rows_of_one_date_are_refused(tmp_path: Path) -> None:
    frame = days()
    frame["timestamp"] = moved(frame, -pd.Timedelta(hours=14, minutes=23))
    found = counts(report_of(frame, tmp_path, timeframe="1d"))
    assert found["session_twice"] == 1


@pytest.mark.parametrize(("first", "second", "said"), [("h", "5min", "1 h from"), ("5min", "h", "1 h from")])
def test_a_file_of_two_spacings_says_where_they_change(
    tmp_path: Path, first: str, second: str, said: str
) -> None:
    head = pd.date_range("2024-01-01", periods=30, freq=first, tz="UTC")
    tail = pd.date_range(head[-1], periods=40, freq=second, tz="UTC")[1:]
    report = report_of(
        ohlcv(pd.DatetimeIndex(head.append(tail))), tmp_path, timeframe="5m", source_timeframe="5m"
    )
    (finding,) = [each for each in report.findings if each.check in ("spacing", "timeframe")]
    assert finding.severity == "refuse"
    assert said in finding.found or "most frequent spacing" in finding.found


def test_opens_that_are_the_close_before_are_named(tmp_path: Path) -> None:
    frame = hours()
    frame["open"] = frame["close"].shift(fill_value=100.0)
    frame["high"] = frame[["open", "high", "close"]].max(axis=1)
    frame["low"] = frame[["open", "low", "close"]].min(axis=1)
    (finding,) = report_of(frame, tmp_path).findings
    assert (finding.check, finding.severity) == ("seen_open", "warn")
    frame["open"] = frame["open"].where(frame.index % 50 > 0, frame["high"])
    assert report_of(frame, tmp_path).findings == ()
