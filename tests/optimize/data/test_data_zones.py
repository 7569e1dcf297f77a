"""Broker time: a zone's clock with whole hours added."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimize.data.calendars.zones import Clock, is_clock, localize, parse_clock, wall_time
from optimize.errors import BadInputError
from tests.optimize.data.csv_files import load, write
from tests.optimize.data.samples import stamp

BROKER = "America/New_York+7"


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("UTC", Clock("UTC")),
        ("UTC+2", Clock("UTC", 2)),
        (BROKER, Clock("America/New_York", 7)),
        ("Asia/Tokyo-9", Clock("Asia/Tokyo", -9)),
        ("Etc/GMT+5", Clock("Etc/GMT+5")),
        ("Etc/GMT+5+2", Clock("Etc/GMT+5", 2)),
    ],
)
def test_a_clock_is_a_zone_or_one_with_whole_hours_added(text: str, clock: Clock) -> None:
    assert parse_clock(text) == clock
    assert clock.text == text


@pytest.mark.parametrize("text", ["", "+7", "New York", "America/New_York+7.5", "UTC+15", "UTC+", "America"])
def test_other_texts_are_no_clock(text: str) -> None:
    assert not is_clock(text)
    with pytest.raises(BadInputError, match=r"data\.time_zone=.* must be an IANA name"):
        parse_clock(text)


def test_wall_time_and_instants_are_inverse_over_a_clock_change() -> None:
    clock = parse_clock(BROKER)
    stamps = pd.date_range("2024-03-08", "2024-03-14", freq="4h", tz="UTC")
    assert localize(wall_time(stamps, clock), clock).tz_convert("UTC").equals(stamps)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["2024-03-08 00:00", "2024-03-08 01:00"], "2024-03-07T22:00"),
        (["2024-03-11 00:00", "2024-03-11 01:00"], "2024-03-10T21:00"),  # New York's summer, not yet Europe's
        ([stamp("2024-03-11T00:00") // 10**9, stamp("2024-03-11T01:00") // 10**9], "2024-03-10T21:00"),
        (["2024-03-11 00:00Z", "2024-03-11 01:00Z"], "2024-03-11T00:00"),
    ],
    ids=["winter", "summer", "numbers on the broker's clock", "stamps with an offset"],
)
def test_files_are_read_in_broker_time(tmp_path: Path, column: list[Any], expected: str) -> None:
    bars = load(write(tmp_path / "a.csv", column), time_zone=BROKER)
    np.testing.assert_array_equal(bars.timestamp, stamp(expected) + np.arange(2) * 3_600_000_000_000)


def test_numbers_are_utc_in_any_zone_without_hours(tmp_path: Path) -> None:
    numbers = [stamp("2024-03-11T00:00") // 10**9, stamp("2024-03-11T01:00") // 10**9]
    bars = load(write(tmp_path / "a.csv", numbers), time_zone="America/New_York")
    assert bars.timestamp[0] == stamp("2024-03-11T00:00")
