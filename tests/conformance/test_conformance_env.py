"""The vector environment beside gymnasium's SyncVectorEnv of single ones: same steps, infos and resets."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

import envs.vector  # noqa: F401  (it registers the environment)
from envs.costs import CostSpec
from envs.episodes import Episodes, RandomEpisodes, SequentialEpisodes
from envs.errors import BadInputError, WalkforgeError
from envs.rewards import RewardSpec
from envs.single import TradingEnv
from envs.spec import EnvSpec
from envs.vector import TradingVectorEnv
from tests.markets import make_market, random_walk

ROWS, LOOKBACK, ID = 3, 2, "Walkforge/Trading-v0"
MARKET = make_market(random_walk(60, assets=2, volatility=0.2), features=3)
ONE = make_market(random_walk(60, volatility=0.2), features=3)


def world(episodes: Episodes | None = None, **rules: Any) -> dict[str, Any]:
    return {
        "market": ONE if rules.get("action") == "discrete" else MARKET,
        "episodes": SequentialEpisodes([3], [12]) if episodes is None else episodes,
        "env": EnvSpec(**{"rebalance_band": 0.0, "max_leverage": 4.0} | rules),
        "cost": CostSpec(commission_bps=2.0),
        "reward": RewardSpec(),
        "lookback": LOOKBACK,
    }


def both(**rules: Any) -> tuple[TradingVectorEnv, SyncVectorEnv[Any, Any]]:
    ours = TradingVectorEnv(num_envs=ROWS, seed=0, **world(**rules))
    made = [lambda: TradingEnv(seed=0, **world(**rules)) for _ in range(ROWS)]
    return ours, SyncVectorEnv(made, autoreset_mode=AutoresetMode.SAME_STEP)


def actions(env: TradingVectorEnv, rng: np.random.Generator) -> NDArray[Any]:
    if isinstance(env.single_action_space, gymnasium.spaces.Discrete):
        return rng.integers(int(env.single_action_space.n), size=ROWS)
    return rng.uniform(-4.0, 4.0, (ROWS, 2)).astype(np.float32)


@pytest.mark.parametrize("rules", [{}, {"long_only": True}, {"action": "discrete"}, {"fill": "close"}])
def test_it_steps_ends_and_begins_anew_as_single_environments_do(rules: dict[str, Any]) -> None:
    ours, theirs = both(**rules)
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])
    ended = 0
    for _ in range(40):
        action = actions(ours, rng)
        mine, other = ours.step(action), theirs.step(action)
        for left, right in zip(mine[:4], other[:4], strict=True):
            np.testing.assert_array_equal(left, right)
        done = mine[2] | mine[3]
        ended += int(done.sum())
        assert ("final_obs" in mine[4]) == ("final_obs" in other[4]) == bool(done.any())
        if done.any():
            np.testing.assert_array_equal(mine[4]["_final_obs"], other[4]["_final_obs"])
            for row in np.flatnonzero(done):
                np.testing.assert_array_equal(mine[4]["final_obs"][row], other[4]["final_obs"][row])
    assert ended >= 2 * ROWS


def test_it_names_its_autoreset_mode_as_gymnasium_does() -> None:
    ours, theirs = both()
    assert ours.autoreset_mode is theirs.autoreset_mode is AutoresetMode.SAME_STEP
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]


def test_a_mask_resets_its_rows_and_no_others() -> None:
    ours, theirs = both()
    rng = np.random.default_rng(2)
    ours.reset()
    theirs.reset()
    for mask in ([True, False, False], [False, True, True], [True, True, True]):
        for _ in range(4):
            action = actions(ours, rng)
            ours.step(action)
            theirs.step(action)
        rows = np.array(mask)
        mine, infos = ours.reset(options={"reset_mask": rows})
        np.testing.assert_array_equal(mine, theirs.reset(options={"reset_mask": rows.copy()})[0])
        assert infos == {}
        np.testing.assert_array_equal(ours.account.equity[rows], 1.0)
        np.testing.assert_array_equal(ours.fill.turnover[rows], 0.0)
    action = actions(ours, rng)
    for left, right in zip(ours.step(action)[:4], theirs.step(action)[:4], strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    "mask", [[True, False, False], np.ones(2, bool), np.ones(ROWS), np.zeros(ROWS, bool), "all", None]
)
def test_a_mask_that_gymnasium_refuses_is_refused(mask: Any) -> None:
    ours, theirs = both()
    ours.reset()
    theirs.reset()
    with pytest.raises((TypeError, ValueError)):
        theirs.reset(options={"reset_mask": mask})
    with pytest.raises(BadInputError, match="reset_mask"):
        ours.reset(options={"reset_mask": mask})


def test_a_mask_is_no_first_reset_and_a_seed_is_one_number() -> None:
    ours, _ = both()
    with pytest.raises(BadInputError, match=r"call reset\(\) first"):
        ours.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(BadInputError, match="give one number"):
        ours.reset(seed=[1, 2, 3])  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, ROWS), (ROWS,), (ROWS * 2,), (ROWS, 2, 1), (1, ROWS, 2), ()])
def test_actions_of_another_shape_are_refused_and_change_nothing(shape: tuple[int, ...]) -> None:
    ours, _ = both()
    ours.reset()
    before = ours.bar.copy()
    with pytest.raises(WalkforgeError, match=r"actions of shape .* take \(3, 2\)"):
        ours.step(np.zeros(shape))
    np.testing.assert_array_equal(ours.bar, before)


def test_one_asset_takes_a_number_for_each_environment() -> None:
    ours, _ = both(action="discrete")
    ours.reset()
    ours.step(np.ones(ROWS, dtype=np.int64))
    ours.step(np.ones((ROWS, 1), dtype=np.int64))
    with pytest.raises(WalkforgeError, match="actions of shape"):
        ours.step(np.ones((1, ROWS), dtype=np.int64))


def random_world() -> dict[str, Any]:
    return world(RandomEpisodes(LOOKBACK, MARKET.n_bars - 1, 5))


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_environments_that_nobody_seeded_differ_and_seeded_ones_repeat(mode: str) -> None:
    def begun(seed: int | None) -> NDArray[Any]:
        made = gymnasium.make_vec(ID, num_envs=8, vectorization_mode=mode, **random_world())
        first: NDArray[Any] = made.reset(seed=seed)[0]
        made.close()
        return first

    first = begun(None)
    assert len(np.unique(first, axis=0)) > 1
    assert not np.array_equal(first, begun(None))
    np.testing.assert_array_equal(begun(5), begun(5))


@pytest.mark.parametrize("cls", [TradingEnv, TradingVectorEnv])
def test_a_render_mode_is_refused_in_one_line(cls: Any) -> None:
    number = {"num_envs": 1} if cls is TradingVectorEnv else {}
    with pytest.raises(BadInputError, match="render_mode='human' is not allowed") as caught:
        cls(render_mode="human", **number, **world())
    assert len(str(caught.value)) < 100
    cls(render_mode=None, **number, **world())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_alike_and_by_itself(copied: Callable[[Any], Any]) -> None:
    ours = TradingVectorEnv(num_envs=ROWS, seed=0, **random_world())
    rng = np.random.default_rng(3)
    ours.reset()
    ours.step(actions(ours, rng))
    other = copied(ours)
    assert not any(array.flags.writeable for array in (*other._bars.arrays, *other._bars.frictions))
    played = [actions(ours, rng) for _ in range(12)]
    results = [[env.step(action)[:4] for action in played] for env in (ours, other)]
    for mine, theirs in zip(*results, strict=True):
        for left, right in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(left, right)
