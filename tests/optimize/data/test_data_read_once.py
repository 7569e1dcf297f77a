"""The rows of a source are read once while its files stay the same, and their content is hashed once."""

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from optimize import hashing
from optimize.data.bars import RawBars
from optimize.data.cache import cache_key, cached_market
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import load_bars
from optimize.data.quality.report import inspect_bars
from optimize.data.sources import providers
from optimize.data.sources.read_once import read_rows, reading_once, release_rows
from optimize.data.spec import DataSpec
from tests.optimize.data.csv_files import write

FEATURE, SESSION = FeatureSpec(), SessionSpec()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSpec:
    """Return a file of bars that counts as unchanged for long."""
    monkeypatch.setattr(hashing, "SETTLED_NS", 0)
    hours = pd.date_range("2024-01-01", periods=2400, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    return DataSpec(provider="file", path=str(write(tmp_path / "x_1h.csv", list(hours))))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[DataSpec]:
    """Return the specs whose files were parsed."""
    found: list[DataSpec] = []
    own = providers.PROVIDERS["file"]

    def counted(spec: DataSpec) -> list[RawBars]:
        found.append(spec)
        return own.read(spec)

    monkeypatch.setitem(providers.PROVIDERS, "file", replace(own, read=counted))
    return found


def test_inspection_and_the_markets_of_all_timeframes_read_the_file_once(
    data: DataSpec, reads: list[DataSpec], tmp_path: Path
) -> None:
    with reading_once():
        with reading_once():
            inspect_bars(data, SESSION)
        for timeframe in (None, "1h", "4h"):
            cached_market(replace(data, timeframe=timeframe), FEATURE, SESSION, tmp_path / "cache")
    assert len(reads) == 1


def test_outside_the_block_and_after_its_rows_are_released_the_file_is_read_again(
    data: DataSpec, reads: list[DataSpec]
) -> None:
    load_bars(data)
    with reading_once():
        read_rows(data)
        release_rows()
        read_rows(data)
    load_bars(data)
    assert len(reads) == 4


def test_a_changed_file_and_other_settings_are_read_again(data: DataSpec, reads: list[DataSpec]) -> None:
    with reading_once():
        (first,) = read_rows(data)
        path = Path(str(data.path))
        path.write_text(path.read_text().rpartition("\n")[0].rpartition("\n")[0] + "\n")
        (second,) = read_rows(data)
        read_rows(replace(data, drop_nan=True))
    assert len(reads) == 3
    assert len(second.timestamp) == len(first.timestamp) - 1


def test_a_file_that_was_changed_just_now_is_not_kept(
    data: DataSpec, reads: list[DataSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "SETTLED_NS", 10**18)
    with reading_once():
        read_rows(data)
        read_rows(data)
    assert len(reads) == 2


def test_the_key_of_a_market_hashes_source_files_and_code_once_a_process(
    data: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cache_key(data, FEATURE, SESSION)
    hashed: list[Path | str] = []

    def counted(content: Path | str) -> str:
        hashed.append(content)
        return "0" * 64

    monkeypatch.setattr(hashing, "hash_file", counted)
    monkeypatch.setattr("optimize.source_code.code_digest", counted)
    assert cache_key(data, FEATURE, SESSION) == first
    assert hashed == []
    os.utime(str(data.path))
    assert cache_key(data, FEATURE, SESSION) != first
    assert hashed == [Path(str(data.path))]
