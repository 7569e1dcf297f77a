"""One step of all environments inside a training kernel, its errors, and the callbacks around it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from envs.actions import find_bad_action
from envs.env_state import EnvState
from envs.ledger import step_accounts
from envs.outcomes import BAD_ACTION, BAD_EQUITY, COMPLETED
from envs.types import BoolArray, FloatArray, IntArray
from optimize.agents.kernels.bindings import kernel
from optimize.agents.sb3.callbacks import wants_every_step
from optimize.agents.sb3.vecenv import SB3VecEnv


class EnvStep(NamedTuple):
    """One step of all rows."""

    target: FloatArray  # (N, A)
    previous: FloatArray  # (N,) equity
    reward: FloatArray  # (N,)
    terminated: BoolArray  # (N,)
    truncated: BoolArray  # (N,)
    reward_sum: FloatArray  # (N,) of the episode so far
    length: IntArray  # (N,)


def make_env_step(vec_env: SB3VecEnv) -> EnvStep:
    """Return the arrays of a step; the sums over an episode are those of the environments."""
    account = vec_env.env.env_state.account
    count = len(account.weight)
    return EnvStep(
        np.zeros_like(account.weight),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
        vec_env.reward_sum,
        vec_env.length,
    )


@kernel
def step_ledger(env: EnvState, step: EnvStep) -> tuple[int, int]:
    """Step the ledger with the targets of all rows; return the outcome and the row that failed, or -1."""
    refused = find_bad_action(env.bar, env.last, step.target, env.rules.discrete, env.lowest)
    if refused >= 0:
        return BAD_ACTION, refused
    broken = step_accounts(
        env.bar,
        env.last,
        step.target,
        env.bars,
        env.rates,
        env.rules,
        env.account,
        env.fill,
        step.terminated,
        step.truncated,
    )
    return (BAD_EQUITY, broken) if broken >= 0 else (COMPLETED, -1)


def outcome_message(env: EnvState, outcome: int, row: int) -> str:
    """Return the error message of an outcome, worded as by the vector environment and SB3VecEnv."""
    broke = "training broke the environment: "
    if outcome == BAD_ACTION:
        return f"{broke}the action of the policy in env row {row} is NaN or infinite"
    if outcome == BAD_EQUITY:
        return f"{broke}equity of env row {row} is not finite after bar {env.bar[row] + 1}"
    return f"{broke}a reward is NaN or infinite"


def callback_steps(callback: BaseCallback, steps: int) -> list[int]:
    """Return the step counts after which a callback is called: every step, or the first and the last."""
    return list(range(1, steps + 1)) if wants_every_step(callback) else sorted({1, steps})


def step_locals(
    step: EnvStep, done: BoolArray, ended: Sequence[dict[str, float]], observation: NDArray[np.float32]
) -> dict[str, Any]:
    """Return the local variables of stable-baselines3's loop after a step, for callbacks that read them.

    `infos` holds the episodes that ended; `new_obs` of such a row is the first of its next episode.
    """
    infos: list[dict[str, Any]] = [{} for _ in done]
    for row, episode in zip(np.flatnonzero(done), ended, strict=True):
        infos[row] = {"episode": episode, "TimeLimit.truncated": bool(not step.terminated[row])}
    rewards = step.reward.astype(np.float32)
    return {"rewards": rewards, "dones": done, "infos": infos, "new_obs": observation}
