"""Compare symbols of different spellings."""

import re
from collections.abc import Iterable


def alike(symbol: str) -> str:
    """Return a symbol in capitals without separators, so that BTC/USD, btc-usd and BTCUSD are equal."""
    return re.sub(r"[\W_]", "", symbol.upper()) or symbol


def share_symbol(some: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether a symbol is in both, in whatever spelling."""
    return not {alike(each) for each in some}.isdisjoint(alike(each) for each in others)
