"""Run a policy over test spans in lock step and record every bar of the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.actions import still_action
from envs.costs import CostSpec
from envs.episodes import SequentialEpisodes
from envs.policy import Policy
from envs.rewards import RewardSpec
from envs.types import BoolArray, Fill, FloatArray, IntArray, Market
from envs.vector import EnvSpec, TradingVectorEnv
from optimize.errors import NumericError, WalkforgeError

FILL = tuple(field.name for field in fields(Fill))
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
    steps = np.zeros(len(spans), dtype=np.int64)
    for step in range(int(length.max())):
        _check_finite(observation[running], "observation", step)
        action, state = policy.act(observation, state, start)
        _check_finite(action[running], "action", step)
        record.action[step, running] = action[running]
        observation, terminated, truncated = _step(market_env, record.action[step])
        record.write(step, market_env)
        steps += running
        ruined |= terminated & running
        start = terminated | truncated
        running &= ~start
        if not running.any():
            break
    return tuple(
        record.read(row, int(first[row]), int(length[row]), int(steps[row]), bool(ruined[row]))
        for row in range(len(spans))
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
    """Preallocated arrays (steps, N, ...) of what the environments did; a row past its end sends no order."""

    def __init__(self, env: TradingVectorEnv, steps: int) -> None:
        shape, space = (steps, env.num_envs), env.single_action_space
        self.action = np.full((*shape, *(space.shape or ())), still_action(space), dtype=space.dtype)
        self._equity = np.zeros(shape)
        self._weight = np.zeros((steps, *env.last_weight.shape))
        self._made = {name: getattr(env.fill, name) for name in FILL}  # written in place by every step
        self._fill = {name: np.zeros((steps, *now.shape), now.dtype) for name, now in self._made.items()}

    def write(self, step: int, env: TradingVectorEnv) -> None:
        """Keep one step of all rows, also of those past their end: to choose among them takes longer."""
        self._equity[step] = env.last_equity
        self._weight[step] = env.last_weight
        for name, now in self._made.items():
            self._fill[name][step] = now

    def read(self, row: int, first: int, length: int, steps: int, ruined: bool) -> Evaluation:
        """Return the span of one row as arrays of its own, zero after the steps that it was running."""
        fill = {name: _until(steps, array[:length, row]) for name, array in self._fill.items()}
        trades = np.count_nonzero(fill["quantity"], axis=1) + np.count_nonzero(fill["exit_quantity"], axis=1)
        return Evaluation(
            bar=np.arange(first, first + length, dtype=np.int64),
            equity=_until(steps, self._equity[:length, row]),
            weight=_until(steps, self._weight[:length, row]),
            commission=(fill["commission"] + fill["exit_commission"]).sum(axis=1),
            slippage=(fill["slippage"] + fill["exit_slippage"]).sum(axis=1),
            fills=trades,
            cost=fill["commission"] + fill["slippage"],
            exit_cost=fill["exit_commission"] + fill["exit_slippage"],
            action=self.action[:length, row].copy(),
            ruined=ruined,
            **{name: fill[name] for name in KEPT},
        )


def _until(steps: int, values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of values (n, ...) that is zero after the first steps."""
    kept = values.copy()
    kept[steps:] = 0
    return kept


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
