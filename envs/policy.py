"""Protocols of a policy: step by step, and fused into one compiled rollout."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from envs.env_state import EnvState
from envs.rewards import RewardFunction
from envs.trajectory import Trajectory

FusedRollout = Callable[[EnvState, Trajectory], None]


class Policy(Protocol):
    """Map observations to actions; a recurrent policy passes its state from step to step."""

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Return actions and the next state for observation (N, D); start (N,) marks first steps."""
        ...


@runtime_checkable
class FusedPolicy(Protocol):
    """Policy whose forward pass is compiled, so that whole spans run in one kernel."""

    def fuse(self, env: EnvState, reward: RewardFunction) -> FusedRollout | None:
        """Return a function that rolls out every row to its end and records each step.

        None if the policy must be called step by step. Actions equal those of `act` up to the order of
        float32 operations.
        """
        ...
