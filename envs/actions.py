"""Action spaces, and the check of actions before they become orders."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.compiled import compiled
from envs.types import FloatArray, IntArray

ActionSpace = spaces.Discrete | spaces.Box
SHORT_FLAT_LONG, FLAT_LONG = 3, 2


def action_space(discrete: bool, long_only: bool, n_assets: int) -> ActionSpace:
    """Return the action space of one environment: an exposure for each asset, or one choice."""
    if discrete:
        return spaces.Discrete(FLAT_LONG if long_only else SHORT_FLAT_LONG)
    return spaces.Box(0.0 if long_only else -1.0, 1.0, (n_assets,), np.float32)


def flat_action(space: spaces.Space[Any]) -> int:
    """Return the action of zero exposure: a choice, or the number for each asset."""
    return 1 if isinstance(space, spaces.Discrete) and space.n == SHORT_FLAT_LONG else 0


def describe_actions(space: spaces.Space[Any]) -> str:
    """Return the allowed actions in words, for an error message."""
    if isinstance(space, spaces.Box):
        return f"finite numbers in [{space.low[0]:g}, {space.high[0]:g}]"
    return "0 (short), 1 (flat) or 2 (long)" if flat_action(space) else "0 (flat) or 1 (long)"


@compiled
def find_bad_action(bar: IntArray, last: IntArray, target: FloatArray, discrete: bool, lowest: float) -> int:
    """Return the first row whose episode is over or whose target (N, A) is not a valid action, or -1.

    Continuous targets must be finite; they are clipped later. A discrete target is lowest, ..., 0 or 1.
    """
    for row in range(len(bar)):
        if bar[row] >= last[row]:
            return row
        for value in target[row]:
            if not math.isfinite(value):
                return row
            if discrete and (value < lowest or value not in (-1.0, 0.0, 1.0)):
                return row
    return -1
