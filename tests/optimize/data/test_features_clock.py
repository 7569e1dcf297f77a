"""Session flags, days and the minutes to the close, over clock changes, half days and weekends."""

from pathlib import Path

import numpy as np
import pytest

from optimize.data.bars import Bars
from optimize.data.market import load_bars
from optimize.data.spec import DataSpec
from tests.optimize.data.samples import bars_at, features_of, rows_of, stamp, stamps


def flags(day: str, timeframe: str = "30m") -> dict[str, list[str]]:
    """Return the UTC ends of the bars of a day that each market's flag is up at, first and last."""
    bars = bars_at(stamps(day, 24 * 60 // int(timeframe[:-1]), timeframe), timeframe)
    values, names, _ = features_of(bars, ["session_flags"])
    ends = [str(end)[11:16] for end in bars.bar_end.astype("datetime64[ns]")]
    up = {name: np.flatnonzero(values[:, 0, column]) for column, name in enumerate(names)}
    return {name: [ends[row] for row in rows[[0, -1]]] if len(rows) else [] for name, rows in up.items()}


@pytest.mark.parametrize(
    ("day", "london", "new_york"),
    [
        ("2024-01-10", ["08:30", "16:30"], ["15:00", "21:00"]),  # winter in both
        ("2024-03-12", ["08:30", "16:30"], ["14:00", "20:00"]),  # New York has changed its clocks
        ("2024-04-10", ["07:30", "15:30"], ["14:00", "20:00"]),  # both have
        ("2024-10-29", ["08:30", "16:30"], ["14:00", "20:00"]),  # London has changed back
    ],
)
def test_session_flags_follow_the_clocks_of_their_cities(
    day: str, london: list[str], new_york: list[str]
) -> None:
    tokyo = ["00:30", "06:00"]  # 09:00-15:00 in Tokyo, all year; the first bar of it ends at 09:30
    assert flags(day) == {"session_tokyo": tokyo, "session_london": london, "session_new_york": new_york}


def test_the_bar_that_ends_at_the_open_is_not_in_the_session_and_the_one_at_the_close_is() -> None:
    assert flags("2024-01-10", "5m")["session_new_york"] == ["14:35", "21:00"]


def test_no_session_is_open_on_a_weekend() -> None:
    assert flags("2024-01-13") == {"session_tokyo": [], "session_london": [], "session_new_york": []}


def test_a_weekend_is_that_of_the_calendar() -> None:
    week = bars_at(stamps("2024-01-08", 7 * 24, "1h"), "1h")  # from Monday 00:00 UTC
    values, _, _ = features_of(week, ["day_of_week", "weekend"], "24/7")
    days = np.repeat(np.arange(7), 24)
    np.testing.assert_allclose(values[:, 0, 0], days / 3 - 1, atol=1e-6)
    np.testing.assert_array_equal(values[:, 0, 1], days >= 5)
    currencies = rows_of(week, week.timestamp < stamp("2024-01-12T22:00"))  # the FX week ends there
    values, _, _ = features_of(currencies, ["day_of_week", "weekend"], "24/5")
    assert values[21, 0, 0] == pytest.approx(-1)  # Monday's session ends at 17:00 New York
    assert values[22, 0, 0] == pytest.approx(1 / 3 - 1)
    assert not values[:, 0, 1].any()


def minutes(bars: Bars, calendar: str) -> dict[str, float]:
    values, _, _ = features_of(bars, ["minutes_to_close"], calendar)
    ends = bars.bar_end.astype("datetime64[ns]").astype("datetime64[m]")
    return {str(end): float(value) for end, value in zip(ends, values[:, 0, 0], strict=True)}


def test_minutes_to_the_close_of_a_whole_and_a_half_day() -> None:
    bars = bars_at(
        np.concatenate([stamps("2019-12-23T14:30", 78, "5m"), stamps("2019-12-24T14:30", 60, "5m")]), "5m"
    )
    left = minutes(bars, "XNYS")
    assert left["2019-12-23T14:35"] == 385
    assert left["2019-12-23T21:00"] == 0
    assert left["2019-12-24T14:35"] == 205  # closes at 13:00 New York
    assert left["2019-12-24T18:30"] == 0  # a print after the close


def test_minutes_to_the_end_of_an_fx_day() -> None:
    bars = bars_at(stamps("2024-03-07T00:00", 24, "1h"), "1h")
    left = minutes(bars, "24/5")
    assert left["2024-03-07T21:00"] == 60  # 17:00 New York is 22:00 UTC in winter
    assert left["2024-03-07T22:00"] == 0
    assert left["2024-03-07T23:00"] == 23 * 60


@pytest.mark.market_data
def test_the_minutes_of_a_real_half_day(market_data: Path) -> None:
    path = market_data / "goog_1m_lean_20151223_28_earlyclose.parquet"
    bars = load_bars(DataSpec(provider="file", path=str(path)))
    left = minutes(bars, "XNYS")
    assert left["2015-12-23T20:00"] == 60
    assert left["2015-12-24T17:00"] == 60
    late = [value for end, value in left.items() if "2015-12-24T18:00" <= end < "2015-12-25"]
    assert len(late) > 1
    assert set(late) == {0.0}
