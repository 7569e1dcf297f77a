"""A feature of a user that reads the future is refused by name, with the bar that shows it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features import FEATURES
from optimize.data.features.registry import AssetBars, feature
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import refuse_leaking_features
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.errors import BadInputError, StudyStoppedError
from optimize.study.launch.preflight import preflight
from tests.optimize.study.studies import small_spec

DATA = DataSpec("synthetic", synthetic=SyntheticSpec(bars=1500))
SESSION = SessionSpec()


def tomorrow(bars: AssetBars) -> list[FloatArray]:
    """Return the close of the next bar."""
    return [np.append(bars.close[1:], bars.close[-1]) / bars.close - 1.0]


def level(bars: AssetBars) -> list[FloatArray]:
    """Return the close against the mean of all closes, those to come included."""
    return [bars.close / bars.close.mean() - 1.0]


def smoothed(bars: AssetBars) -> list[FloatArray]:
    """Return a mean that is centred on its bar."""
    return [np.convolve(bars.close, np.ones(5) / 5, mode="same") / bars.close]


@pytest.fixture
def own() -> Iterator[None]:
    """Register the three as features of a user's would be."""
    made = {"tomorrow": tomorrow, "level": level, "smoothed": smoothed}
    for name, function in made.items():
        feature(name, warmup=5)(function)
    yield
    for name in made:
        del FEATURES[name]


@pytest.mark.parametrize("name", ["tomorrow", "level", "smoothed"])
def test_a_feature_that_reads_the_future_is_named_with_its_bar(own: None, name: str) -> None:
    with pytest.raises(BadInputError, match=rf"feature '{name}' reads the future: at 2022-.* of SYNTH"):
        refuse_leaking_features(DATA, FeatureSpec(indicators=["returns", name]), SESSION)


def test_the_preflight_stops_before_the_first_trial(own: None, tmp_path: Path) -> None:
    spec = small_spec(tmp_path, feature=FeatureSpec(2, ["returns", "tomorrow"]))
    with pytest.raises(
        StudyStoppedError, match=r"stage 'Data and windows': feature 'tomorrow' reads the future"
    ):
        preflight(spec, tmp_path / "market", lambda line: None)


def test_a_feature_that_only_the_space_offers_is_tried_too(own: None, tmp_path: Path) -> None:
    space = {"feature": {"indicators": [["returns"], ["returns", "tomorrow"]]}}
    with pytest.raises(StudyStoppedError, match="feature 'tomorrow' reads the future"):
        preflight(small_spec(tmp_path, space=space), tmp_path / "market", lambda line: None)


def test_every_feature_of_the_house_passes() -> None:
    lacking = {"spread", "closing_time"}
    names = [name for name, each in FEATURES.items() if not lacking & set(each.needs)]
    refuse_leaking_features(DATA, FeatureSpec(indicators=names, higher_timeframes=["4h"]), SESSION)
