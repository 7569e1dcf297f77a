from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.plain import from_plain, to_plain
from optimize.data.bars import RawBars, bars_fingerprint, make_bars
from optimize.data.calendars.spec import SessionSpec
from optimize.data.download.run import plan_download
from optimize.data.market import load_bars
from optimize.data.quality.report import inspect_bars
from optimize.data.sources.clients.coinbase import COINBASE
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.errors import BadInputError
from tests.optimize.data.samples import bars_at, stamp, stamps

YEAR = DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=24 * 365))  # of 2022


def span(spec: DataSpec) -> tuple[str, str]:
    bars = load_bars(spec)
    first, last = (str(np.datetime64(int(bars.timestamp[row]), "ns"))[:16] for row in (0, -1))
    return first, last


def test_both_dates_are_kept() -> None:
    assert span(replace(YEAR, start="2022-03-05")) == ("2022-03-05T00:00", "2022-12-31T23:00")
    assert span(replace(YEAR, end="2022-03-05")) == ("2022-01-01T00:00", "2022-03-05T23:00")
    assert span(replace(YEAR, start="2022-03-05", end="2022-03-05")) == (
        "2022-03-05T00:00",
        "2022-03-05T23:00",
    )


def test_months_count_back_from_the_end_and_give_way_to_a_start() -> None:
    assert span(replace(YEAR, months=2, end="2022-06-30")) == ("2022-05-01T00:00", "2022-06-30T23:00")
    assert span(replace(YEAR, months=2, end="2023-06-30"))[0] == "2022-11-01T00:00"  # of the bars there are
    assert span(replace(YEAR, months=2, start="2022-02-01"))[0] == "2022-02-01T00:00"


@pytest.mark.parametrize("asked", [{"start": "2023-05-01"}, {"end": "2021-05-01"}])
def test_a_period_without_a_bar_is_refused_and_names_what_there_is(asked: dict[str, str]) -> None:
    ((key, value),) = asked.items()
    held = rf"data.{key}={value} leaves no bar of SYNTH, whose source holds 2022-01-01T.* to 2022-12-31T23"
    with pytest.raises(BadInputError, match=held):
        load_bars(replace(YEAR, start=asked.get("start"), end=asked.get("end")))
    report = inspect_bars(replace(YEAR, start=asked.get("start"), end=asked.get("end")), SessionSpec())
    assert [each.check for each in report.findings if each.severity == "refuse"] == ["ended"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("start", "2022-13-01"), ("start", "05.03.2022"), ("end", "2022"), ("end", "1492-01-01")],
)
def test_what_is_no_date_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(BadInputError, match=rf"data.{key}={value!r}.*YYYY-MM-DD"):
        from_plain(DataSpec, {key: value})


def test_an_end_before_the_start_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"data.end='2022-01-01'.*data.start=2022-02-01 or later"):
        DataSpec(start="2022-02-01", end="2022-01-01")


def test_daily_bars_count_by_their_date(tmp_path: Path) -> None:
    tokyo = stamps("2024-01-07T15:00", 40, "1d")  # midnights in Tokyo, of the date that follows
    rows = [f"{np.datetime64(int(each), 'ns')}Z,1,2,1,{1 + row % 2}" for row, each in enumerate(tokyo)]
    path = tmp_path / "x_1d.csv"
    path.write_text("\n".join(["timestamp,open,high,low,close", *rows]))
    spec = DataSpec("file", path=str(path), timeframe="1d", start="2024-01-10", end="2024-01-12")
    assert span(spec) == ("2024-01-09T15:00", "2024-01-11T15:00")


def outage(volume: list[float], close: list[float] | None = None) -> RawBars:
    close_ = np.array(close or [100.0 + row % 3 for row in range(len(volume))])
    ohlcv = np.stack([close_ - 0.5, close_ + 1, close_ - 1, close_, np.array(volume)], axis=1)
    starts = stamp("2024-01-01") + np.arange(len(volume)) * 3600 * 10**9
    return RawBars("X", "FILE", starts, ohlcv, np.zeros(len(volume)), "1h")


def test_bars_without_volume_do_not_trade_and_carry_the_last_close() -> None:
    raw = outage([5, 4, 3, 0, 0, 6, 7])
    bars = make_bars(raw)
    assert bars.tradable[:, 0].tolist() == [True, True, True, False, False, True, True]
    assert bars.close[:, 0].tolist() == [100, 101, 102, 102, 102, 102, 100]
    for name in ("open", "high", "low"):
        assert getattr(bars, name)[3:5, 0].tolist() == [102, 102]
    assert make_bars(raw, "tradable").tradable.all()


def test_a_source_that_has_no_volume_yet_trades() -> None:
    assert make_bars(outage([0, 0, 0, 0])).tradable.all()
    assert make_bars(outage([0, 0, 0, 5, 6])).tradable.all()


def test_where_most_bars_have_no_volume_only_those_that_stand_still_are_void() -> None:
    raw = outage([9.0] + [0.0] * 20)
    raw.ohlcv[15, :4] = 100.0
    tradable = make_bars(raw).tradable[:, 0]
    assert tradable[2:15].all()
    assert not tradable[15]
    assert tradable[16:].all()


def test_whether_a_bar_trades_does_not_depend_on_later_ones() -> None:
    rng = np.random.default_rng(0)
    raw = outage(list(rng.integers(0, 2, 200).astype(float)))
    whole = make_bars(raw).tradable
    for cut in (1, 2, 50, 120):
        part = replace(raw, timestamp=raw.timestamp[:cut], ohlcv=raw.ohlcv[:cut], spread=raw.spread[:cut])
        np.testing.assert_array_equal(make_bars(part).tradable, whole[:cut])


def test_a_source_with_volume_on_every_bar_keeps_its_fingerprint() -> None:
    raw = outage([1.0, 2.0, 3.0, 4.0])
    assert bars_fingerprint(make_bars(raw)) == bars_fingerprint(make_bars(raw, "tradable"))
    assert bars_at(raw.timestamp, "1h").tradable.all()


def test_a_spec_stored_before_the_key_existed_trades_such_bars() -> None:
    plain = to_plain(DataSpec())
    del plain["zero_volume"]
    assert from_plain(DataSpec, plain).zero_volume == "tradable"
    assert from_plain(DataSpec, to_plain(DataSpec())).zero_volume == "untradable"


def test_a_download_asks_for_the_dates_and_a_day_at_either_end(tmp_path: Path) -> None:
    spec = DataSpec("coinbase", symbols=["X"], timeframe="1h", months=24, folder=str(tmp_path))
    job = plan_download(replace(spec, start="2024-01-10", end="2024-01-12"), COINBASE, "X")
    (piece,) = job.missing_spans()
    assert (piece.start_ns, piece.end_ns) == (stamp("2024-01-09"), stamp("2024-01-14"))
    (piece,) = plan_download(replace(spec, months=1, end="2024-03-31"), COINBASE, "X").missing_spans()
    assert (piece.start_ns, piece.end_ns) == (stamp("2024-03-01"), stamp("2024-04-02"))
