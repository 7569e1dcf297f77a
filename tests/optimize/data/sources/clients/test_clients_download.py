"""Every real client library downloads real bars, page by page, from its double."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.data.bars import utc_text
from optimize.data.download.plan import SymbolDownload
from optimize.data.download.run import download_bars
from optimize.data.market import load_bars
from optimize.data.sources.downloaded import checked_manifest
from optimize.data.timeframes import timeframe_ns
from optimize.errors import BadInputError
from optimize.hashing import hash_file
from tests.optimize.data.sources.clients.cases import CASES, check_rows, every_case, rows_of, served
from tests.optimize.data.sources.clients.doubles import SECOND_NS, Served

pytestmark = pytest.mark.market_data


@every_case
def test_the_bars_served_are_the_bars_stored(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    spec = case.spec_in(tmp_path)
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        paths = download_bars(spec, said.append)
        assert len(double.bars_asked) == case.pages * len(case.files)
        asked = len(double.asked)
        assert download_bars(spec, said.append) == paths
        assert len(double.asked) == asked, "what is stored is not fetched again"
    assert "nothing fetched; data.refresh=true appends what is new" in said[-1]
    for symbol, path in zip(case.files, paths, strict=True):
        check_rows(path, case, market_data, symbol, case.start(case.at), case.at)
        length_s = timeframe_ns(str(case.spec["timeframe"])) // SECOND_NS
        start_s = case.bars_of(market_data, symbol).start
        open_bars = (start_s <= double.now_s) & (start_s + length_s > double.now_s)
        assert open_bars.any(), "the double served a bar that was not over"
        manifest = checked_manifest(path, symbol)
        stamps, _ = rows_of(path)
        assert manifest.rows == len(stamps)
        assert (manifest.first, manifest.last) == (utc_text(stamps[0]), utc_text(stamps[-1]))
        assert manifest.sha256 == hash_file(path)
        assert (manifest.provider, manifest.fetched_at) == (
            spec.provider,
            case.at.isoformat(timespec="seconds"),
        )
    bars = load_bars(spec)
    assert bars.symbols == tuple(case.files)
    assert bars.timeframe == spec.timeframe
    assert sorted(path.suffix for path in tmp_path.rglob("*.*") if not path.name.startswith(".")) == (
        [".json"] * len(paths) + [".parquet"] * len(paths)
    )


@every_case
def test_a_busy_source_is_asked_again_and_as_late_as_it_wishes(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        # Twice each: yfinance asks once more on its own before it gives up.
        limited = (429, {"Retry-After": "0.05"})
        double.failures = {1: limited, 2: limited, 3: (503, {}), 4: (503, {})}
        paths = download_bars(case.spec_in(tmp_path), said.append)
    assert len(double.bars_asked) == case.pages * len(case.files) + 4
    waits = [line for line in said if "waiting" in line]
    assert "waiting 0.05 s after try 1 of 6" in waits[0]
    assert any("waiting 0.05 s" not in line for line in waits), "a 503 without the header: by our own clock"
    for symbol, path in zip(case.files, paths, strict=True):
        check_rows(path, case, market_data, symbol, case.start(case.at), case.at)


@every_case
def test_refresh_appends_what_is_new_and_nothing_else(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    spec = case.spec_in(tmp_path)
    start = case.start(case.at)
    with served(case, market_data, monkeypatch) as double:
        paths = download_bars(spec, print)
        before = [hash_file(path) for path in paths]
        double.now = case.at_later
        download_bars(spec, print)
        assert [hash_file(path) for path in paths] == before
        double.bars_asked.clear()
        download_bars(replace(spec, refresh=True), print)
        assert len(double.bars_asked) == len(case.files)
        asked = len(double.asked)
        download_bars(replace(spec, refresh=True), print)
        if case.spec["timeframe"] != "1d" and "yfinance" not in name and name != "alpaca_stock":
            assert len(double.asked) == asked, "no bar has ended since"
    for symbol, path in zip(case.files, paths, strict=True):
        check_rows(path, case, market_data, symbol, start, case.at_later)
        assert checked_manifest(path, symbol).asked_from == start.isoformat().replace("+00:00", "Z")


@every_case
def test_more_months_fetch_only_what_is_before(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    months = int(case.spec["months"])
    with served(case, market_data, monkeypatch) as double:
        short = case.spec_in(tmp_path, months=max(1, months // 2) if months > 1 else 1)
        download_bars(short, print)
        first = len(double.bars_asked)
        paths = download_bars(replace(short, months=months + 1), print)
        assert 0 < len(double.bars_asked) - first <= case.pages * len(case.files)
        asked = len(double.asked)
        download_bars(short, print)
        assert len(double.asked) == asked, "fewer months are there already"
    longer = replace(case, spec={**case.spec, "months": months + 1})
    for symbol, path in zip(case.files, paths, strict=True):
        check_rows(path, case, market_data, symbol, longer.start(case.at), case.at)


@pytest.mark.parametrize("name", ["yfinance", "alpaca_stock"])
def test_restated_prices_are_all_fetched_again(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    spec = case.spec_in(tmp_path)
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        (path,) = download_bars(spec, said.append)
        double.now = case.at_later
        (symbol,) = double.bars
        scale = np.array([0.5, 0.5, 0.5, 0.5, 1.0])  # a split of 2:1
        double.bars[symbol] = Served(double.bars[symbol].start, double.bars[symbol].ohlcv * scale)
        download_bars(replace(spec, refresh=True), said.append)
    assert any("has other prices at" in line and "downloading all of it again" in line for line in said)
    stamps, expected = case.expected(market_data, symbol, case.start(case.at), case.at_later)
    stored_stamps, stored = rows_of(path)
    np.testing.assert_array_equal(stored_stamps[-len(stamps) :], stamps[-len(stored_stamps) :])
    np.testing.assert_allclose(stored[:, 0], 0.5 * expected[-len(stored) :, 0], rtol=1e-12)


def test_yahoo_prices_are_adjusted_as_asked(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["yfinance"]
    _, expected = case.expected(market_data, "QQQ", case.start(case.at), case.at)
    with served(case, market_data, monkeypatch) as double:
        double.adjusted = 0.9
        for adjustment, factor in (("split", 1.0), ("all", 0.9)):
            (path,) = download_bars(case.spec_in(tmp_path, adjustment=adjustment), print)
            _, ohlcv = rows_of(path)
            np.testing.assert_allclose(ohlcv[:, :4], factor * expected[:, :4], rtol=1e-12)


def test_alpaca_is_asked_for_the_feed_and_the_adjustment(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["alpaca_stock"]
    with served(case, market_data, monkeypatch) as double:
        download_bars(case.spec_in(tmp_path, adjustment="split"), print)
    assert {(query["adjustment"], query["feed"]) for query in double.bars_asked} == {("split", "iex")}
    assert {query["timeframe"] for query in double.bars_asked} == {"1Hour"}


@every_case
def test_a_span_without_bars_is_refused(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    with served(case, market_data, monkeypatch) as double:
        for symbol, bars in double.bars.items():
            double.bars[symbol] = Served(bars.start - 10**9, bars.ohlcv)
        with pytest.raises(BadInputError, match=r"has no \w+ bars from .* to .*: take more data.months"):
            download_bars(case.spec_in(tmp_path), print)
    assert not list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob("*.partial"))


def test_a_job_knows_no_piece_once_all_is_stored(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["coinbase"]
    spec = case.spec_in(tmp_path)
    with served(case, market_data, monkeypatch):
        (path,) = download_bars(spec, print)
    now_ns = pd.Timestamp(case.at).as_unit("ns").value
    job = SymbolDownload(spec, None, "BTC-USD", path, timeframe_ns("1h"), None, now_ns)  # type: ignore[arg-type]
    assert job.missing_spans() == []
    assert [piece.kind for piece in replace(job, asked_ns=0).missing_spans()] == ["before"]
