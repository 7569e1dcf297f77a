"""The calls of callbacks while kernels play a rollout: after which steps, and with which locals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from envs.types import BoolArray
from optimize.agents.callbacks import wants_every_step
from optimize.agents.compiled.rollout import Step


def called_after(callback: BaseCallback, steps: int) -> list[int]:
    """Return after how many steps a callback is called: after each, or after the first and the last."""
    return list(range(1, steps + 1)) if wants_every_step(callback) else sorted({1, steps})


def step_locals(
    step: Step, done: BoolArray, ended: Sequence[dict[str, float]], observation: NDArray[np.float32]
) -> dict[str, Any]:
    """Return the locals of stable-baselines3's loop after a step, for callbacks that read them.

    `infos` has the episode of each row that ended one; `new_obs` is the first of the next episode there.
    """
    infos: list[dict[str, Any]] = [{} for _ in done]
    for row, episode in zip(np.flatnonzero(done), ended, strict=True):
        infos[row] = {"episode": episode, "TimeLimit.truncated": bool(not step.terminated[row])}
    rewards = step.reward.astype(np.float32)
    return {"rewards": rewards, "dones": done, "infos": infos, "new_obs": observation}
