"""Downloaded files and their manifests survive a kill at the worst moment."""

import json
import os
import threading
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from optimize.data.bars import RawBars
from optimize.data.download.journal import ROW, open_journal, remove_journals
from optimize.data.download.run import download_bars
from optimize.data.download.store import make_manifest, write_stored
from optimize.data.market import load_bars
from optimize.data.sources.clients.protocol import make_page
from optimize.data.sources.downloaded import (
    checked_manifest,
    is_stored,
    stored_files,
    stored_path,
    stored_rows,
)
from optimize.data.sources.providers import PROVIDERS
from optimize.data.spec import DataSpec
from optimize.data.timeframes import HOUR_NS
from optimize.errors import BadInputError
from optimize.hashing import hash_file
from tests.optimize.data.samples import stamps

SYMBOL = "BTC/USDT"
DOWNLOAD = PROVIDERS["ccxt"].download
assert DOWNLOAD is not None


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once at a file that its manifest does not fit."""
    monkeypatch.setattr("optimize.data.sources.downloaded.LOOK_AGAIN_S", 0.0)


def raw_bars(count: int, missing: slice = slice(0, 0), symbol: str = SYMBOL) -> RawBars:
    timestamp = np.delete(stamps("2024-01-01", count, "1h"), missing)
    ohlcv = np.tile([1.0, 2.0, 0.5, 1.5, 10.0], (len(timestamp), 1))
    return RawBars(symbol, "test", timestamp, ohlcv, np.zeros(len(timestamp)), "1h")


def spec_in(folder: Path, *symbols: str) -> DataSpec:
    return DataSpec(provider="ccxt", symbols=[*symbols] or [SYMBOL], folder=str(folder))


def store(folder: Path, raw: RawBars) -> Path:
    assert DOWNLOAD is not None
    spec = spec_in(folder, raw.symbol)
    path = stored_path(spec, DOWNLOAD, raw.symbol)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_stored(path, raw, make_manifest(spec, DOWNLOAD, raw, int(raw.timestamp[0])))
    return path


def test_a_stored_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    raw = raw_bars(100)
    path = store(tmp_path, raw)
    assert path == tmp_path / "ccxt" / "binance" / "BTC-USDT_1h.parquet"
    again = stored_rows(path, SYMBOL, "1h")
    np.testing.assert_array_equal(again.timestamp, raw.timestamp)
    np.testing.assert_array_equal(again.ohlcv, raw.ohlcv)
    assert load_bars(spec_in(tmp_path)).n_bars == 100


def test_the_manifest_counts_and_names_the_gaps(tmp_path: Path) -> None:
    path = store(tmp_path, raw_bars(240, missing=slice(30, 35)))
    manifest = checked_manifest(path, SYMBOL)
    assert (manifest.calendar, manifest.gaps, manifest.missing_bars) == ("24/7", 1, 5)
    assert manifest.first_gaps == [
        {"after": "2024-01-02T05:00:00Z", "before": "2024-01-02T11:00:00Z", "bars": 5}
    ]
    on_disk = json.loads(path.with_suffix(".json").read_text())
    assert on_disk == asdict(manifest)
    assert on_disk["sha256"] == hash_file(path)


def test_the_same_bars_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store(tmp_path / "a", raw_bars(50)).read_bytes()
    monkeypatch.setattr(
        "optimize.clock.now", lambda: datetime(2030, 1, 1, tzinfo=UTC)
    )  # in the manifest alone
    assert store(tmp_path / "b", raw_bars(50)).read_bytes() == first


def test_a_changed_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = store(tmp_path, raw_bars(50))
    store(tmp_path / "other", raw_bars(60)).rename(path)
    with pytest.raises(BadInputError, match=r"the file that its manifest BTC-USDT_1h\.json") as refusal:
        load_bars(spec_in(tmp_path))
    assert "\n" not in str(refusal.value)
    with pytest.raises(BadInputError, match="is not the file that its manifest"):
        download_bars(replace(spec_in(tmp_path), months=1), print)


def test_a_file_of_another_symbol_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path, raw_bars(50))
    with pytest.raises(BadInputError, match="another SHA-256 or symbol"):
        checked_manifest(path, "BTC-USDT")


@pytest.mark.parametrize("again", [1, 2, 3])
def test_a_writer_between_a_readers_looks_at_file_and_manifest_is_waited_for(
    again: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path, raw_bars(50))
    versions = [raw_bars(50 + number) for number in range(1, again + 1)]
    really = Path.read_bytes

    def written_meanwhile(self: Path) -> bytes:
        content = really(self)
        if versions and self == path:
            store(tmp_path, versions.pop(0))
        return content

    monkeypatch.setattr(Path, "read_bytes", written_meanwhile)
    if again < 3:
        assert len(stored_rows(path, SYMBOL, "1h").timestamp) == 50 + again
        return
    with pytest.raises(BadInputError, match="is not the file that its manifest") as refusal:
        stored_rows(path, SYMBOL, "1h")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_between_the_renames_leaves_a_whole_set(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path, raw_bars(50))
    done = 0
    really = Path.replace

    def killed_after(self: Path, target: Path) -> Path:
        nonlocal done
        if done == renames:
            raise KeyboardInterrupt
        done += 1
        return really(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_after)
        with pytest.raises(KeyboardInterrupt):
            store(tmp_path, raw_bars(60))
    assert is_stored(path)
    assert len(stored_rows(path, SYMBOL, "1h").timestamp) == checked_manifest(path, SYMBOL).rows
    assert checked_manifest(path, SYMBOL).rows == (60 if renames else 50)
    store(tmp_path, raw_bars(70))
    assert len(stored_rows(path, SYMBOL, "1h").timestamp) == 70
    assert sorted(each.name for each in path.parent.iterdir()) == ["BTC-USDT_1h.json", "BTC-USDT_1h.parquet"]


def test_a_kill_before_the_first_manifest_is_no_stored_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path, raw_bars(50))
    path.with_suffix(".json").unlink()
    assert not is_stored(path)
    assert DOWNLOAD is not None
    with pytest.raises(BadInputError, match="download them first"):
        stored_files(spec_in(tmp_path), DOWNLOAD)


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("BTC/USDT:USDT", "BTC-USDT_USDT_1h.parquet"),
        ("^GSPC", "^GSPC_1h.parquet"),
        ("EURUSD=X", "EURUSD=X_1h.parquet"),
        ("BRK.B", "BRK.B_1h.parquet"),
        ("../../x", "..-..-x_1h.parquet"),
        ("a b*", "a%20b%2A_1h.parquet"),
    ],
)
def test_a_symbol_makes_one_plain_file_name(symbol: str, name: str, tmp_path: Path) -> None:
    path = store(tmp_path, raw_bars(5, symbol=symbol))
    assert path == tmp_path / "ccxt" / "binance" / name
    assert load_bars(spec_in(tmp_path, symbol)).symbols == (symbol,)


def test_stock_files_are_kept_apart_by_feed_and_adjustment(tmp_path: Path) -> None:
    for provider, changes in (
        ("alpaca", {"feed": "sip"}),
        ("alpaca", {}),
        ("yfinance", {"adjustment": "split"}),
    ):
        download = PROVIDERS[provider].download
        assert download is not None
        spec = DataSpec(provider=provider, symbols=["SPY"], folder=str(tmp_path))
        assert stored_path(replace(spec, adjustment="split"), download, "SPY") != stored_path(
            replace(spec, adjustment="all"), download, "SPY"
        )
        if changes.get("feed"):
            sip = replace(spec, feed="sip")
            assert stored_path(sip, download, "SPY") != stored_path(spec, download, "SPY")
            assert stored_path(sip, download, "BTC/USD") == stored_path(spec, download, "BTC/USD")


@pytest.mark.parametrize("torn", [1, 17, 47])
def test_a_row_that_was_cut_off_is_dropped(torn: int, tmp_path: Path) -> None:
    raw = raw_bars(10)
    partial = open_journal(tmp_path / "X_1h.parquet", "whole", int(raw.timestamp[0]))
    partial.append(raw.timestamp[:4], raw.ohlcv[:4])
    with partial.path.open("ab") as stream:
        stream.write(b"\x07" * torn)
    again = open_journal(tmp_path / "X_1h.parquet", "whole", int(raw.timestamp[0]))
    assert again.rows == 4
    again.append(raw.timestamp[4:], raw.ohlcv[4:])
    last = open_journal(tmp_path / "X_1h.parquet", "whole", int(raw.timestamp[0]))
    np.testing.assert_array_equal(last.timestamp, raw.timestamp)
    np.testing.assert_array_equal(last.ohlcv, raw.ohlcv)


def test_rows_of_zeros_that_a_crashed_machine_left_are_dropped(tmp_path: Path) -> None:
    raw = raw_bars(4)
    partial = open_journal(tmp_path / "X_1h.parquet", "whole", int(raw.timestamp[0]))
    partial.append(raw.timestamp, raw.ohlcv)
    os.truncate(partial.path, 9 * ROW.itemsize)  # grows the file
    assert open_journal(tmp_path / "X_1h.parquet", "whole", int(raw.timestamp[0])).rows == 4
    assert partial.path.stat().st_size == 4 * ROW.itemsize


def test_a_download_that_began_too_late_is_not_resumed(tmp_path: Path) -> None:
    bars_path = tmp_path / "X_1h.parquet"
    raw = raw_bars(4)
    start_ns = int(raw.timestamp[0])
    open_journal(bars_path, "whole", start_ns).append(raw.timestamp, raw.ohlcv)
    open_journal(tmp_path / "X_1h_2.parquet", "whole", start_ns).append(raw.timestamp, raw.ohlcv)
    assert open_journal(bars_path, "before", start_ns).rows == 0
    resumed = open_journal(bars_path, "whole", start_ns + HOUR_NS)
    assert (resumed.rows, resumed.start_ns) == (4, start_ns), "a later start is in it"
    assert open_journal(bars_path, "whole", start_ns - HOUR_NS).rows == 0
    remove_journals(bars_path)
    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["X_1h_2"]


def test_two_processes_do_not_download_the_same_file_at_once(tmp_path: Path) -> None:
    path = store(tmp_path, raw_bars(50))
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    said: list[str] = []
    failed: list[Exception] = []

    def download() -> None:
        try:
            download_bars(replace(spec_in(tmp_path), exchange="binance", months=1, refresh=True), said.append)
        except Exception as error:
            failed.append(error)

    pytest.importorskip("ccxt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.data.download.run.fetch_span", lambda *_: said.append("fetched"))
        patch.setattr("optimize.data.sources.clients.exchange.ExchangeClient.check", lambda *_: None)
        thread = threading.Thread(target=download)
        with lock:
            thread.start()
            deadline = time.monotonic() + 300
            while not said and time.monotonic() < deadline:
                time.sleep(0.01)
            assert said == ["another process is downloading BTC-USDT_1h.parquet: waiting for it"]
        thread.join(300)
    assert failed == []
    assert "fetched" in said


def test_a_page_is_sorted_and_has_each_stamp_once() -> None:
    page = make_page(np.array([30, 10, 20, 10]), np.arange(20.0).reshape(4, 5), 40)
    assert page.timestamp.tolist() == [10, 20, 30]
    assert page.ohlcv[:, 0].tolist() == [5.0, 10.0, 0.0]
