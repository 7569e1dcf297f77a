"""Rewards: golden tables, the state of an episode, floor, clip, ruin and refused settings."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from envs.costs import CostSpec
from envs.episodes import SequentialEpisodes
from envs.errors import BadInputError
from envs.rewards import REWARDS, RUIN_FLOOR, RewardSpec, buy_and_hold_moments
from envs.spec import EnvSpec
from envs.types import Market
from tests.envs.environments import make_env, play
from tests.markets import make_market, random_walk

# Moody & Saffell's ratio over ten returns: eta 0.01, A0 0.001, B0 0.0002
SHARPE_MOMENTS = np.array([0.001, 0.0002, np.inf])
SHARPE_RETURNS = [0.01, -0.005, 0.003, 0.0, -0.02, 0.015, 0.007, -0.001, 0.004, -0.012]
SHARPE_TABLE = [
    *(0.6590101655, -0.4015185874, 0.1767139177, -0.0378361826, -1.5656513786),
    *(1.0144729833, 0.4602650216, -0.1097683977, 0.2509555824, -0.9432533587),
]
SHARPE_END = (0.000909169847, 0.000190153453)

# By hand, eta 0.1, A0 0.01, DD0^2 0.0004:
#  R  .02: (.02 - .005) / .02 = .75                                    A .011  DD^2 .9 x .0004 = .00036
#  R -.01: (.00036 x -.0155 - .0055 x .0001) / .00036^1.5 = -.89744    A .0089 DD^2 .000324 + .00001
#  R   0 : (.000334 x -.00445) / .000334^1.5 = -.24349                 A .00801  DD^2 .0003006
#  R  .03: (.03 - .004005) / .0003006^.5 = 1.49932                     A .010209 DD^2 .00027054
#  R -.04: (.00027054 x -.0451045 - .0051045 x .0016) / .00027054^1.5 = -4.57761
DOWNSIDE_MOMENTS = np.array([0.01, 1.0, 0.0004])
DOWNSIDE_RETURNS = [0.02, -0.01, 0.0, 0.03, -0.04]
DOWNSIDE_TABLE = [0.75, -0.897442687816, -0.243493166548, 1.499323450221, -4.577611455181]
DOWNSIDE_END = (0.0051881, 0.000403486)

DIFFERENTIAL = ("differential_sharpe", "differential_downside")


def rewards_of(spec: RewardSpec, returns: ArrayLike, moments: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Score simple returns one after another; return the rewards and the last state in its own units."""
    equity = np.concatenate([[1.0], np.cumprod(1.0 + np.asarray(returns))])
    peak = np.maximum.accumulate(equity)
    start, terms = spec.fit(np.asarray(moments))
    state, rewards = start[None].copy(), np.empty((len(equity) - 1, 1))
    for step, reward in enumerate(rewards):
        spec.reward.step(
            equity[step : step + 1], equity[step + 1 : step + 2], peak[step + 1 :], state, terms, reward
        )
    return rewards[:, 0], state[0] * terms.unit ** np.arange(1, len(start) + 1)


def market_that_returns(returns: ArrayLike, moments: ArrayLike) -> Market:
    """Build a market whose buy-and-hold earns these returns, and a bar more on which the episode closes."""
    close = np.concatenate([[1.0], np.cumprod(1.0 + np.asarray(returns))])
    return replace(make_market([*close, close[-1]]), hold_moments=np.asarray(moments))


def fitted(market: Market) -> Market:
    return replace(market, hold_moments=buy_and_hold_moments(market, 0, market.n_bars - 1))


@pytest.mark.parametrize(
    ("spec", "moments", "returns", "table", "end"),
    [
        (RewardSpec(DIFFERENTIAL[0]), SHARPE_MOMENTS, SHARPE_RETURNS, SHARPE_TABLE, SHARPE_END),
        (RewardSpec(DIFFERENTIAL[1], 0.1), DOWNSIDE_MOMENTS, DOWNSIDE_RETURNS, DOWNSIDE_TABLE, DOWNSIDE_END),
    ],
    ids=DIFFERENTIAL,
)
def test_differential_rewards_equal_their_tables(
    spec: RewardSpec, moments: NDArray[Any], returns: list[float], table: list[float], end: tuple[float, ...]
) -> None:
    moments = np.where(np.isinf(moments), 1.0, moments)
    rewards, state = rewards_of(spec, returns, moments)
    np.testing.assert_allclose(rewards, table, rtol=0, atol=1e-9)
    np.testing.assert_allclose(state, end, rtol=0, atol=1e-12)
    env = make_env(market_that_returns(returns, moments), reward=spec)
    steps = play(env, np.ones((len(returns), 1)))
    np.testing.assert_allclose(steps.reward, table, rtol=0, atol=1e-9)
    unit = math.sqrt(moments[1] - moments[0] ** 2 if spec.name == DIFFERENTIAL[0] else moments[2])
    np.testing.assert_allclose(steps.observation[-1, -2:] * [unit, unit**2], end, rtol=1e-6)
    assert env.reward_active_share == 1.0


def test_net_log_return_is_floored() -> None:
    rewards, _ = rewards_of(RewardSpec(), [0.0, -0.5, -0.9995, -1.0], np.full(3, np.nan))
    np.testing.assert_allclose(rewards, [0.0, np.log(0.5), np.log(RUIN_FLOOR), np.log(RUIN_FLOOR)])


def test_drawdown_penalised_by_hand() -> None:
    # equity 1, 1.25, 1, .8, 1, 1.5, .75: drawdowns 0, 0, .2, .36, .2, 0, .5; only .2, .16 and .5 deepen them
    returns = [0.25, -0.2, -0.2, 0.25, 0.5, -0.5]
    logs = np.log1p(returns)
    rewards, _ = rewards_of(
        RewardSpec("drawdown_penalised", drawdown_penalty=3.0), returns, np.full(3, np.nan)
    )
    np.testing.assert_allclose(rewards, logs - [0, 0.6, 0.48, 0, 0, 1.5], rtol=0, atol=1e-12)
    steps = play(
        make_env(
            market_that_returns(returns, np.full(3, np.nan)),
            reward=RewardSpec("drawdown_penalised", drawdown_penalty=3.0),
        ),
        np.ones((6, 1)),
    )
    np.testing.assert_allclose(steps.reward, rewards, rtol=0, atol=1e-12)
    np.testing.assert_allclose(steps.observation[1:, -1], [0, -0.2, -0.36, -0.2, 0, -0.5], atol=1e-7)


def test_variance_floor_binds_below_its_part_of_buy_and_hold() -> None:
    # deviation 1, A 0: after n idle bars A stays 0 and B is .5^n; then R 1 earns B / max(B, floor)^1.5
    spec = RewardSpec("differential_sharpe", adaptation_rate=0.5, variance_floor=0.2)
    moments = [0.0, 0.01, 0.01]
    for count, variance in ((2, 0.25), (3, 0.2)):
        rewards, _ = rewards_of(spec, [*np.zeros(count), 0.1], moments)
        assert rewards[-1] == pytest.approx(0.5**count / variance**1.5)
    downside = replace(spec, name="differential_downside")
    for count, square in ((2, 0.25), (3, 0.2)):  # R 1 earns R / DD
        rewards, _ = rewards_of(downside, [*np.zeros(count), 0.1], moments)
        assert rewards[-1] == pytest.approx(1 / math.sqrt(square))


@pytest.mark.parametrize("name", DIFFERENTIAL)
def test_clip_binds_on_both_sides_and_ruin_earns_the_lower(name: str) -> None:
    spec, moments = RewardSpec(name, clip=1.5), [0.0, 0.0001, 0.0001]  # a bar's deviation is 0.01
    returns = [0.01, 0.04, -0.04, -0.9995]
    rewards, _ = rewards_of(spec, returns, moments)
    assert 0 < rewards[0] < 1.5
    np.testing.assert_array_equal(rewards[1:], [1.5, -1.5, -1.5])
    # a mean below 0 flatters a large loss, by its square; ruin is no success all the same
    flattered, _ = rewards_of(spec, [-0.9], [-0.02, 0.0008, 0.0008])
    ruined, _ = rewards_of(spec, [-1.0], [-0.02, 0.0008, 0.0008])
    assert (flattered[0], ruined[0]) == (1.5, -1.5)


@pytest.mark.parametrize("name", REWARDS)
def test_ruin_is_finite_and_the_worst(name: str) -> None:
    market = replace(make_market([100.0, 100.0, 40.0, 40.0, 40.0]), hold_moments=np.array([0, 0.01, 0.01]))
    env = make_env(market, env=EnvSpec(max_leverage=2.0), reward=RewardSpec(name))
    steps = play(env, np.ones((4, 1)))
    assert steps.terminated.tolist() == [False, True]
    worst = {"net_log_return": np.log(RUIN_FLOOR), "drawdown_penalised": np.log(RUIN_FLOOR) - 1}
    assert steps.reward[-1] == pytest.approx(worst.get(name, -10.0))


@pytest.mark.parametrize("name", DIFFERENTIAL)
def test_each_row_starts_each_episode_from_the_train_span(name: str) -> None:
    market = fitted(make_market(random_walk(60, volatility=0.02)))
    episodes = SequentialEpisodes([0, 10, 20, 40], [6, 30, 27, 45])
    spec, env_spec = RewardSpec(name, adaptation_rate=0.3), EnvSpec(rebalance_band=0.0)
    env = make_env(market, episodes=episodes, num_envs=2, env=env_spec, reward=spec)
    start, _ = spec.fit(market.hold_moments)
    alone = {
        (first, last): play(make_env(market, first=first, last=last, reward=spec), np.ones((99, 1)))
        for first, last in ((0, 6), (10, 30), (20, 27), (40, 45))
    }
    observation, _ = env.reset()
    np.testing.assert_allclose(observation[:, -2:], [start, start], rtol=1e-6)
    spans, step, restarts = [(0, 6), (10, 30)], [0, 0], 0
    for _ in range(20):
        observation, reward, _, truncated, infos = env.step(np.ones((2, 1)))
        for row in (0, 1):
            assert reward[row] == alone[spans[row]].reward[step[row]]
            step[row] += 1
            shown = infos["final_obs"][row] if truncated[row] else observation[row]
            np.testing.assert_array_equal(shown, alone[spans[row]].observation[step[row]])
            if truncated[row]:
                np.testing.assert_allclose(observation[row, -2:], start, rtol=1e-6)
                spans[row] = ((20, 27), (40, 45))[restarts % 2]
                step[row], restarts = 0, restarts + 1
        if restarts == 2:
            break
    assert restarts == 2
    assert env.reset()[0][0, -2:].tolist() == np.float32(start).tolist()


def test_active_share_counts_steps_without_floor_and_clip() -> None:
    # in deviations of .01: 1, active, leaves A .5 and B 1, variance .75; -4 is clipped and leaves -1.75, 8.5
    # and 5.4; the idle bars halve both: variance 3.5, 1.93, 1.01, .52 and then, below the floor of .3, .26
    returns = [0.01, -0.04, *[0.0] * 6]
    market = market_that_returns(returns, [0.0, 0.0001, 0.0001])
    spec = RewardSpec("differential_sharpe", adaptation_rate=0.5, variance_floor=0.3, clip=3.0)
    env = make_env(market, reward=spec)
    assert math.isnan(env.reward_active_share)
    shares = []
    env.reset()
    for _ in returns:
        env.advance(np.ones((1, 1)))
        shares.append(env.reward_active_share)
    assert shares == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4, 4 / 5, 5 / 6, 6 / 7, 6 / 8])
    still = make_env(market, num_envs=3)
    still.reset()
    still.advance(np.ones((3, 1)))
    assert still.reward_active_share == 1.0


def test_the_reward_of_a_flat_agent_decays_to_zero() -> None:
    market = fitted(make_market(random_walk(400)))
    steps = play(
        make_env(market, reward=RewardSpec("differential_sharpe"), cost=CostSpec()), np.zeros((399, 1))
    )
    assert np.isfinite(steps.reward).all()
    assert abs(steps.reward[-1]) < 1e-3 < abs(steps.reward[0])
    assert np.abs(steps.observation[-1, -2:]).max() < 0.05


def test_hold_moments_by_hand() -> None:
    # 10 -> 20 -> 15 and 10 -> 10 -> 5: worth 1, 1.5, 1; returns .5 and -1/3
    market = make_market([[7.0, 7.0], [10.0, 10.0], [20.0, 10.0], [15.0, 5.0], [99.0, 99.0]])
    expected = [(1 / 2 - 1 / 3) / 2, (1 / 4 + 1 / 9) / 2, 1 / 18]
    np.testing.assert_allclose(buy_and_hold_moments(market, 1, 3), expected)
    assert np.isnan(buy_and_hold_moments(market, 3, 3)).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "profit"}, r"reward\.name='profit'.*one of .*net_log_return"),
        ({"adaptation_rate": 0.0}, r"reward\.adaptation_rate=0\.0"),
        ({"adaptation_rate": float("nan")}, r"reward\.adaptation_rate=nan"),
        ({"variance_floor": 1.5}, r"reward\.variance_floor=1\.5"),
        ({"clip": math.inf}, r"reward\.clip=inf"),
        ({"drawdown_penalty": -1.0}, r"reward\.drawdown_penalty=-1\.0"),
    ],
)
def test_out_of_range_keys_are_refused_by_name(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        RewardSpec(**keys).fit(np.zeros(3))


@pytest.mark.parametrize("name", DIFFERENTIAL)
def test_moments_that_are_missing_or_still_are_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(BadInputError, match=r"needs the moments .*hold_moments\(market, first, last\)"):
        make_env(make_market(random_walk(9)), reward=RewardSpec(name))
    for close in (np.full(9, 5.0), 1.01 ** np.arange(9)):
        with pytest.raises(BadInputError, match=r"too steady to scale by; train on more bars or use reward="):
            make_env(fitted(make_market(close)), reward=RewardSpec(name))


@pytest.mark.parametrize("name", ["net_log_return", "drawdown_penalised"])
def test_scaled_rewards_are_in_deviations_of_buy_and_hold(name: str) -> None:
    returns, moments = [0.02, -0.03, 0.01, -1.0], [0.001, 0.000101, 0.00006]  # a bar's deviation is 0.01
    plain, _ = rewards_of(RewardSpec(name), returns, moments)
    scaled, _ = rewards_of(RewardSpec(name, scale="volatility"), returns, moments)
    np.testing.assert_allclose(scaled, plain / 0.01, rtol=1e-12)
    with pytest.raises(BadInputError, match=r"scale=volatility needs the moments"):
        make_env(make_market(random_walk(9)), reward=RewardSpec(name, scale="volatility"))
    market = fitted(make_market(random_walk(60)))
    hold = np.ones((58, 1))
    envs = [make_env(market, reward=RewardSpec(name, scale=scale)) for scale in ("none", "volatility")]
    free, unit = (play(env, hold).reward for env in envs)
    deviation = np.sqrt(market.hold_moments[1] - market.hold_moments[0] ** 2)
    np.testing.assert_allclose(unit, free / deviation, rtol=1e-12)


@pytest.mark.parametrize("scale", ["none", "volatility"])
def test_the_scale_changes_no_differential_reward(scale: str) -> None:
    spec = RewardSpec("differential_sharpe", scale=scale)
    start, terms = spec.fit(np.array([0.001, 0.000101, 0.00006]))
    np.testing.assert_allclose([*start, terms.unit], [0.1, 1.01, 0.01])


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_names_its_source_and_its_keys(name: str) -> None:
    reward = REWARDS[name]
    assert reward.source
    assert all(hasattr(RewardSpec(), key) for key in reward.parameters)
    assert bool(reward.state) == (reward.start is not None)
