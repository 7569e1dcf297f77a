"""Rollout of a policy over test spans, fused or in lock step, with every bar recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import flat_action
from envs.costs import CostSpec
from envs.env_state import EnvState
from envs.episodes import SequentialEpisodes
from envs.fused_rollout import replay_actions
from envs.ledger import bad_equity_message
from envs.outcomes import BAD_EQUITY, BAD_OBSERVATION, RUINED
from envs.policy import FusedPolicy, FusedRollout, Policy
from envs.rewards import RewardFunction, RewardSpec
from envs.spec import EnvSpec
from envs.stress import NO_STRESS, Stress
from envs.trajectory import Trajectory, empty_trajectory, record_steps
from envs.types import BoolArray, FloatArray, IntArray, Market
from envs.vector import TradingVectorEnv
from optimize.errors import NumericError, WalkforgeError


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One account over the n bars of a test span, flat before and after it.

    After a ruin equity stays 0 and nothing is traded. Amounts are in units of starting equity.
    """

    bar: IntArray  # (n,) indices into the market
    equity: FloatArray  # (n,) at the close of each bar; 1.0 before the first
    weight: FloatArray  # (n, A) held at the close of each bar
    turnover: FloatArray  # (n,) traded notional / equity before the fill
    commission: FloatArray  # (n,) of orders and exits at a session's last close, as are slippage and fills
    slippage: FloatArray  # (n,)
    financing: FloatArray  # (n,) paid (+) or earned (-)
    interest: FloatArray  # (n,) earned on idle cash: a part of financing, and no cost
    liquidated: BoolArray  # (n,) whether the maintenance margin closed the positions
    fills: IntArray  # (n,) trades
    quantity: FloatArray  # (n, A) signed units that orders bought (+) or sold (-)
    price: FloatArray  # (n, A) before slippage
    cost: FloatArray  # (n, A) commission + slippage
    forced: BoolArray  # (n, A) closed by the session's exit, against the order
    exit_quantity: FloatArray  # (n, A) signed units closed at a session's last close if it has no exit bar
    exit_price: FloatArray  # (n, A) before slippage
    exit_cost: FloatArray  # (n, A) commission + slippage
    action: NDArray[Any]  # (n, A) or (n,) as sent, one bar earlier
    ruined: bool


def rollout(
    policy: Policy,
    market: Market,
    spans: Sequence[tuple[int, int]],
    *,
    env: EnvSpec,
    cost: CostSpec,
    reward: RewardSpec,
    lookback: int,
    stress: Stress = NO_STRESS,
) -> tuple[Evaluation, ...]:
    """Evaluate a policy on spans of bars (test_first, test_last), one environment row a span.

    A fusable policy runs in one compiled call, any other in lock step.
    """
    first = np.array([span[0] for span in spans], dtype=np.int64)
    last = np.array([span[1] for span in spans], dtype=np.int64)
    market_env = TradingVectorEnv(
        market,
        SequentialEpisodes(first - 1, last),
        num_envs=len(spans),
        env=env,
        cost=cost,
        reward=reward,
        lookback=lookback,
        stress=stress,
    )
    length = last - first + 1
    trajectory = empty_trajectory(market_env.env_state, market_env.single_action_space, int(length.max()))
    fused = None
    if isinstance(policy, FusedPolicy):
        fused = policy.fuse(market_env.env_state, market_env.reward_function)
    if fused is None:
        rollout_in_lock_step(policy, market_env, trajectory)
    else:
        market_env.reset()
        fused(market_env.env_state, trajectory)
        _check_outcome(market_env.env_state, trajectory)
    space = market_env.single_action_space
    return tuple(
        _read(trajectory, row, int(first[row]), int(length[row]), space) for row in range(len(spans))
    )


def rollout_in_lock_step(policy: Policy, env: TradingVectorEnv, trajectory: Trajectory) -> None:
    """Step all rows together, with one call of the policy at every step."""
    space, rows, delay = env.single_action_space, env.num_envs, env.env_state.rules.delay
    action = np.full((rows, *(space.shape or ())), flat_action(space), dtype=space.dtype)
    sent = action.reshape(rows, -1)
    observation, _ = env.reset()
    state: Any = None
    start = np.ones(rows, dtype=bool)
    running = np.ones(rows, dtype=bool)
    for step in range(trajectory.equity.shape[1]):
        _check_finite(observation[running], "observation", step)
        chosen, state = policy.act(observation, state, start)
        _check_finite(chosen[running], "action", step)
        action[...] = flat_action(space)
        action[running] = chosen[running]
        trajectory.action[:, step] = sent
        if delay:
            late = flat_action(space) if step < delay else trajectory.action[:, step - delay]
            sent[...] = late
        observation, terminated, truncated = _step(env, action)
        record_steps(running, env.last_equity, env.last_weight, env.fill, trajectory)
        trajectory.outcome[terminated & running] = RUINED
        start = terminated | truncated
        running &= ~start
        if not running.any():
            break


def replay_without_costs(
    evaluations: Sequence[Evaluation],
    market: Market,
    *,
    env: EnvSpec,
    reward: RewardSpec,
    lookback: int,
    stress: Stress = NO_STRESS,
    cash_rate: float = 0.0,
) -> tuple[Evaluation, ...]:
    """Repeat the recorded actions at zero cost, for the zero-cost Sharpe ratio and the cost drag.

    Idle cash earns cash_rate in both, so that interest is no part of the difference.
    """
    spans = [(int(evaluation.bar[0]), int(evaluation.bar[-1])) for evaluation in evaluations]
    return rollout(
        RecordedPolicy([evaluation.action for evaluation in evaluations]),
        market,
        spans,
        env=env,
        cost=CostSpec.free(cash_rate),
        reward=reward,
        lookback=lookback,
        stress=stress,
    )


def _step(
    env: TradingVectorEnv, action: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Step the environments; an error of the ledger becomes a NumericError."""
    try:
        observation, _, terminated, truncated, _ = env.step(action)
    except WalkforgeError as error:
        raise NumericError(f"the evaluation cannot go on: {error}") from error
    return observation, terminated, truncated


def _check_outcome(env: EnvState, trajectory: Trajectory) -> None:
    """Raise NumericError for the first step with a value that is not finite."""
    failed = np.flatnonzero(trajectory.outcome >= BAD_OBSERVATION)
    if not len(failed):
        return
    row = min(failed, key=lambda row: (trajectory.steps[row], trajectory.outcome[row]))
    outcome, step = int(trajectory.outcome[row]), int(trajectory.steps[row])
    if outcome == BAD_EQUITY:
        raise NumericError(f"the evaluation cannot go on: {bad_equity_message(int(row), int(env.bar[row]))}")
    raise NumericError(_not_finite("observation" if outcome == BAD_OBSERVATION else "action", step))


def _read(trajectory: Trajectory, row: int, first: int, length: int, space: spaces.Space[Any]) -> Evaluation:
    """Return the evaluation of one row."""
    span = (row, slice(length))
    fill = {name: array[span] for name, array in trajectory.fill._asdict().items()}
    action = trajectory.action[span].reshape(length, *(space.shape or ())).astype(space.dtype)
    action[trajectory.steps[row] :] = flat_action(space)
    trades = np.count_nonzero(fill["quantity"], axis=1) + np.count_nonzero(fill["exit_quantity"], axis=1)
    kept = {name: array for name, array in fill.items() if name in Evaluation.__dataclass_fields__}
    computed = {
        "bar": np.arange(first, first + length, dtype=np.int64),
        "equity": trajectory.equity[span],
        "weight": trajectory.weight[span],
        "commission": (fill["commission"] + fill["exit_commission"]).sum(axis=1),
        "slippage": (fill["slippage"] + fill["exit_slippage"]).sum(axis=1),
        "fills": trades,
        "cost": fill["commission"] + fill["slippage"],
        "exit_cost": fill["exit_commission"] + fill["exit_slippage"],
        "action": action,
        "ruined": bool(trajectory.outcome[row] == RUINED),
    }
    return Evaluation(**(kept | computed))


@dataclass(frozen=True, eq=False)
class RecordedPolicy:
    """Repeat recorded actions, one array (n, ...) for each row."""

    actions: Sequence[NDArray[Any]]

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Return the actions of the next step, or the last ones after the end; the state is the step."""
        step = 0 if state is None else int(state)
        return np.stack([action[min(step, len(action) - 1)] for action in self.actions]), step + 1

    def fuse(self, env: EnvState, reward: RewardFunction) -> FusedRollout:
        """Return a rollout of the recorded actions."""

        def fused(env: EnvState, trajectory: Trajectory) -> None:
            steps = trajectory.equity.shape[1]
            for row, action in enumerate(self.actions):
                sent = action[:steps]
                trajectory.action[row, : len(sent)] = sent.reshape(len(sent), -1)
            replay_actions(env, trajectory)

        return fused


def _check_finite(values: NDArray[Any], value: str, step: int) -> None:
    if not np.all(np.isfinite(values)):
        raise NumericError(_not_finite(value, step))


def _not_finite(value: str, step: int) -> str:
    return f"the {value} became NaN or infinite at step {step} of the evaluation"
