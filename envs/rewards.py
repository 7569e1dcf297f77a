"""Rewards: compiled functions of the equity before and after a step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from envs.compiled import compiled
from envs.errors import require
from envs.types import FloatArray

RUIN_FLOOR = 1e-3
"""Smallest equity ratio that is scored: a step that loses more, ruin included, earns log(RUIN_FLOOR)."""

RewardFunction = Callable[[FloatArray, FloatArray, FloatArray], None]


@compiled
def log_return(previous: float, equity: float) -> float:
    """Return log(equity / previous), floored at log(RUIN_FLOOR) so that ruin stays finite."""
    return math.log(max(equity / previous, RUIN_FLOOR))


@compiled
def net_log_return(previous: FloatArray, equity: FloatArray, reward: FloatArray) -> None:
    """Write the log return net of all costs, (N,) each, into reward."""
    for row in range(len(reward)):
        reward[row] = log_return(previous[row], equity[row])


REWARDS: dict[str, RewardFunction] = {"net_log_return": net_log_return}


@dataclass(frozen=True)
class RewardSpec:
    """Which reward the agent learns from."""

    name: str = "net_log_return"

    def __post_init__(self) -> None:
        require(self.name in REWARDS, "reward.name", self.name, f"one of {', '.join(sorted(REWARDS))}")

    def function(self) -> RewardFunction:
        """Return the compiled reward."""
        return REWARDS[self.name]
