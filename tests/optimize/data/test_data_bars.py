from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from optimize.data.bars import Bars, bars_fingerprint, check_bars, infer_timeframe, make_bars
from optimize.errors import BadInputError
from tests.optimize.data.samples import bars_at, rows_of, stamps


def good() -> Bars:
    return bars_at(stamps("2024-01-01", 50, "1h"), "1h")


def changed(field: str, row: int, value: float) -> Callable[[Bars], Bars]:
    def change(bars: Bars) -> Bars:
        array = getattr(bars, field).copy()
        array[row] = value
        return replace(bars, **{field: array})

    return change


def swap(bars: Bars) -> Bars:
    timestamp = bars.timestamp.copy()
    timestamp[[5, 6]] = timestamp[[6, 5]]
    return replace(bars, timestamp=timestamp)


def repeat(bars: Bars) -> Bars:
    timestamp = bars.timestamp.copy()
    timestamp[7:] -= timestamp[1] - timestamp[0]
    return replace(bars, timestamp=timestamp)


def empty(bars: Bars) -> Bars:
    return rows_of(bars, slice(0))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (empty, "FILE has 0 rows, but at least 2"),
        (swap, "FILE is unsorted: 1 bars .* first 2024-01-01T05:00:00Z: sort the file"),
        (repeat, "FILE has 1 duplicated stamps, first 2024-01-01T06:00:00Z"),
        (changed("close", 3, np.nan), "FILE: 1 bars have NaN .* first at 2024-01-01T03:00:00Z"),
        (changed("high", 3, np.inf), "have NaN or infinite"),
        (changed("low", 4, 0.0), "have a price <= 0, first at 2024-01-01T04:00:00Z"),
        (changed("high", 2, 1.0), "break low <= open, close <= high, first at 2024-01-01T02:00:00Z"),
        (changed("low", 2, 1e6), "break low <= open, close <= high"),
        (changed("volume", 9, -1.0), "have a negative volume"),
    ],
)
def test_each_defect_is_refused_with_count_and_first_stamp(spoil: Callable[[Bars], Bars], words: str) -> None:
    check_bars(good(), "FILE")
    with pytest.raises(BadInputError, match=words):
        check_bars(spoil(good()), "FILE")


def test_rounding_is_no_defect() -> None:
    bars = good()
    check_bars(replace(bars, high=np.maximum(bars.open, bars.close) * (1 - 1e-12)), "FILE")


def test_the_most_frequent_spacing_is_the_timeframe() -> None:
    timestamp = np.delete(stamps("2024-01-01", 100, "15m"), [5, 6, 40])
    assert infer_timeframe(timestamp, "FILE") == "15m"
    with pytest.raises(BadInputError, match=r"spacing is 37 s, which is no known timeframe; set data.source"):
        infer_timeframe(np.arange(5, dtype=np.int64) * 37 * 10**9, "FILE")


def test_a_bar_ends_at_the_next_start_at_the_latest() -> None:
    days = np.array(["2024-03-09T05:00", "2024-03-10T05:00", "2024-03-11T04:00"], "datetime64[ns]")
    bars = make_bars("X", days.astype(np.int64), np.ones((3, 5)), "1d", "FILE")
    assert (bars.bar_end[:-1] == bars.timestamp[1:]).all()


def test_the_fingerprint_sees_every_field() -> None:
    bars = good()
    prints = {bars_fingerprint(bars), bars_fingerprint(replace(bars, symbols=("Y",)))}
    for field in ("timestamp", "bar_end", "open", "high", "low", "close", "volume"):
        array = getattr(bars, field).copy()
        array[-1] += 1
        prints.add(bars_fingerprint(replace(bars, **{field: array})))
    prints.add(bars_fingerprint(replace(bars, tradable=~bars.tradable)))
    assert len(prints) == 10
    assert bars_fingerprint(good()) == bars_fingerprint(bars)
