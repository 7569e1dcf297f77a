"""A run that debug=tiny cuts down: the own timeframe of its file, and how far it is cut."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from optimize.data.timeframes import HOUR_NS, timeframe_ns
from optimize.errors import BadInputError
from optimize.report.tables import say
from optimize.results.launches import NO_MEANING, is_debug

DEBUGGED_VERBS = ("study", "walk-forward")


def own_timeframe(verb: str, config: Any, words: Sequence[str]) -> str | None:
    """Return the timeframe of a file's own bars where a debug run keeps them and they are coarse, else None.

    By it the file of the debug run chooses how many months and which timeframes are taken.
    """
    if verb not in DEBUGGED_VERBS or not is_debug(words):
        return None
    data = config.data
    if data.provider != "file" or data.timeframe is not None or data.path is None:
        return None
    from optimize.data.market import load_bars

    try:
        own = load_bars(dataclasses.replace(data, months=None)).timeframe
    except BadInputError:  # the checks of the run refuse the file with more details
        return None
    return own if timeframe_ns(own) > HOUR_NS else None


def say_cut(verb: str, config: Any, words: Sequence[str]) -> None:
    """Print how far a debug run was cut down, and that its scores mean nothing."""
    if verb not in DEBUGGED_VERBS or not is_debug(words) or getattr(config, "action", "run") != "run":
        return
    months = config.data.months
    parts = [] if verb != "study" else [f"{config.n_trials} trials"]
    parts.append("all bars" if months is None else f"at most the newest {months} months of bars")
    parts.append(f"{config.agent['total_timesteps']} training steps")
    parts.append(f"{config.window.count} test windows")
    say(f"debug=tiny cut it down to {', '.join(parts)}: {NO_MEANING}")
