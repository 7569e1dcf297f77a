"""Random policies as a distribution: equal to the policy itself, quantiles matched to the turnover."""

from dataclasses import replace

import numpy as np
import pytest

from envs.costs import CostSpec
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from optimize.evaluate.metrics import session_returns
from optimize.evaluate.random_policies import RandomPolicy, measure_random, random_quantile
from optimize.evaluate.rollout import rollout
from optimize.evaluate.score import ScoreSpec, running_score
from optimize.evaluate.windows import Window, WindowSpec, place_windows, plan_windows
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk

SPEC = WindowSpec(min_train_bars=1, min_test_bars=1)
COST = CostSpec(commission_bps=3.0, fixed_fee=1.0)


def windows_of(market: Market) -> tuple[Window, ...]:
    plan = plan_windows(SPEC, market.session_date)
    return place_windows(plan, market, purge_bars=2, lookback=4, spec=SPEC)


@pytest.mark.parametrize(
    ("action", "assets", "long_only"),
    [("continuous", 1, False), ("continuous", 2, True), ("discrete", 1, False), ("discrete", 1, True)],
)
def test_each_score_is_that_of_the_policy_of_its_seed(action: str, assets: int, long_only: bool) -> None:
    market = make_market(random_walk(6 * 60, assets=assets), timeframe="4h")
    market = with_exits(market, at_open=[50, 200], at_close=[120])
    env, windows = EnvSpec(action=action, long_only=long_only), windows_of(market)
    rule = ScoreSpec(min_periods=2)
    found = measure_random(
        market, windows, env=env, cost=COST, lookback=4, score_spec=rule, turnover=0.2, seed=(3, 1), n_seeds=7
    )
    scores, traded = [], []
    for k in range(7):
        policy = RandomPolicy(env.action_space(assets), 0.2, (3, 1, k))
        spans = [(window.test_first, window.test_last) for window in windows]
        runs = rollout(policy, market, spans, env=env, cost=COST, reward=RewardSpec(), lookback=4)
        returns = [session_returns(market, run, window) for run, window in zip(runs, windows, strict=True)]
        scores.append(running_score(rule, [returns], market.sessions_per_year))
        traded.append(sum(float(run.turnover.sum()) for run in runs))
    assert None not in scores
    assert found.scores == tuple(sorted(each for each in scores if each is not None))
    assert found.scores[3] == scores[found.median_seed]
    assert found.turnover == pytest.approx(np.mean(traded), rel=1e-12)


def test_sessions_without_bars_carry_equity_forward_and_ruined_policies_have_no_score() -> None:
    close = np.concatenate([np.full(60, 100.0), np.full(30, 1.0), np.full(60, 1.0)])
    market = make_market(close, timeframe="24h")
    env = EnvSpec(action="discrete", max_leverage=3.0)
    span = replace(windows_of(market)[0], test_first=40, test_last=149, test_sessions=(40, 150))
    found = measure_random(
        market,
        [span],
        env=env,
        cost=COST,
        lookback=4,
        score_spec=ScoreSpec(),
        turnover=0.5,
        seed=(0,),
        n_seeds=30,
    )
    assert found.scores[0] is None
    assert found.scores[-1] is not None
    assert found.scores[-1] > 0
    assert found.quantile(0.0) is None
    assert found.quantile(1.0) == found.scores[-1]


LOW: tuple[float | None, ...] = (None, -1.0, 0.0, 1.0)
HIGH: tuple[float | None, ...] = (-4.0, -3.0, -2.0, -1.0)


@pytest.mark.parametrize(
    ("turnover", "score", "expected"),
    [
        (1.0, 0.5, 0.75),  # of the level itself
        (100.0, -2.5, 0.5),
        (10.0, -2.5, 0.375),  # halfway between 0.25 and 0.5, by the logarithm of the turnover
        (0.01, 0.5, 0.75),  # below the grid
        (1e6, -2.5, 0.5),
        (1.0, 0.0, 0.625),  # a tie counts half
        (0.0, 0.5, 0.75),
    ],
)
def test_the_quantile_is_among_policies_of_the_same_turnover(
    turnover: float, score: float, expected: float
) -> None:
    assert random_quantile([(100.0, HIGH), (1.0, LOW)], turnover, score) == pytest.approx(expected)


def test_without_scores_or_levels_there_is_no_quantile() -> None:
    assert random_quantile([], 1.0, 0.5) is None
    assert random_quantile([(1.0, LOW)], None, 0.5) is None
    assert random_quantile([(1.0, LOW)], 1.0, None) is None
