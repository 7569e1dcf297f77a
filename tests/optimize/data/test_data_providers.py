import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optimize.data.bars import bars_fingerprint
from optimize.data.market import load_bars
from optimize.data.sources.providers import PROVIDERS, provider_of
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.data.timeframes import timeframe_ns
from optimize.errors import BadInputError
from tests.optimize.data.samples import random_walk, stamp


def spec_of(provider: str, folder: Path) -> DataSpec:
    if provider == "file":
        text = "".join(f"2024-01-01T{hour:02d}:00Z,1,2,1,{1 + hour / 100}\n" for hour in range(24))
        (folder / "x.csv").write_text("timestamp,open,high,low,close\n" + text)
    return DataSpec(provider=provider, path=str(folder / "x.csv") if provider == "file" else None)


@pytest.mark.parametrize(
    "provider", sorted(name for name, each in PROVIDERS.items() if each.download is None)
)
def test_every_provider_gives_clean_utc_bars(provider: str, tmp_path: Path) -> None:
    spec = spec_of(provider, tmp_path)
    bars = load_bars(spec)
    shape = (bars.n_bars, len(bars.symbols))
    assert bars.timestamp.dtype == np.int64
    assert (np.diff(bars.timestamp) > 0).all()
    assert stamp("1990-01-01") < bars.timestamp[0] < stamp("2100-01-01")
    assert (bars.timestamp < bars.bar_end).all()
    assert (bars.bar_end[:-1] <= bars.timestamp[1:]).all()
    assert timeframe_ns(bars.timeframe) == np.diff(bars.timestamp).min()
    for array in (bars.open, bars.high, bars.low, bars.close, bars.volume):
        assert array.shape == shape
        assert array.dtype == np.float64
        assert np.isfinite(array).all()
    assert bars.tradable.shape == shape
    assert bars_fingerprint(load_bars(spec)) == bars_fingerprint(bars)
    assert all(path.is_file() for path in provider_of(spec).files(spec).values())


def test_an_unknown_provider_lists_the_choices() -> None:
    with pytest.raises(BadInputError, match=r"data.provider='yahoo' .* one of embedded, file, synthetic"):
        load_bars(DataSpec(provider="yahoo"))


def test_the_embedded_data_is_eurusd_of_2017() -> None:
    bars = load_bars(DataSpec())
    assert (bars.symbols, bars.timeframe, bars.n_bars) == (("EURUSD",), "1h", 6225)
    assert bars.timestamp[0] == stamp("2017-01-01T22:00")
    assert bars.open[0, 0] == 1.05236
    with pytest.raises(BadInputError, match=r"data.symbols=\['GBPUSD'\] .*\(data.provider=file"):
        load_bars(DataSpec(symbols=["GBPUSD"]))


@pytest.mark.slow
def test_the_embedded_data_is_read_without_importing_its_package() -> None:
    code = (
        "import sys; from optimize.data.market import load_bars; from optimize.data.spec import DataSpec; "
        "load_bars(DataSpec()); "
        "print([name for name in ('gym_anytrading', 'matplotlib', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_random_walk_has_no_drift_and_the_volatility_asked_for() -> None:
    bars = random_walk(200_000, volatility=0.01)
    simple = bars.close[1:, 0] / bars.close[:-1, 0] - 1
    assert abs(simple.mean()) < 4 * 0.01 / np.sqrt(len(simple))
    assert simple.std() == pytest.approx(0.01, rel=0.02)
    assert (bars.open[1:] == bars.close[:-1]).all()


def test_the_known_optimum_pays_its_volatility_a_bar() -> None:
    bars = random_walk(4800, kind="known_optimum", volatility=0.01, period=24)
    log_return = np.diff(np.log(bars.close[:, 0]))
    rising = np.arange(1, 4800) % 24 < 12
    assert (log_return * np.where(rising, 1, -1)).mean() == pytest.approx(0.01, rel=0.01)
    assert abs(log_return.mean()) < 1e-4


def test_the_planted_edge_is_a_drift_that_follows_the_hour_of_the_day() -> None:
    bars = random_walk(48_000, kind="planted_edge", volatility=0.01, period=24, edge=0.1)
    rising = bars.timestamp[1:] // 3_600_000_000_000 % 24 < 12
    earned = np.diff(np.log(bars.close[:, 0])) * np.where(rising, 1, -1)
    assert earned.mean() / earned.std() == pytest.approx(0.1, abs=3 / np.sqrt(48_000))


def test_the_known_timeframe_is_foreseen_by_its_own_bars_and_by_no_shorter_look() -> None:
    bars = random_walk(40_000, kind="known_timeframe", volatility=0.01, period=4)
    log_return = np.diff(np.log(bars.close[:, 0]), prepend=np.log(100.0)).reshape(-1, 4)
    whole = log_return.sum(axis=1)
    error = 3 / np.sqrt(len(whole))  # of a correlation
    assert (np.sign(whole[:-1]) * whole[1:]).mean() == pytest.approx(0.02, rel=0.05)
    assert np.corrcoef(np.sign(whole[:-1]), whole[1:])[0, 1] > 0.6
    flat = log_return.ravel()
    for look in (1, 2, 3):  # the observation of an agent at one bar, at any hour of the four
        for hour in range(4):
            ahead = flat[8 + hour :: 4]
            seen = np.array(
                [flat[8 + hour - back : len(flat) - back : 4][: len(ahead)] for back in range(1, look + 1)]
            )
            foreseen = np.corrcoef(seen.sum(axis=0)[: len(ahead)], ahead)[0, 1]
            assert abs(foreseen) < error, (look, hour)


def test_seeds_and_symbols_make_different_markets() -> None:
    spec = DataSpec(provider="synthetic", symbols=["A", "B"], synthetic=SyntheticSpec(bars=100))
    bars = load_bars(spec)
    assert bars.symbols == ("A", "B")
    assert (bars.close[:, 0] != bars.close[:, 1]).all()
    assert (random_walk(100, seed=1).close != random_walk(100, seed=2).close).all()
    np.testing.assert_array_equal(random_walk(100).close[:, 0], bars.close[:, 0])


@pytest.mark.market_data
def test_the_embedded_rows_are_those_of_the_reference_file(market_data: Path) -> None:
    path = str(market_data / "eurusd_1h_gymanytrading_2017.parquet")
    reference = load_bars(DataSpec(provider="file", path=path))
    assert bars_fingerprint(reference) == bars_fingerprint(load_bars(DataSpec()))
