"""Random policies as a distribution: many seeds of one turnover, rolled out in one compiled call a window."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import ActionSpace, flat_action
from envs.costs import CostSpec
from envs.env_state import EnvState
from envs.episodes import SequentialEpisodes
from envs.fused_rollout import replay_actions
from envs.ledger import bad_equity_message
from envs.outcomes import BAD_EQUITY, RUINED
from envs.policy import FusedRollout
from envs.random_rollout import RandomBuffers, RandomPaths, draw_actions, rollout_random
from envs.rewards import RewardFunction, RewardSpec
from envs.spec import EnvSpec
from envs.trajectory import Trajectory
from envs.types import BoolArray, FloatArray, Market
from envs.vector import TradingVectorEnv
from optimize.errors import NumericError
from optimize.evaluate.score import ScoreSpec, running_score
from optimize.evaluate.windows import Window

BASELINE_REWARD = RewardSpec()  # unused by baselines; the default needs no train span
RANDOM_SEEDS = 200  # random policies of each turnover
LOW_SHARE, HIGH_SHARE = 0.05, 0.95  # shares of the policies between which a board shows their scores
RANDOM_NAME = "random"  # of a baseline; its turnover follows in the stored name
RandomSeed = tuple[int, ...]  # entropy of a policy's streams, one for each row


@dataclass(frozen=True, eq=False)
class RandomPolicy:
    """Draw a new uniform action at a fraction of the bars, else keep the last one; start flat."""

    space: ActionSpace
    turnover: float  # probability per bar of a new action
    seed: int | RandomSeed

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Pass (streams, action) through the state, so that one seed gives one sequence."""
        rows, flat = len(observation), flat_actions(self.space, len(observation))
        streams, kept = state or (_streams(self.seed, rows), flat)
        streams = streams.copy()
        beginning = start.reshape(-1, *[1] * (flat.ndim - 1))
        drawn = np.where(beginning, flat, kept).reshape(rows, 1, -1).astype(np.float64)
        draw_actions(streams, self.turnover, *_kind(self.space), drawn)
        action = drawn.reshape(flat.shape).astype(flat.dtype)
        return action, (streams, action)

    def fuse(self, env: EnvState, reward: RewardFunction) -> FusedRollout:
        """Return a rollout with all actions drawn ahead, since they do not depend on observations."""

        def fused(env: EnvState, trajectory: Trajectory) -> None:
            streams = _streams(self.seed, len(trajectory.action))
            draw_actions(streams, self.turnover, *_kind(self.space), trajectory.action)
            replay_actions(env, trajectory)

        return fused


@dataclass(frozen=True)
class RandomScores:
    """Scores of many random policies of one turnover."""

    # rising, None (ruined) first; 0 for a policy (or a window) without a trade
    scores: tuple[float | None, ...]
    turnover: float  # mean over the policies of the traded notional over equity, summed over the windows
    median_seed: int  # of the policy with the lower median score

    @property
    def median(self) -> float | None:
        """Return the lower median score."""
        return self.scores[(len(self.scores) - 1) // 2]

    def quantile(self, share: float) -> float | None:
        """Return the score below which a share of the policies lies."""
        return self.scores[min(int(share * len(self.scores)), len(self.scores) - 1)]


def flat_actions(space: ActionSpace, count: int) -> NDArray[Any]:
    """Return actions (count, ...) that order no exposure."""
    return np.full((count, *(space.shape or ())), flat_action(space), dtype=space.dtype)


def measure_random(
    market: Market,
    windows: Sequence[Window],
    *,
    env: EnvSpec,
    cost: CostSpec,
    lookback: int,
    score_spec: ScoreSpec,
    turnover: float,
    seed: RandomSeed,
    n_seeds: int = RANDOM_SEEDS,
) -> RandomScores:
    """Roll out random policies over the test spans and score each by the study's statistic.

    Policy k has the streams of RandomPolicy(space, turnover, (*seed, k)), one for each window.
    """
    streams = np.stack([_streams((*seed, k), len(windows)) for k in range(n_seeds)])
    found = [
        _roll_out(market, window, env, cost, lookback, turnover, np.ascontiguousarray(streams[:, place]))
        for place, window in enumerate(windows)
    ]
    ruined = np.any([lost for _, _, lost in found], axis=0)
    rule = replace(score_spec, min_periods=2)
    year = market.sessions_per_year
    scores = [
        None
        if ruined[k]
        else running_score(rule, [[returns[k] for returns, _, _ in found]], year, undefined=0.0) or 0.0
        for k in range(n_seeds)
    ]
    order = sorted(range(n_seeds), key=lambda k: _rank(scores[k]))
    return RandomScores(
        scores=tuple(scores[k] for k in order),
        turnover=float(np.mean(np.sum([traded for _, traded, _ in found], axis=0))),
        median_seed=order[(n_seeds - 1) // 2],
    )


def _roll_out(
    market: Market,
    window: Window,
    env: EnvSpec,
    cost: CostSpec,
    lookback: int,
    turnover: float,
    streams: NDArray[np.uint64],
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return session returns (N, S), total turnover (N,) and ruin (N,) of N policies over one test span."""
    count, assets = len(streams), market.n_assets
    episodes = SequentialEpisodes(np.full(count, window.test_first - 1), np.full(count, window.test_last))
    rows = TradingVectorEnv(
        market, episodes, num_envs=count, env=env, cost=cost, reward=BASELINE_REWARD, lookback=lookback
    )
    rows.begin(np.ones(count, np.bool_))
    first, end = window.test_sessions
    paths = RandomPaths(np.full((count, end - first), np.nan), np.zeros(count), np.zeros(count, np.int64))
    buffers = RandomBuffers(np.zeros(assets), np.zeros(assets))
    flat = float(flat_action(rows.single_action_space))
    rollout_random(streams, turnover, flat, rows.env_state, market.session, first, buffers, paths)
    if (broken := np.flatnonzero(paths.outcome == BAD_EQUITY)).size:
        message = bad_equity_message(int(broken[0]), int(rows.bar[broken[0]]))
        raise NumericError(f"a random policy cannot go on: {message}")
    return _returns(paths.equity), paths.turnover, paths.outcome == RUINED


def _returns(equity: FloatArray) -> FloatArray:
    """Return simple returns of equity (N, S) that starts at 1; a session without bars carries it forward."""
    wealth = np.column_stack([np.ones(len(equity)), equity])
    known = np.where(np.isnan(wealth), 0, np.arange(wealth.shape[1]))
    wealth = np.take_along_axis(wealth, np.maximum.accumulate(known, axis=1), axis=1)
    before, after = wealth[:, :-1], wealth[:, 1:]
    alive = before > 0
    return np.where(alive, after / np.where(alive, before, 1.0) - 1.0, 0.0)


def random_quantile(
    levels: Sequence[tuple[float, Sequence[float | None]]], turnover: float | None, score: float | None
) -> float | None:
    """Return the share of random policies of a trial's own turnover that score lower; ties count half.

    levels: (turnover, scores) of each random baseline. The share is interpolated between the two levels
    around the trial's turnover, by its logarithm; beyond the grid the nearest level counts.
    """
    known = sorted((level, scores) for level, scores in levels if level > 0 and scores)
    if not known or turnover is None or score is None:
        return None
    logs = [float(np.log(level)) for level, _ in known]
    shares = [_share_below(scores, score) for _, scores in known]
    return float(np.interp(np.log(max(turnover, 1e-300)), logs, shares))


def _share_below(scores: Sequence[float | None], score: float) -> float:
    below = sum(each is None or each < score for each in scores)
    return (below + 0.5 * sum(each == score for each in scores)) / len(scores)


def _rank(score: float | None) -> float:
    return -np.inf if score is None else score


def _streams(seed: int | RandomSeed, rows: int) -> NDArray[np.uint64]:
    entropy = [seed] if isinstance(seed, int) else list(seed)
    return np.random.SeedSequence(entropy).generate_state(rows, np.uint64).astype(np.uint64)


def _kind(space: ActionSpace) -> tuple[bool, float]:
    """Return whether actions are choices, and the lowest exposure."""
    if isinstance(space, spaces.Discrete):
        return True, -float(flat_action(space))
    return False, float(space.low[0])
