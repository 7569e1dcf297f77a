"""Guarantees of every provider of bars."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from envs.types import FloatArray, IntArray
from optimize.data.bars import bars_fingerprint
from optimize.data.download.run import download_bars
from optimize.data.market import load_bars
from optimize.data.sources.providers import PROVIDERS, provider_of
from optimize.data.spec import DataSpec, SyntheticSpec
from tests.optimize.data.samples import stamp
from tests.optimize.data.sources.clients.cases import CASES, Case, served

ROWS = "".join(f"2024-01-01T{hour:02d}:00Z,1,2,1,{1 + hour / 100}\n" for hour in range(24))
BUILT_IN = ("embedded", "file", "synthetic")
ALL = [*BUILT_IN, *(pytest.param(name, marks=pytest.mark.market_data) for name in CASES)]


@dataclass(frozen=True)
class Provided:
    """A provider that is ready to be read, with its source where that is known."""

    spec: DataSpec
    now: datetime | None = None
    expected: Callable[[str], tuple[IntArray, FloatArray]] | None = None


@pytest.fixture(scope="module")
def made() -> dict[str, Provided]:
    """Return the providers that were made ready so far, by their names."""
    return {}


@pytest.fixture
def provided(
    request: pytest.FixtureRequest,
    made: dict[str, Provided],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Provided:
    """Return the provider of a test; one that downloads has done so once, from its double."""
    name = request.param
    if name not in made:
        folder = tmp_path_factory.mktemp("provided")
        if name in CASES:
            made[name] = _download(CASES[name], request.getfixturevalue("market_data"), folder, monkeypatch)
        else:
            made[name] = Provided(_built_in(name, folder))
    return made[name]


def _download(case: Case, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Provided:
    spec = case.spec_in(folder)
    with served(case, data, monkeypatch):
        download_bars(spec, print)
    start = case.start(case.at)
    return Provided(spec, case.at, lambda symbol: case.expected(data, symbol, start, case.at))


def _built_in(name: str, folder: Path) -> DataSpec:
    if name == "file":
        for symbol in ("A", "B"):
            (folder / f"{symbol}.csv").write_text("timestamp,open,high,low,close\n" + ROWS)
        return DataSpec(provider="file", path=str(folder / "{symbol}.csv"), symbols=["B", "A"])
    if name == "synthetic":
        return DataSpec(provider=name, symbols=["Z", "A"], synthetic=SyntheticSpec(bars=50))
    return DataSpec(provider=name)


every_provider = pytest.mark.parametrize("provided", ALL, indirect=True)


def test_every_provider_is_held_to_this() -> None:
    assert {*BUILT_IN, *(str(case.spec["provider"]) for case in CASES.values())} == set(PROVIDERS)


@every_provider
def test_stamps_are_sorted_unique_utc_nanoseconds(provided: Provided) -> None:
    bars = load_bars(provided.spec)
    assert bars.timestamp.dtype == np.int64
    assert (np.diff(bars.timestamp) > 0).all()
    assert stamp("1990-01-01") < bars.timestamp[0] < bars.timestamp[-1] < stamp("2100-01-01")
    assert (bars.timestamp < bars.bar_end).all()
    assert (bars.bar_end[:-1] <= bars.timestamp[1:]).all()
    assert bars.timeframe == (provided.spec.timeframe or "1h")  # its own, which is 1h of all that name none


@every_provider
def test_bars_are_finite_positive_and_within_low_and_high(provided: Provided) -> None:
    bars = load_bars(provided.spec)
    for array in (bars.open, bars.high, bars.low, bars.close, bars.volume):
        assert array.shape == bars.tradable.shape == (bars.n_bars, len(bars.symbols))
        assert array.dtype == np.float64
        assert np.isfinite(array).all()
    assert (bars.low > 0).all()
    assert (bars.volume >= 0).all()
    slack = 1e-9 * bars.close
    assert (bars.low <= np.minimum(bars.open, bars.close) + slack).all()
    assert (bars.high >= np.maximum(bars.open, bars.close) - slack).all()


@every_provider
def test_symbols_come_in_the_order_asked_for(provided: Provided) -> None:
    wanted = provided.spec.symbols
    assert list(load_bars(provided.spec).symbols) == (wanted or ["EURUSD"])
    if len(wanted) > 1:
        turned = DataSpec(**{**provided.spec.__dict__, "symbols": wanted[::-1]})
        assert list(load_bars(turned).symbols) == wanted[::-1]


@every_provider
def test_reading_again_gives_the_same_bars(provided: Provided) -> None:
    assert bars_fingerprint(load_bars(provided.spec)) == bars_fingerprint(load_bars(provided.spec))


@every_provider
def test_the_files_that_key_the_cache_exist(provided: Provided) -> None:
    files = provider_of(provided.spec).files(provided.spec)
    assert all(path.is_file() for path in files.values())
    if files and provided.spec.symbols:
        assert list(files) == provided.spec.symbols


@every_provider
def test_the_bars_are_those_of_the_source_without_the_unfinished_one(provided: Provided) -> None:
    if provided.expected is None or provided.now is None:
        return
    bars = load_bars(replace(provided.spec, zero_volume="tradable"))
    assert bars.bar_end[-1] <= provided.now.timestamp() * 1e9
    for column, symbol in enumerate(provided.spec.symbols):
        stamps, ohlcv = provided.expected(symbol)
        traded = bars.tradable[:, column]
        np.testing.assert_array_equal(bars.timestamp[traded], stamps)
        np.testing.assert_array_equal(bars.close[traded, column], ohlcv[:, 3])
        np.testing.assert_array_equal(bars.volume[traded, column], ohlcv[:, 4])
