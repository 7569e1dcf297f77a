"""A refused name ends with the allowed one that is nearest to it."""

from collections.abc import Callable

import numpy as np
import pytest

from envs.errors import BadInputError, near_hint, nearest, require
from envs.rewards import find_reward
from optimize.agents.registry import find_algorithm
from optimize.data.calendars.exchanges import exchange_schedule
from optimize.data.calendars.zones import parse_clock
from optimize.data.features.compute import warmup_bars
from optimize.data.features.spec import FeatureSpec
from optimize.data.sources.providers import provider_of
from optimize.data.spec import DataSpec
from optimize.results.queries import check_query
from optimize.schemas.records import DoctorConfig, ExportConfig
from optimize.search.spec import SamplerSpec

DAY = np.datetime64("2020-01-01")


def test_the_nearest_name_ends_the_refusal() -> None:
    with pytest.raises(BadInputError, match=r"x must be a or bcd; did you mean bcd\?$"):
        require(False, "x", "bcc", "a or bcd", ["a", "bcd"])
    assert near_hint("zzz", ["a", "bcd"]) == "" == near_hint("bcd", [])
    assert nearest("RSI", ["rsi", "Rsj"]) == ["rsi"]


@pytest.mark.parametrize(
    ("refuse", "meant"),
    [
        (lambda: warmup_bars(FeatureSpec(indicators=["rsii"])), "rsi"),
        (lambda: check_query("bestmodels"), "best_models"),
        (lambda: DataSpec(time_zone="America/NewYork"), "America/New_York"),
        (lambda: parse_clock("America/NewYork+7"), "America/New_York+7"),
        (lambda: find_reward("net_log_retrun"), "net_log_return"),
        (lambda: find_algorithm("pppo"), "ppo"),
        (lambda: SamplerSpec(name="tpee"), "tpe"),
        (lambda: ExportConfig(name="x", accept="implausable"), "implausible"),
        (lambda: ExportConfig(name="x", ensemble_of="seed"), "seeds"),
        (lambda: DoctorConfig(format="jsn"), "json"),
        (lambda: DataSpec(severity={"gap": "warn"}), "gaps"),
        (lambda: DataSpec(severity={"gaps": "warning"}), "warn"),
        (lambda: DataSpec(columns={"opens": "o"}), "open"),
        (lambda: provider_of(DataSpec(provider="fille")), "file"),
        (
            lambda: exchange_schedule("XNYSE", np.datetime64("2020-01-01"), np.datetime64("2020-02-01")),
            "XNYS",
        ),
    ],
)
def test_closed_lists_of_names_suggest_one(refuse: Callable[[], object], meant: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        refuse()
    assert str(refusal.value).endswith(f"; did you mean {meant}?")
