"""Run a policy over test spans in lock step and record every bar of the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.episodes import SequentialEpisodes
from envs.policy import Policy
from envs.rewards import RewardSpec
from envs.types import FloatArray, IntArray, Market
from envs.vector import EnvSpec, TradingVectorEnv
from optimize.errors import NumericError, WalkforgeError

FLAT_DISCRETE = 1  # of short, flat, long


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One account over the n bars of one test span, which it enters and leaves flat.

    After a ruin equity stays 0 and nothing is traded. Amounts are in units of starting equity.
    """

    bar: IntArray  # (n,) indices into the market
    equity: FloatArray  # (n,) at the close of each bar; 1.0 before the first
    weight: FloatArray  # (n, A) held at the close of each bar
    turnover: FloatArray  # (n,) traded notional / equity before the fill
    commission: FloatArray  # (n,)
    slippage: FloatArray  # (n,)
    financing: FloatArray  # (n,) paid (+) or earned (-)
    fills: IntArray  # (n,) assets traded
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
    """Evaluate a policy on spans of bars (test_first, test_last), one environment row a span."""
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
    record = _Record(market_env, int(length.max()))
    observation, _ = market_env.reset()
    state: Any = None
    start = np.ones(len(spans), dtype=bool)
    running = np.ones(len(spans), dtype=bool)
    ruined = np.zeros(len(spans), dtype=bool)
    for step in range(int(length.max())):
        _check_finite(observation[running], "observation", step)
        action, state = policy.act(observation, state, start)
        _check_finite(action[running], "action", step)
        record.action[step, running] = action[running]
        observation, terminated, truncated = _step(market_env, record.action[step])
        record.write(step, running, market_env)
        ruined |= terminated
        start = terminated | truncated
        running &= ~start
        if not running.any():
            break
    return tuple(
        record.read(row, int(first[row]), int(length[row]), bool(ruined[row])) for row in range(len(spans))
    )


def replay_free(
    evaluations: Sequence[Evaluation], market: Market, *, env: EnvSpec, reward: RewardSpec, lookback: int
) -> tuple[Evaluation, ...]:
    """Re-run the recorded actions without any cost, for the zero-cost Sharpe ratio and the cost drag."""
    spans = [(int(evaluation.bar[0]), int(evaluation.bar[-1])) for evaluation in evaluations]
    return rollout(
        _RecordedPolicy([evaluation.action for evaluation in evaluations]),
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


class _Record:
    """Preallocated arrays (steps, N, ...) of what the environments did; rows past their span stay flat."""

    def __init__(self, env: TradingVectorEnv, steps: int) -> None:
        shape, assets = (steps, env.num_envs), env.account.weight.shape[1]
        space = env.single_action_space
        still = FLAT_DISCRETE if np.issubdtype(space.dtype, np.integer) else 0
        self.equity = np.zeros(shape)
        self.weight = np.zeros((*shape, assets))
        self.turnover = np.zeros(shape)
        self.commission = np.zeros(shape)
        self.slippage = np.zeros(shape)
        self.financing = np.zeros(shape)
        self.fills = np.zeros(shape, dtype=np.int64)
        self.action = np.full((*shape, *(space.shape or ())), still, dtype=space.dtype)

    def write(self, step: int, rows: NDArray[np.bool_], env: TradingVectorEnv) -> None:
        """Keep one step of the rows that are still inside their span."""
        fill = env.fill
        self.equity[step, rows] = env.last_equity[rows]
        self.weight[step, rows] = env.last_weight[rows]
        self.turnover[step, rows] = fill.turnover[rows]
        self.commission[step, rows] = fill.commission[rows].sum(axis=1)
        self.slippage[step, rows] = fill.slippage[rows].sum(axis=1)
        self.financing[step, rows] = fill.financing[rows]
        self.fills[step, rows] = np.count_nonzero(fill.quantity[rows], axis=1)

    def read(self, row: int, first: int, length: int, ruined: bool) -> Evaluation:
        """Return the span of one row as arrays of its own."""
        return Evaluation(
            bar=np.arange(first, first + length, dtype=np.int64),
            equity=self.equity[:length, row].copy(),
            weight=self.weight[:length, row].copy(),
            turnover=self.turnover[:length, row].copy(),
            commission=self.commission[:length, row].copy(),
            slippage=self.slippage[:length, row].copy(),
            financing=self.financing[:length, row].copy(),
            fills=self.fills[:length, row].copy(),
            action=self.action[:length, row].copy(),
            ruined=ruined,
        )


class _RecordedPolicy:
    """Send recorded actions again; the state is the step."""

    def __init__(self, actions: Sequence[NDArray[Any]]) -> None:
        steps = max(len(action) for action in actions)
        self._actions = np.stack(
            [
                np.concatenate([action, np.repeat(action[-1:], steps - len(action), axis=0)])
                for action in actions
            ],
            axis=1,
        )

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        step = 0 if state is None else int(state)
        return self._actions[step], step + 1


def _check_finite(values: NDArray[Any], what: str, step: int) -> None:
    if not np.all(np.isfinite(values)):
        raise NumericError(f"the {what} became NaN or infinite at step {step} of the evaluation")
