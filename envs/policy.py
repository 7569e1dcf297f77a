"""What an agent must offer to act in a market, and what it may offer to do so in one compiled call."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from envs.recording import Recording
from envs.rewards import RewardFunction
from envs.world import World

Fused = Callable[[World, Recording], None]


class Policy(Protocol):
    """Anything that maps observations to actions; recurrent agents thread their state through."""

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Return actions and the next state for observation (N, D); start (N,) marks first steps."""
        ...


@runtime_checkable
class FusedPolicy(Protocol):
    """A policy whose thinking is a kernel, so that whole spans are played without coming back to Python."""

    def fuse(self, world: World, reward: RewardFunction) -> Fused | None:
        """Return what plays every row of this world to its end, recording each step.

        None where this policy has to be asked step by step. It acts as `act` does: in float32, whose
        operations may come in another order.
        """
        ...
