"""Names of the studies that belong to one: its phases, and the studies of a nested walk-forward.

The dot is reserved: `mine.model` is a phase of `mine`, `mine.outer2` the study on the bars before window 2,
`mine.outer2.model` its phase, and `mine.outer2.trade_0123abcd` the study of one trial that trades window 2.
"""

import re

OUTER = re.compile(r"(?P<base>[^.]+)\.outer(?P<window>\d+)(?P<part>\.(timeframe|model|trade_[0-9a-f]{8}))?")
PHASE_NAMES = ("timeframe", "model")


def outer_name(base: str, window: int) -> str:
    """Return the name of the study on the bars before an outer window."""
    return f"{base}.outer{window}"


def trade_name(base: str, window: int, parameter_set: str) -> str:
    """Return the name of the study that trades an outer window with a parameter set."""
    return f"{outer_name(base, window)}.trade_{parameter_set[:8]}"


def is_nested(name: str) -> bool:
    """Return whether a study belongs to a nested walk-forward."""
    return OUTER.fullmatch(name) is not None


def is_trade(name: str) -> bool:
    """Return whether a study trades an outer window."""
    return is_nested(name) and ".trade_" in name


def typed_name(name: str) -> str:
    """Return the name that a person gave: without the suffixes of phases and of a nested walk-forward."""
    return name.partition(".")[0] if is_nested(name) else searched_name(name)


def searched_name(name: str) -> str:
    """Return the name that the phases of one search share."""
    return name.removesuffix(".timeframe").removesuffix(".model")


def phase_of(name: str) -> str:
    """Return the phase of a study: timeframe, model or single."""
    last = name.rpartition(".")[2]
    return last if "." in name and last in PHASE_NAMES else "single"
