"""The columns that the agents of a bundle observe: features.json, and a sentence on the card."""

from typing import Any

from envs.types import Market
from optimize.data.features import columns_in_groups
from optimize.walkforward.spec import RunSpec

FEATURES_FILE = "features.json"


def features_of(spec: RunSpec, market: Market) -> dict[str, Any]:
    """Return the content of features.json: the columns of an observation in order, and their bars."""
    return {
        "features": list(columns_in_groups(spec.feature, market.feature_names)),
        "lookback": spec.feature.lookback,
        "timeframe": market.timeframe,
        "symbols": list(market.symbols),
    }


def observed_words(spec: RunSpec, market: Market) -> str:
    """Return a sentence on the columns of an observation, for the card."""
    columns = columns_in_groups(spec.feature, market.feature_names)
    return (
        f"`{FEATURES_FILE}` lists its {len(columns)} features in order; it sees the last "
        f"{spec.feature.lookback} bars of them."
    )
