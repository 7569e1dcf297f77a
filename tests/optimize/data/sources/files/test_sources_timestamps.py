from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.errors import BadInputError
from tests.optimize.data.csv_files import HOURS, assumed, load, write
from tests.optimize.data.samples import stamp, stamps


@pytest.mark.parametrize(
    "column",
    [
        HOURS,
        [text.replace(" ", "T") + "Z" for text in HOURS],
        [text.replace(" ", "T") + "+00:00" for text in HOURS],
        [f"01.03.2024 {hour:02d}:00:00.000" for hour in range(6)],
        [stamp(text) // 10**9 for text in HOURS],
        [stamp(text) // 10**6 for text in HOURS],
        [f"{stamp(text) // 10**9}.0" for text in HOURS],
        [stamp(text) for text in HOURS],
    ],
    ids=["naive", "zulu", "offset", "dotted", "seconds", "milliseconds", "float_seconds", "nanoseconds"],
)
def test_csv_stamps_in_every_form_are_the_same_utc(tmp_path: Path, column: list[Any]) -> None:
    bars = load(write(tmp_path / "eurusd_1h.csv", column))
    np.testing.assert_array_equal(bars.timestamp, stamps("2024-03-01", 6, "1h"))
    assert bars.symbols == ("EURUSD",)
    assert bars.timeframe == "1h"
    assert bars.close[3, 0] == pytest.approx(11.3)


def test_dotted_dates_are_day_first(tmp_path: Path) -> None:
    bars = load(write(tmp_path / "a.csv", [f"{day:02d}.02.2024" for day in range(1, 16)]))
    np.testing.assert_array_equal(bars.timestamp, stamps("2024-02-01", 15, "1d"))


def test_an_ambiguous_date_form_is_read_by_the_format_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [f"03/{day:02d}/2024" for day in range(1, 6)])
    assert load(path, time_format="%m/%d/%Y").timestamp[0] == stamp("2024-03-01")
    with pytest.raises(
        BadInputError, match=r"a\.csv: column 'timestamp' cannot be read as time.*data.time_format"
    ):
        load(path)


@pytest.mark.parametrize(
    ("column", "came", "typed"),
    [
        (["12/30/2020", "12/31/2020"], "'12/30/2020'", ["%m/%d/%Y"]),
        (["30/12/2020 9:30", "31/12/2020 9:30"], "'30/12/2020 9:30'", ["%d/%m/%Y %H:%M"]),
        (
            ["01/02/2020 09:30:00", "02/02/2020 09:30:00"],
            "'01/02/2020",
            ["%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S"],
        ),
    ],
)
def test_dates_with_slashes_say_what_is_read_and_what_to_type(
    tmp_path: Path, column: list[str], came: str, typed: list[str]
) -> None:
    path = write(tmp_path / "a.csv", column)
    with pytest.raises(
        BadInputError, match=r"ISO 8601 \(.*\), dd.mm.yyyy and numbers since 1970 are read"
    ) as caught:
        load(path)
    assert f"it holds {came}" in str(caught.value)
    wanted = " or ".join(f"'data.time_format=\"{each}\"'" for each in typed)
    assert str(caught.value).endswith(f"say which is the month with {wanted}")
    assert load(path, time_format=typed[-1]).n_bars == 2


def test_a_format_that_does_not_fit_is_shown_beside_what_came(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["30/12/2020", "31/12/2020"])
    with pytest.raises(
        BadInputError, match=r"holds '30/12/2020', which 'data.time_format=\"%m/%d/%Y\"' does not"
    ):
        load(path, time_format="%m/%d/%Y")


def test_integer_dates_are_not_taken_for_seconds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [20240301, 20240302, 20240303])
    assert load(path, time_format="%Y%m%d").timestamp[0] == stamp("2024-03-01")
    assert load(path).timestamp[0] == stamp("2024-03-01")
    assert "%Y%m%d" in "".join(assumed(path))
    rows = write(tmp_path / "b.csv", [1, 2, 3])
    with pytest.raises(BadInputError, match="1 to 3 are row numbers or durations, and no times since 1970"):
        load(rows)


def test_local_stamps_follow_the_clock_change(tmp_path: Path) -> None:
    local = ["2024-03-08 09:30", "2024-03-08 10:30", "2024-03-11 09:30", "2024-03-11 10:30"]
    bars = load(write(tmp_path / "a.csv", local), time_zone="America/New_York")
    expected = ["2024-03-08T14:30", "2024-03-08T15:30", "2024-03-11T13:30", "2024-03-11T14:30"]
    np.testing.assert_array_equal(bars.timestamp, [stamp(text) for text in expected])


@pytest.mark.parametrize(
    ("hour", "ways_out"),
    [
        (
            "2024-11-03 01:30:00",
            r"comes twice: give UTC stamps or stamps that .* such as 2024-11-03 01:30:00-04:00",
        ),
        ("2024-03-10 02:30:00", r"is skipped: give UTC stamps or another data.time_zone \(Etc/GMT\+5 is"),
    ],
    ids=["ambiguous", "skipped"],
)
def test_a_local_hour_that_is_not_one_instant_is_refused(tmp_path: Path, hour: str, ways_out: str) -> None:
    path = write(tmp_path / "a.csv", ["2024-03-01 00:00:00", hour])
    words = rf"{hour} in data row 2 is not one instant in data.time_zone=America/New_York.* {ways_out}"
    with pytest.raises(BadInputError, match=words):
        load(path, time_zone="America/New_York")
    rows = write(tmp_path / "b.csv", ["2024-03-01 00:00:00", hour, hour, hour])
    with pytest.raises(BadInputError, match=r"data row 2 \(and 2 more\) is not one instant"):
        load(rows, time_zone="America/New_York")


def test_mixed_zoned_and_naive_stamps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="some stamps name a time zone and some do not"):
        load(write(tmp_path / "a.csv", ["2024-03-01 00:00:00", "2024-03-01 01:00:00Z"]))
