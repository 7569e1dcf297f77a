from dataclasses import replace

import numpy as np
import pytest

from optimize.data.bars import Bars, RawBars, bars_fingerprint, infer_timeframe, join_bars, make_bars
from optimize.data.quality.rows import row_findings
from optimize.errors import BadInputError
from tests.optimize.data.samples import bars_at, stamps


def good() -> Bars:
    return bars_at(stamps("2024-01-01", 50, "1h"), "1h")


def raw(timestamp: list[str], spread: float = 0.0) -> RawBars:
    stamps_ns = np.array(timestamp, "datetime64[ns]").astype(np.int64)
    rows = len(stamps_ns)
    return RawBars("X", "FILE", stamps_ns, np.ones((rows, 5)), np.full(rows, spread), "1d")


def test_rounding_is_no_defect() -> None:
    days = ["2024-01-01", "2024-01-02"]
    close = np.array([[10.0, 10.0 * (1 - 1e-12), 10.0, 10.0, 1.0]] * 2)
    assert row_findings(replace(raw(days), ohlcv=close)) == []
    assert [each.check for each in row_findings(replace(raw(days), ohlcv=close * [1, 0.999, 1, 1, 1]))] == [
        "ohlc"
    ]


def test_the_most_frequent_spacing_is_the_timeframe() -> None:
    timestamp = np.delete(stamps("2024-01-01", 100, "15m"), [5, 6, 40])
    assert infer_timeframe(timestamp) == "15m"
    with pytest.raises(
        BadInputError, match=r"spacing is 37 s, and bars are whole minutes.* such as 1m or 5m"
    ):
        infer_timeframe(np.arange(5, dtype=np.int64) * 37 * 10**9)


def test_a_bar_ends_at_the_next_start_at_the_latest() -> None:
    bars = make_bars(raw(["2024-03-09T05:00", "2024-03-10T05:00", "2024-03-11T04:00"]))
    assert (bars.bar_end[:-1] == bars.timestamp[1:]).all()


def test_an_asset_keeps_its_spread_while_it_does_not_trade() -> None:
    wide = raw(["2024-03-01", "2024-03-02", "2024-03-04"], spread=0.5)
    joined = join_bars([make_bars(raw([f"2024-03-0{day}" for day in range(1, 5)])), make_bars(wide)])
    np.testing.assert_array_equal(joined.spread, [[0, 0.5]] * 4)
    np.testing.assert_array_equal(joined.tradable[:, 1], [True, True, False, True])


def test_the_fingerprint_sees_every_field() -> None:
    bars = good()
    prints = {bars_fingerprint(bars), bars_fingerprint(replace(bars, symbols=("Y",)))}
    for field in ("timestamp", "bar_end", "open", "high", "low", "close", "volume"):
        array = getattr(bars, field).copy()
        array[-1] += 1
        prints.add(bars_fingerprint(replace(bars, **{field: array})))
    prints.add(bars_fingerprint(replace(bars, tradable=~bars.tradable)))
    prints.add(bars_fingerprint(replace(bars, spread=bars.spread + 0.01)))
    assert len(prints) == 11
    assert bars_fingerprint(good()) == bars_fingerprint(bars)


def test_the_fingerprint_of_bars_without_a_spread_knows_of_none() -> None:
    """A fingerprint stored before bars had a spread must stay the same."""
    bars = bars_at(stamps("2024-01-01", 3, "1h"), "1h")
    ones = np.ones((3, 1))
    plain = replace(bars, open=ones, high=ones, low=ones, close=ones, volume=ones)
    assert bars_fingerprint(plain) == "9cd1229ab84c4eb704ba0f10a2f70137d8fdc8607aa0e87170020f0b925b0ff3"
