"""A market's arrays are declared once; the build, the cache, the scaler and the test markets follow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

import tests.markets
from envs.types import ArraySpec, FloatArray, Market, array_specs, scalar_types
from optimize.data import cache, market
from optimize.data.cache import cached_market
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market, load_bars
from optimize.data.scaling import fit_scaler, scale_market
from optimize.data.spec import DataSpec, SyntheticSpec
from tests.markets import make_market, random_walk

DATA = DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=600))
FEATURE, SESSION = FeatureSpec(), SessionSpec()


@dataclass(frozen=True, slots=True, eq=False)
class MarketWithVolume(Market):
    """A market that declares one array more, which its bars have."""

    volume: Annotated[FloatArray, ArraySpec("float64", "TA")]


def lengths(of: Market) -> dict[str, int]:
    return {
        "T": of.n_bars,
        "A": of.n_assets,
        "F": len(of.feature_names),
        "S": len(of.session_date),
        "M": 3,
    }


@pytest.mark.parametrize(
    "built", [build_market(DATA, FEATURE, SESSION), make_market(random_walk(50, assets=2))]
)
def test_a_market_has_the_declared_types_and_shapes(built: Market) -> None:
    sizes = lengths(built)
    for name, spec in array_specs(Market).items():
        array = getattr(built, name)
        assert array.dtype == np.dtype(spec.dtype), name
        assert array.shape == tuple(sizes[axis] for axis in spec.axes), name


def test_each_field_is_an_array_or_a_scalar() -> None:
    assert array_specs(Market).keys() | scalar_types(Market).keys() == Market.__dataclass_fields__.keys()
    assert scalar_types(Market)["symbols"] is tuple
    assert scalar_types(Market)["sessions_per_year"] is float


def test_one_more_declared_array_is_built_cached_read_back_and_kept_by_scaling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market, "Market", MarketWithVolume)
    monkeypatch.setattr(cache, "Market", MarketWithVolume)
    built = cached_market(DATA, FEATURE, SESSION, tmp_path)
    monkeypatch.delattr(cache, "build_market")
    read = cached_market(DATA, FEATURE, SESSION, tmp_path)
    for each in (built, read):
        assert isinstance(each, MarketWithVolume)
        assert isinstance(each.volume.base, np.memmap)
        assert not each.volume.flags.writeable
        np.testing.assert_array_equal(each.volume, load_bars(DATA).volume[-each.n_bars :])
    scaled = scale_market(read, fit_scaler(read, 0, 100), 0, 100)
    assert getattr(scaled, "volume", None) is getattr(read, "volume", read)


def test_the_test_markets_follow_the_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tests.markets, "Market", MarketWithVolume)
    made = make_market(random_walk(20, assets=2))
    assert isinstance(made, MarketWithVolume)
    assert made.volume.shape == (20, 2)
