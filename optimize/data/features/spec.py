"""Settings of the features that an agent observes."""

from dataclasses import dataclass
from typing import Any

from envs.fields import MARKET, RUN, Declared, check_ranges, setting
from optimize.data.timeframes import timeframe_ns
from optimize.errors import require
from optimize.extensions import extendable

DEFAULT_INDICATORS = (
    "returns",
    "range",
    "rsi",
    "macd",
    "bollinger",
    "atr",
    "adx",
    "volatility",
    "time_of_day",
    "time_of_week",
)
GROUPS = ("price", "trend", "oscillator", "volatility", "volume", "time", "custom")
CUSTOM = "custom"  # group of a feature of an extension that names none
FEATURE_KEYS: dict[str, Declared] = extendable({})  # that features declare by themselves, under `feature`


@dataclass(frozen=True)
class FeatureSpec:
    """Features of each asset in an observation, and the number of bars."""

    lookback: int = setting(8, RUN, "Bars in one observation.", unit="bars", low=1)
    indicators: list[str] = setting(
        list(DEFAULT_INDICATORS), MARKET, "Features of each bar that the agent sees, in order."
    )
    higher_timeframes: list[str] = setting(
        [], MARKET, "Coarser timeframes whose features the agent sees as well."
    )
    zigzag_pct: list[float] = setting(
        [1.5, 2.0, 2.5, 3.0, 3.5], MARKET, "Reversals that confirm a pivot, for the feature zigzag.",
        unit="percent", above=0, below=100,
        allowed="a non-empty list of distinct percentages between 0 and 100",
    )  # fmt: skip
    groups: list[str] = setting(
        [], RUN, "Groups of columns that the agent sees of these features; empty: all columns.",
        choices=GROUPS, allowed=f"a list of {', '.join(GROUPS)}, or empty",
    )  # fmt: skip
    select: int = setting(
        0, RUN, "Columns that the agent sees: those with most weight in a ridge regression on the train "
        "span; 0: all.", unit="columns", low=0,
    )  # fmt: skip
    forecast: str = setting(
        "none", RUN, "Forecaster whose forecast of a decision's return is one more column of each asset."
    )
    forecast_alone: bool = setting(
        False, RUN, "Whether the agent sees the forecast in place of the columns that it is made of."
    )
    horizon: int = setting(
        1, RUN, "Bars from its fill over which select and forecast measure the return of a decision.",
        unit="bars", low=1,
    )  # fmt: skip
    parameters: dict[str, Any] = setting(
        {}, MARKET, "Keys that features of an extension declare.", open_keys=lambda: FEATURE_KEYS
    )

    def __hash__(self) -> int:
        """Return a hash, which the lists of a frozen dataclass do not have, so that fits may be cached."""
        return hash(repr(self))

    @property
    def history(self) -> int:
        """Return the bars that one observation depends on: a forecast has a lookback of its own."""
        return self.lookback if self.forecast == "none" else 2 * self.lookback - 1

    def value_of(self, key: str) -> Any:
        """Return the value of a key that a feature declares: as it is set, else its default."""
        return self.parameters.get(key, FEATURE_KEYS[key].default)

    def __post_init__(self) -> None:
        check_ranges(self, "feature")
        distinct = len(set(self.indicators)) == len(self.indicators) > 0
        allowed = "a non-empty list without repeats, such as [rsi,adx,stochastic]"
        require(distinct, "feature.indicators", self.indicators, allowed)
        higher, key = self.higher_timeframes, "feature.higher_timeframes"
        for timeframe in higher:
            timeframe_ns(timeframe, key)
        require(len(set(higher)) == len(higher), key, higher, "a list without repeats")
        groups = self.groups
        require(len(set(groups)) == len(groups), "feature.groups", groups, "a list without repeats")
        percents = self.zigzag_pct
        usable = len(set(percents)) == len(percents) > 0
        between = "a non-empty list of distinct percentages between 0 and 100"
        require(usable, "feature.zigzag_pct", percents, between)
