"""The columns that the agents of a bundle observe: features.json, and sentences on the card."""

from typing import Any

from envs.types import Market
from optimize.data.features import columns_in_groups
from optimize.walkforward.forecast import PREFIX
from optimize.walkforward.forecasters import NO_FORECAST
from optimize.walkforward.spec import RunSpec

FEATURES_FILE = "features.json"


def features_of(spec: RunSpec, market: Market) -> dict[str, Any]:
    """Return the content of features.json: the columns of an observation in order, and their bars.

    With feature.select each window has some of the columns only, which the file of its scaler names.
    """
    content: dict[str, Any] = {
        "features": _columns(spec, market),
        "lookback": spec.feature.lookback,
        "timeframe": market.timeframe,
        "symbols": list(market.symbols),
    }
    return content | ({"select": spec.feature.select} if spec.feature.select else {})


def observed_words(spec: RunSpec, market: Market) -> str:
    """Return sentences on the columns of an observation, for the card."""
    words = (
        f"`{FEATURES_FILE}` lists its {len(_columns(spec, market))} features in order; it sees the last "
        f"{spec.feature.lookback} bars of them."
    )
    if spec.feature.select:
        words += (
            f" Of the columns of the market each window shows {spec.feature.select}, chosen on its train "
            "span; `scaler.npz` names them."
        )
    if spec.feature.forecast != NO_FORECAST:
        words += (
            f" `{PREFIX}{spec.feature.forecast}` is a forecast that was fitted with the scaler; training saw "
            "it out of fold."
        )
    return words


def _columns(spec: RunSpec, market: Market) -> list[str]:
    forecast = [] if spec.feature.forecast == NO_FORECAST else [f"{PREFIX}{spec.feature.forecast}"]
    if forecast and spec.feature.forecast_alone:
        return forecast
    return [*columns_in_groups(spec.feature, market.feature_names), *forecast]
