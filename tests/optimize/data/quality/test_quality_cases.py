"""Files as people bring them: each gives one finding with the option that mends it."""

from pathlib import Path
from typing import Any

import pytest

from optimize.data.calendars.spec import SessionSpec
from optimize.data.quality.report import inspect_bars
from optimize.data.spec import DataSpec

pytestmark = pytest.mark.market_data

NEW_YORK: dict[str, Any] = {"timeframe": "30m", "time_zone": "America/New_York"}
HISTDATA: dict[str, Any] = {"time_format": "%Y%m%d %H%M%S"}
SUMMER = "C37_ny_summer_naive.csv"
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("C05_EURUSD_H1_mt5.csv", {}, "time_zone", "data.time_zone=America/New_York+7"),
    (
        "C06_DAT_ASCII_EURUSD_header.csv",
        {"time_format": "%Y%m%d %H%M%S"},
        "time_zone",
        "data.time_zone=Etc/GMT+5",
    ),
    ("C08_shanghai_naive_30m.csv", {"timeframe": "30m"}, "time_zone", "session.calendar=XSHG"),
    ("C08_shanghai_naive_30m.csv", NEW_YORK, "time_zone", "session.calendar=XSHG"),
    ("C10_london_utc_1h.csv", {}, "calendar", "session.calendar=XLON"),
    ("C11_endstamps_ny_30m.csv", NEW_YORK, "stamp_end", "data.stamp=end"),
    ("C14_live_last_row.csv", {"timeframe": "1d"}, "unfinished", "leave it out"),
    ("C16_cent_row.csv", {"timeframe": "1d"}, "spike", "repair"),
    ("C16_high_x100.csv", {"timeframe": "1d"}, "spike", "repair"),
    ("C16_low_100th.csv", {"timeframe": "1d"}, "spike", "repair"),
    (
        "C37_ny_summer_naive.csv",
        NEW_YORK | {"time_zone": "EST"},
        "time_zone",
        "data.time_zone=America/New_York",
    ),
    (SUMMER, NEW_YORK | {"time_zone": "Europe/London"}, "time_zone", "=America/New_York"),
    ("C38_future.csv", {"timeframe": "1d"}, "future", "data.time_zone"),
    ("C39_split_12for1.csv", {"timeframe": "1d"}, "split", "adjusted for splits"),
    ("C39_split_1for12.csv", {"timeframe": "1d"}, "split", "adjusted for splits"),
    ("C44_mixed_resolution.csv", {"timeframe": "5m"}, "spacing", "one spacing"),
]


@pytest.mark.parametrize(("file", "settings", "check", "option"), CASES)
def test_a_file_gives_the_finding_that_mends_it(
    market_data: Path, file: str, settings: dict[str, Any], check: str, option: str
) -> None:
    path = market_data.parent / "cases" / "files" / file
    report = inspect_bars(DataSpec(provider="file", path=str(path), **settings), SessionSpec())
    (finding,) = [each for each in report.findings if each.check == check]
    assert option in finding.remedy
    others = [each.check for each in report.findings if each.severity == "refuse" and each is not finding]
    assert others == []
    assert report.passed == (finding.severity == "warn")


def test_a_file_read_as_it_should_be_is_clean(market_data: Path) -> None:
    path = market_data.parent / "cases" / "files" / "C37_ny_summer_naive.csv"
    assert inspect_bars(DataSpec(provider="file", path=str(path), **NEW_YORK), SessionSpec()).findings == ()
