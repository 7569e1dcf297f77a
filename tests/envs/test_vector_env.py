"""The vector environment: autoreset, returned arrays, refusals."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from envs.actions import flat_action
from envs.costs import CostSpec
from envs.episodes import RandomEpisodes, SequentialEpisodes
from envs.errors import BadInputError, WalkforgeError
from envs.rewards import RUIN_FLOOR, RewardSpec
from envs.single import TradingEnv
from envs.spec import EnvSpec
from envs.vector import TradingVectorEnv
from tests.envs.environments import make_env
from tests.markets import make_market, random_walk

MARKET = make_market(random_walk(60, volatility=0.02))


def test_finished_rows_restart_in_the_same_step() -> None:
    episodes = SequentialEpisodes([2, 10, 20], [5, 18, 24])
    env = make_env(MARKET, episodes=episodes, num_envs=2, lookback=3, cost=CostSpec())
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.reset()
    for _ in range(2):
        assert env.step(np.ones((2, 1)))[4] == {}
    observation, reward, terminated, truncated, infos = env.step(np.ones((2, 1)))
    assert truncated.tolist() == [True, False]
    assert not terminated.any()
    assert infos["_final_obs"].tolist() == infos["_episode_return"].tolist() == [True, False]
    assert env.last_bar.tolist() == [5, 13]
    assert env.bar.tolist() == [20, 13]  # the third listed episode
    assert env.last_equity[0] == pytest.approx(np.exp(infos["episode_return"][0]))
    assert env.last_weight.tolist()[0] == [0.0]
    assert env.account.equity[0] == 1.0
    assert reward[0] < 0.0  # of the closing order, not of the new episode
    np.testing.assert_array_equal(infos["final_obs"][0, :9], MARKET.features[3:6].ravel())
    np.testing.assert_array_equal(observation[0, :9], MARKET.features[18:21].ravel())
    np.testing.assert_array_equal(observation[0, 9:], [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(observation[1], infos["final_obs"][1])


def test_ruined_rows_terminate_and_restart() -> None:
    market = make_market([100.0, 100.0, 40.0, 40.0, 40.0])
    env = make_env(market, env=EnvSpec(max_leverage=2.0))
    env.reset()
    env.step(np.ones((1, 1)))
    _, reward, terminated, truncated, infos = env.step(np.ones((1, 1)))
    assert (terminated[0], truncated[0], env.last_equity[0]) == (True, False, 0.0)
    assert infos["episode_return"][0] == reward[0] == np.log(RUIN_FLOOR)
    assert (env.account.equity[0], env.bar[0]) == (1.0, 0)


def test_a_ruined_account_stays_so_until_it_restarts() -> None:
    env = make_env(make_market([100.0, 100.0, 40.0, 80.0, 80.0]), env=EnvSpec(max_leverage=2.0))
    env.reset()
    for _ in range(2):
        env.advance(np.ones((1, 1)))
    with pytest.raises(WalkforgeError, match=r"call reset\(\) first"):
        env.advance(np.ones((1, 1)))


def test_reset_begins_the_list_again_and_environments_do_not_share_their_place() -> None:
    episodes = SequentialEpisodes([0, 5, 9], [4, 8, 12])
    env, other = (make_env(MARKET, episodes=episodes, num_envs=2) for _ in range(2))
    for each in (env, other, env):
        each.reset()
        assert each.bar.tolist() == [0, 5]
    for each in (env, other):
        each.begin(np.ones(2, dtype=bool))
        assert each.bar.tolist() == [9, 0]


def test_returned_arrays_are_the_callers_to_keep() -> None:
    env = make_env(MARKET, episodes=SequentialEpisodes([0], [3]), num_envs=2)
    env.reset()
    kept: list[tuple[Any, Any]] = []
    for _ in range(7):
        observation, reward, *_ = env.step(np.ones((2, 1)))
        kept += [(array, array.copy()) for array in (observation, reward, env.last_equity, env.last_bar)]
    for array, copy in kept:
        np.testing.assert_array_equal(array, copy)


def test_reset_leaves_no_trace_of_the_last_step() -> None:
    env = make_env(MARKET, cost=CostSpec())
    env.reset()
    env.step(np.ones((1, 1)))
    assert env.fill.turnover[0] == 1.0
    env.reset()
    assert (env.fill.turnover[0], env.fill.commission[0, 0], env.fill.price[0, 0]) == (0.0, 0.0, 0.0)
    assert (env.last_bar[0], env.last_equity[0], env.last_weight[0, 0]) == (0, 1.0, 0.0)


def test_same_seed_same_episodes() -> None:
    env = make_env(MARKET, episodes=RandomEpisodes(0, 59, 10), num_envs=8)
    env.reset(seed=3)
    bars = env.bar.copy()
    env.reset()
    assert env.bar.tolist() != bars.tolist()
    env.reset(seed=3)
    assert env.bar.tolist() == bars.tolist()


@pytest.mark.parametrize("action", ["continuous", "discrete"])
def test_make_vec_equals_single_environments(action: str) -> None:
    firsts, lasts = [4, 11, 30], [24, 31, 50]
    keys: dict[str, Any] = {
        "env": EnvSpec(action=action),
        "cost": CostSpec(),
        "reward": RewardSpec(),
        "lookback": 5,
    }
    many = gymnasium.make_vec(
        "Walkforge/Trading-v0",
        num_envs=3,
        market=MARKET,
        episodes=SequentialEpisodes(firsts, lasts),
        **keys,
    )
    assert isinstance(many.unwrapped, TradingVectorEnv)
    singles = [
        TradingEnv(MARKET, SequentialEpisodes([first], [last]), **keys)
        for first, last in zip(firsts, lasts, strict=True)
    ]
    observation, _ = many.reset(seed=0)
    np.testing.assert_array_equal(observation, [single.reset(seed=0)[0] for single in singles])
    many.action_space.seed(1)
    for _ in range(45):
        actions = many.action_space.sample()
        observation, reward, terminated, truncated, infos = many.step(actions)
        for row, single in enumerate(singles):
            shown, earned, dead, over, _ = single.step(actions[row])
            assert (earned, dead, over) == (reward[row], terminated[row], truncated[row])
            if over:
                np.testing.assert_array_equal(infos["final_obs"][row], shown)
                shown, _ = single.reset()
            np.testing.assert_array_equal(observation[row], shown)


@pytest.mark.parametrize(
    ("spec", "action"),
    [
        (EnvSpec(), float("nan")),
        (EnvSpec(), float("inf")),
        (EnvSpec(action="discrete"), 3),
        (EnvSpec(action="discrete"), -1),
        (EnvSpec(action="discrete"), 0.5),
        (EnvSpec(action="discrete", long_only=True), 2),
        (EnvSpec(action="discrete", long_only=True), -1),
    ],
)
def test_an_impossible_action_is_refused_and_trades_nothing(spec: EnvSpec, action: float) -> None:
    env = make_env(MARKET, num_envs=2, env=spec)
    env.reset()
    with pytest.raises(WalkforgeError, match=r"env row 1 is not allowed"):
        env.step(np.array([1, action]))
    assert env.bar.tolist() == [0, 0]
    assert env.account.equity.tolist() == [1.0, 1.0]


def test_a_step_without_an_episode_is_refused() -> None:
    env = make_env(MARKET)
    with pytest.raises(WalkforgeError, match=r"call reset\(\) first"):
        env.step(np.zeros((1, 1)))


def test_a_price_that_is_not_finite_raises() -> None:
    env = make_env(make_market([1.0, 1.0, float("nan"), 1.0]))
    env.reset()
    env.step(np.ones((1, 1)))
    with pytest.raises(WalkforgeError, match="equity of env row 0 is not finite after bar 2"):
        env.step(np.ones((1, 1)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lookback": 0}, "lookback=0"),
        ({"lookback": 6, "first": 4}, r"bars 4\.\.59 .* within 5\.\.59"),
        ({"last": 60}, r"bars 0\.\.60 .* within 0\.\.59"),
        ({"num_envs": 0}, "num_envs=0"),
    ],
)
def test_impossible_worlds_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        make_env(MARKET, **keys)


def test_discrete_actions_need_a_single_asset() -> None:
    with pytest.raises(BadInputError, match="2 assets"):
        make_env(make_market(random_walk(9, assets=2)), env=EnvSpec(action="discrete"))


@pytest.mark.parametrize(
    "keys",
    [
        {"action": "box"},
        {"fill": "mid"},
        {"max_leverage": 0.0},
        {"rebalance_band": -0.1},
        {"rebalance_band": float("nan")},
        {"episode_bars": 0},
        {"episode": "day"},
        {"max_weights": [0.5, 0.0]},
        {"max_weights": [float("inf")]},
    ],
)
def test_out_of_range_env_keys_are_refused_by_name(keys: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=f"^env.{next(iter(keys))}="):
        EnvSpec(**keys)


@pytest.mark.parametrize(
    ("spec", "low", "refusal"),
    [
        (EnvSpec(), -1.0, r"finite numbers in \[-1, 1\]"),
        (EnvSpec(long_only=True), 0.0, r"finite numbers in \[0, 1\]"),
        (EnvSpec(action="discrete"), 3, r"0 \(short\), 1 \(flat\) or 2 \(long\)"),
        (EnvSpec(action="discrete", long_only=True), 2, r"0 \(flat\) or 1 \(long\)"),
    ],
)
def test_the_action_space_holds_the_allowed_actions(spec: EnvSpec, low: float, refusal: str) -> None:
    env = make_env(MARKET, env=spec)
    space = env.single_action_space
    expected = spaces.Discrete(int(low)) if spec.action == "discrete" else spaces.Box(low, 1.0, (1,))
    assert space == expected
    env.reset()
    with pytest.raises(WalkforgeError, match=refusal):
        env.step(np.array([float("nan")]))
    env.step(np.array([flat_action(space)]))
    assert env.account.quantity[0, 0] == 0.0
    env.step(np.array([space.n - 1 if isinstance(space, spaces.Discrete) else 1]))
    assert env.account.weight[0, 0] == 1.0


def test_a_long_only_agent_cannot_go_short() -> None:
    env = make_env(make_market(random_walk(60, assets=3)), env=EnvSpec(long_only=True), cost=CostSpec())
    env.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (50, 1, 3))  # outside this action space
    held = []
    for action in actions:
        env.step(action)
        held.append(env.account.quantity[0].copy())
    assert np.min(held) == 0.0 < np.max(held)


@pytest.mark.parametrize(("limits", "bought"), [([], 0.8), ([0.3], 0.3), ([0.3, 2.0], 0.3)])
def test_no_order_is_above_its_limit(limits: list[float], bought: float) -> None:
    env = make_env(make_market(np.full((9, 2), 5.0)), env=EnvSpec(max_weights=limits))
    env.reset()
    env.step(np.array([[0.8, -0.2]]))
    np.testing.assert_allclose(env.account.weight, [[bought, -0.2]])


def test_limits_must_fit_the_assets() -> None:
    with pytest.raises(BadInputError, match=r"env\.max_weights=\[0\.5, 0\.5, 0\.5\].*2 in the order of"):
        make_env(make_market(random_walk(9, assets=2)), env=EnvSpec(max_weights=[0.5] * 3))


def test_a_spread_that_the_data_lacks_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"cost\.spread_from_data=True .* no spread"):
        make_env(MARKET, cost=CostSpec(spread_from_data=True))


def test_memory_mapped_markets_are_read_in_place() -> None:
    env = make_env(MARKET)
    assert np.shares_memory(env._bars.close, MARKET.close)
    assert np.shares_memory(env._features, MARKET.features)
