"""Off-policy loop of N rows: act, step the ledger, store the transition, update.

`run_updates` is compiled once for each algorithm, `run_rollouts` once for each algorithm and reward;
`updates_kernel` and `rollouts_kernel` bind the kernels that the placeholders below stand for.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from envs.env_state import EnvState
from envs.observations import ObservationLayout, write_account, write_feature_window
from envs.outcomes import BAD_REWARD, COMPLETED
from envs.rewards import RewardFunction, net_log_return
from envs.types import BoolArray, FloatArray, IntArray
from optimize.agents.kernels.bindings import bind_kernels, inner_kernel, refcounted_kernel
from optimize.agents.kernels.env_step import EnvStep, step_ledger
from optimize.agents.kernels.nets.layers import Matrix, Vector, matrix_view
from optimize.agents.kernels.off_policy.replay import (
    CONTINUED,
    TERMINATED,
    TRUNCATED,
    ReplayArrays,
    advance_slot,
)

LearnerT = TypeVar("LearnerT")  # the networks and buffers of an algorithm, as its kernels take them


class UpdateDraws(NamedTuple):
    """Random draws of U updates: transitions and noise."""

    slot: IntArray  # (U, B)
    row: IntArray  # (U, B)
    noise: NDArray[np.float32]  # (U, kinds, B, A)


class RolloutPlan(NamedTuple):
    """Steps and updates of several rollouts, with all random numbers drawn ahead."""

    rollout: int  # steps of each
    first_trained: int  # number of the first rollout followed by updates
    updates: int  # after each such rollout
    learning_rate: FloatArray  # (rollouts,) of the updates after each
    at_random: BoolArray  # (steps,) whether the noise is the action
    noise: NDArray[np.float32]  # (steps, N, A) of the policy, or the random action itself
    draws: UpdateDraws


# learner, features, replay, slots, rows, noise, number, learning rate, losses
UpdateKernel = Callable[
    [
        LearnerT,
        NDArray[np.float32],
        ReplayArrays,
        IntArray,
        IntArray,
        NDArray[np.float32],
        int,
        float,
        FloatArray,
    ],
    None,
]
# learner, observations, at random, noise, lowest exposure, actions, targets
ActKernel = Callable[[LearnerT, Vector, bool, Matrix, float, Matrix, FloatArray], None]
AfterStepKernel = Callable[[LearnerT], None]
# learner, features, replay, draws, start, stop, origin, learning rate, losses
UpdatesKernel = Callable[
    [LearnerT, NDArray[np.float32], ReplayArrays, UpdateDraws, int, int, int, float, FloatArray], None
]
# learner, environments, account layout, replay, step, observation, at random, noise
StepKernel = Callable[
    [LearnerT, EnvState, ObservationLayout, ReplayArrays, EnvStep, Vector, bool, Matrix], tuple[int, int, int]
]
# learner, environments, account layout, replay, step, observation, plan, first, stop, losses
RolloutsKernel = Callable[
    [
        LearnerT,
        EnvState,
        ObservationLayout,
        ReplayArrays,
        EnvStep,
        Vector,
        RolloutPlan,
        int,
        int,
        FloatArray,
    ],
    tuple[int, int, int, int],
]


class AlgorithmKernels(NamedTuple, Generic[LearnerT]):
    """Kernels of one algorithm: a gradient update, the actions of a step, and the work after a step."""

    name: str
    update: UpdateKernel[LearnerT]
    act: ActKernel[LearnerT]
    after_step: AfterStepKernel[LearnerT]


def _unbound(*_: Any) -> Any:
    raise NotImplementedError("this placeholder is bound by updates_kernel and rollouts_kernel")


_update: UpdateKernel[Any] = _unbound  # in `run_updates`
_run_updates: UpdatesKernel[Any] = _unbound  # in `run_rollouts`
_take_step: StepKernel[Any] = _unbound  # in `run_rollouts`
_act: ActKernel[Any] = _unbound  # in `take_step`
_after_step: AfterStepKernel[Any] = _unbound  # in `take_step`
_reward: RewardFunction = net_log_return  # in `take_step`


def run_updates(
    learner: LearnerT,
    features: NDArray[np.float32],
    replay: ReplayArrays,
    draws: UpdateDraws,
    start: int,
    stop: int,
    origin: int,
    learning_rate: float,
    losses: FloatArray,
) -> None:
    """Make updates start, ..., stop - 1 of the draws; `origin` is the first update after the last rollout."""
    for number in range(start, stop):
        _update(
            learner,
            features,
            replay,
            draws.slot[number],
            draws.row[number],
            draws.noise[number],
            number - origin,
            learning_rate,
            losses[number],
        )


def run_rollouts(
    learner: LearnerT,
    env: EnvState,
    account_layout: ObservationLayout,
    replay: ReplayArrays,
    step: EnvStep,
    observation: Vector,
    plan: RolloutPlan,
    first: int,
    stop: int,
    losses: FloatArray,
) -> tuple[int, int, int, int]:
    """Take steps first, ..., stop - 1 of a plan, until an episode ends or an error occurs.

    The updates after a rollout are made before the next one starts. `observation` holds N observations,
    account_layout is the layout of one without its window. Return the number of the next step, the outcome,
    the row that failed, and the number of rewards limited neither by floor nor by clip.
    """
    active = 0
    for number in range(first, stop):
        turn = number // plan.rollout
        if number % plan.rollout == 0 and turn > plan.first_trained:
            done = (turn - 1 - plan.first_trained) * plan.updates
            rate = plan.learning_rate[turn - 1]
            ahead = done + plan.updates
            _run_updates(learner, env.features, replay, plan.draws, done, ahead, done, rate, losses)
        outcome, row, scored = _take_step(
            learner,
            env,
            account_layout,
            replay,
            step,
            observation,
            plan.at_random[number],
            plan.noise[number],
        )
        if outcome != COMPLETED:
            return number, outcome, row, active
        active += scored
        for row in range(len(step.terminated)):
            if step.terminated[row] or step.truncated[row]:
                return number + 1, COMPLETED, -1, active
    return stop, COMPLETED, -1, active


def take_step(
    learner: LearnerT,
    env: EnvState,
    account_layout: ObservationLayout,
    replay: ReplayArrays,
    step: EnvStep,
    observation: Vector,
    at_random: bool,
    noise: Matrix,
) -> tuple[int, int, int]:
    """Act, step the ledger and store the transition; return outcome, failed row and unlimited rewards."""
    n_envs = len(env.bar)
    slot = replay.place[0]
    shown = matrix_view(observation, 0, n_envs, env.layout.size)
    for row in range(n_envs):
        bar, account_row = env.bar[row], replay.account[slot, row]
        replay.bar[slot, row] = bar
        write_account(row, bar, env.bars.tradable, account_layout, env.account, env.reward_state, account_row)
        write_feature_window(env.features, bar, env.layout.weight, shown[row])
        for index in range(len(account_row)):
            shown[row, env.layout.weight + index] = account_row[index]
        step.previous[row] = env.account.equity[row]
    _act(learner, observation, at_random, noise, env.lowest, replay.action[slot], step.target)
    outcome, failing = step_ledger(env, step)
    if outcome != COMPLETED:
        return outcome, failing, 0
    account = env.account
    active = _reward(
        step.previous, account.equity, account.peak, env.reward_state, env.reward_params, step.reward
    )
    for row in range(n_envs):
        if not math.isfinite(step.reward[row]):
            return BAD_REWARD, row, 0
        replay.reward[slot, row] = step.reward[row]
        left = TERMINATED if step.terminated[row] else TRUNCATED if step.truncated[row] else CONTINUED
        replay.ended[slot, row] = left
        after = replay.following[slot, row]
        write_account(row, env.bar[row], env.bars.tradable, account_layout, account, env.reward_state, after)
        step.reward_sum[row] += step.reward[row]
        step.length[row] += 1
    advance_slot(replay)
    _after_step(learner)
    return COMPLETED, -1, active


def updates_kernel(kernels: AlgorithmKernels[LearnerT]) -> UpdatesKernel[LearnerT]:
    """Return `run_updates` compiled for an algorithm."""
    return _compile_updates(kernels)


def rollouts_kernel(kernels: AlgorithmKernels[LearnerT], reward: RewardFunction) -> RolloutsKernel[LearnerT]:
    """Return `run_rollouts` compiled for an algorithm and a reward."""
    return _compile_rollouts(kernels, reward)


@cache
def _compile_updates(kernels: AlgorithmKernels[Any]) -> UpdatesKernel[Any]:
    bound = bind_kernels(run_updates, f"run_updates_{kernels.name}", _update=kernels.update)
    return refcounted_kernel(bound)


@cache
def _compile_rollouts(kernels: AlgorithmKernels[Any], reward: RewardFunction) -> RolloutsKernel[Any]:
    kind = f"{kernels.name}_{reward.__name__}"
    step = bind_kernels(
        take_step, f"take_step_{kind}", _act=kernels.act, _after_step=kernels.after_step, _reward=reward
    )
    bound = bind_kernels(
        run_rollouts,
        f"run_rollouts_{kind}",
        _run_updates=_compile_updates(kernels),
        _take_step=inner_kernel(step),
    )
    return refcounted_kernel(bound)
