"""Run a policy over test spans, in one compiled call or in lock step, and record every bar of the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.accounts import fill_rows
from envs.actions import still_action
from envs.costs import CostSpec
from envs.episodes import SequentialEpisodes
from envs.ledger import broken_equity
from envs.playing import play_recorded
from envs.policy import Fused, FusedPolicy, Policy
from envs.recording import BROKEN, RUINED, UNSEEN, Recording, blank_recording, record_rows
from envs.rewards import RewardFunction, RewardSpec
from envs.types import BoolArray, FloatArray, IntArray, Market
from envs.vector import EnvSpec, TradingVectorEnv
from envs.world import World
from optimize.errors import NumericError, WalkforgeError

KEPT = ("quantity", "price", "financing", "turnover", "forced", "exit_quantity", "exit_price")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One account over the n bars of one test span, which it enters and leaves flat.

    After a ruin equity stays 0 and nothing is traded. Amounts are in units of starting equity.
    """

    bar: IntArray  # (n,) indices into the market
    equity: FloatArray  # (n,) at the close of each bar; 1.0 before the first
    weight: FloatArray  # (n, A) held at the close of each bar
    turnover: FloatArray  # (n,) traded notional / equity before the fill
    commission: FloatArray  # (n,) like slippage and fills of orders and of exits at a session's last close
    slippage: FloatArray  # (n,)
    financing: FloatArray  # (n,) paid (+) or earned (-)
    fills: IntArray  # (n,) trades
    quantity: FloatArray  # (n, A) signed units that orders bought (+) or sold (-)
    price: FloatArray  # (n, A) before slippage
    cost: FloatArray  # (n, A) commission + slippage
    forced: BoolArray  # (n, A) closed by the session's exit, against the order
    exit_quantity: FloatArray  # (n, A) signed units closed at a session's last close, for want of an exit bar
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
) -> tuple[Evaluation, ...]:
    """Evaluate a policy on spans of bars (test_first, test_last), one environment row a span.

    A policy that can plays them in one compiled call, any other in lock step.
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
    )
    length = last - first + 1
    recording = blank_recording(market_env.world, market_env.single_action_space, int(length.max()))
    fused = None
    if isinstance(policy, FusedPolicy):
        fused = policy.fuse(market_env.world, market_env.reward_function)
    if fused is None:
        play_in_lock_step(policy, market_env, recording)
    else:
        market_env.reset()
        fused(market_env.world, recording)
        _check_outcome(market_env.world, recording)
    space = market_env.single_action_space
    return tuple(_read(recording, row, int(first[row]), int(length[row]), space) for row in range(len(spans)))


def play_in_lock_step(policy: Policy, env: TradingVectorEnv, recording: Recording) -> None:
    """Play all rows at once, the policy asked at every step for the actions of all of them."""
    space, rows = env.single_action_space, env.num_envs
    action = np.full((rows, *(space.shape or ())), still_action(space), dtype=space.dtype)
    sent = action.reshape(rows, -1)
    observation, _ = env.reset()
    state: Any = None
    start = np.ones(rows, dtype=bool)
    running = np.ones(rows, dtype=bool)
    for step in range(recording.equity.shape[1]):
        _check_finite(observation[running], "observation", step)
        said, state = policy.act(observation, state, start)
        _check_finite(said[running], "action", step)
        action[...] = still_action(space)
        action[running] = said[running]
        recording.action[:, step] = sent
        observation, terminated, truncated = _step(env, action)
        record_rows(running, env.last_equity, env.last_weight, fill_rows(env.fill), recording)
        recording.outcome[terminated & running] = RUINED
        start = terminated | truncated
        running &= ~start
        if not running.any():
            break


def replay_free(
    evaluations: Sequence[Evaluation], market: Market, *, env: EnvSpec, reward: RewardSpec, lookback: int
) -> tuple[Evaluation, ...]:
    """Re-run the recorded actions without any cost, for the zero-cost Sharpe ratio and the cost drag."""
    spans = [(int(evaluation.bar[0]), int(evaluation.bar[-1])) for evaluation in evaluations]
    return rollout(
        RecordedPolicy([evaluation.action for evaluation in evaluations]),
        market,
        spans,
        env=env,
        cost=CostSpec.free(),
        reward=reward,
        lookback=lookback,
    )


def _step(
    env: TradingVectorEnv, action: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Step the environments; a ledger that breaks is a numeric failure of the trial."""
    try:
        observation, _, terminated, truncated, _ = env.step(action)
    except WalkforgeError as error:
        raise NumericError(f"the evaluation cannot go on: {error}") from error
    return observation, terminated, truncated


def _check_outcome(world: World, recording: Recording) -> None:
    """Raise NumericError for the first step at which a row met a number that is none."""
    failed = np.flatnonzero(recording.outcome >= UNSEEN)
    if not len(failed):
        return
    row = min(failed, key=lambda row: (recording.steps[row], recording.outcome[row]))
    outcome, step = int(recording.outcome[row]), int(recording.steps[row])
    if outcome == BROKEN:
        raise NumericError(f"the evaluation cannot go on: {broken_equity(int(row), int(world.bar[row]))}")
    raise NumericError(_not_finite("observation" if outcome == UNSEEN else "action", step))


def _read(recording: Recording, row: int, first: int, length: int, space: spaces.Space[Any]) -> Evaluation:
    """Return the span of one row."""
    span = (row, slice(length))
    fill = {name: array[span] for name, array in recording.fill._asdict().items()}
    action = recording.action[span].reshape(length, *(space.shape or ())).astype(space.dtype)
    action[recording.steps[row] :] = still_action(space)
    trades = np.count_nonzero(fill["quantity"], axis=1) + np.count_nonzero(fill["exit_quantity"], axis=1)
    return Evaluation(
        bar=np.arange(first, first + length, dtype=np.int64),
        equity=recording.equity[span],
        weight=recording.weight[span],
        commission=(fill["commission"] + fill["exit_commission"]).sum(axis=1),
        slippage=(fill["slippage"] + fill["exit_slippage"]).sum(axis=1),
        fills=trades,
        cost=fill["commission"] + fill["slippage"],
        exit_cost=fill["exit_commission"] + fill["exit_slippage"],
        action=action,
        ruined=bool(recording.outcome[row] == RUINED),
        **{name: fill[name] for name in KEPT},
    )


@dataclass(frozen=True, eq=False)
class RecordedPolicy:
    """Send recorded actions again, one array (n, ...) for each row."""

    actions: Sequence[NDArray[Any]]

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Send those of the next step, the last one again where there are no more; the state is the step."""
        step = 0 if state is None else int(state)
        return np.stack([action[min(step, len(action) - 1)] for action in self.actions]), step + 1

    def fuse(self, world: World, reward: RewardFunction) -> Fused:
        """Return what plays them without asking."""

        def fused(world: World, recording: Recording) -> None:
            steps = recording.equity.shape[1]
            for row, action in enumerate(self.actions):
                sent = action[:steps]
                recording.action[row, : len(sent)] = sent.reshape(len(sent), -1)
            play_recorded(world, recording)

        return fused


def _check_finite(values: NDArray[Any], what: str, step: int) -> None:
    if not np.all(np.isfinite(values)):
        raise NumericError(_not_finite(what, step))


def _not_finite(what: str, step: int) -> str:
    return f"the {what} became NaN or infinite at step {step} of the evaluation"
