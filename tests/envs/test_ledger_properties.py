"""Properties that hold for every market, order and cost; and agents with known answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.spec import EnvSpec
from envs.types import Market
from tests.envs.environments import EAGER, Play, make_env, play, with_exits
from tests.markets import make_market, random_walk

COSTS = st.builds(
    CostSpec,
    commission_bps=st.floats(0, 50),
    slippage_bps=st.floats(0, 50),
    borrow_rate=st.floats(0, 1),
    short_rate=st.floats(0, 1),
    cash_rate=st.floats(0, 0.2),
    spread_bps=st.floats(0, 50),
    spread_from_data=st.booleans(),
    slippage_per_share=st.floats(0, 0.1),
    commission_per_share=st.floats(0, 0.1),
    commission_min=st.floats(0, 50),
    commission_max_pct=st.one_of(st.none(), st.floats(0.1, 5)),
    fixed_fee=st.floats(0, 50),
)
ENVS = st.builds(
    EnvSpec,
    fill=st.sampled_from(["open", "close"]),
    max_leverage=st.floats(0.1, 5.0),
    rebalance_band=st.sampled_from([0.0, 0.1]),
    long_only=st.booleans(),
    max_weights=st.one_of(st.just([]), st.lists(st.floats(0.1, 2.0), min_size=1, max_size=1)),
)
N_BARS = 30


def world(seed: int, n_assets: int) -> Market:
    """Return a market with quotes, closed bars and sessions, of which some lack their exit bar."""
    rng = np.random.default_rng(seed)
    tradable = rng.random((N_BARS, n_assets)) > 0.1
    market = make_market(random_walk(N_BARS, assets=n_assets, volatility=0.05, seed=seed), tradable=tradable)
    market = replace(market, spread=rng.uniform(0.01, 0.1, market.close.shape))
    ends = np.unique(rng.integers(2, N_BARS, size=4))
    exits = [bar for end in ends for bar in range(end - rng.integers(0, 3) + 1, end + 1)]
    return with_exits(market, exits, ends.tolist()) if rng.random() > 0.2 else market


def played(seed: int, n_assets: int, env: EnvSpec, cost: CostSpec) -> tuple[Market, Play]:
    """Play random actions, some beyond their range, until the end or ruin; a ruined last step is left out."""
    market = world(seed, n_assets)
    actions = np.random.default_rng(seed + 1).uniform(-2, 2, (N_BARS - 1, n_assets))
    steps = play(make_env(market, env=env, cost=cost), actions)
    alive = ~steps.terminated
    return market, Play(steps.observation, *(column[alive] for column in steps[1:]))


WORLDS = {"seed": st.integers(0, 10_000), "n_assets": st.integers(1, 3), "env": ENVS, "cost": COSTS}


@settings(max_examples=100, deadline=None)
@given(**WORLDS)
def test_cash_and_positions_make_the_equity(seed: int, n_assets: int, env: EnvSpec, cost: CostSpec) -> None:
    market, steps = played(seed, n_assets, env, cost)
    bars = np.arange(1, len(steps.reward) + 1)
    positions = (steps.quantity * market.close[bars]).sum(axis=1)
    np.testing.assert_allclose(steps.cash + positions, steps.equity, rtol=1e-9, atol=1e-12)
    before, cash_before = entering(steps)
    charges = steps.commission + steps.slippage + steps.exit_commission + steps.exit_slippage
    spent = steps.traded * steps.price + steps.exit_quantity * steps.exit_price
    paid = (charges + spent).sum(axis=1) + steps.financing
    np.testing.assert_allclose(steps.cash, cash_before - paid, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(steps.quantity, before + steps.traded + steps.exit_quantity, atol=1e-12)
    assert (charges >= 0).all()
    assert (charges[(steps.traded == 0) & (steps.exit_quantity == 0)] == 0).all()
    assert np.isfinite(steps.reward).all()


@settings(max_examples=100, deadline=None)
@given(**WORLDS)
def test_orders_stay_within_their_limits(seed: int, n_assets: int, env: EnvSpec, cost: CostSpec) -> None:
    market, steps = played(seed, n_assets, replace(env, rebalance_band=0.0), cost)
    bars = np.arange(1, len(steps.reward) + 1)
    before, cash_before = entering(steps)
    # financing of the gap is paid before the fill; these bars have no gap
    equity_at_fill = cash_before + (before * steps.price).sum(axis=1)
    weight = (before + steps.traded) * steps.price / equity_at_fill[:, None]
    filled = market.tradable[bars if env.fill == "open" else bars - 1]
    assert (np.abs(weight).sum(axis=1)[filled.all(axis=1)] <= env.max_leverage * (1 + 1e-9)).all()
    assert (np.abs(weight[filled]) <= (env.max_weights or [np.inf])[0] * (1 + 1e-9)).all()
    assert (steps.traded[:-1][~filled[:-1]] == 0).all()  # the last bar closes untradable positions, too
    if env.long_only:
        assert (steps.quantity >= 0).all()


@settings(max_examples=100, deadline=None)
@given(**WORLDS)
def test_exits_leave_nothing_and_open_nothing(seed: int, n_assets: int, env: EnvSpec, cost: CostSpec) -> None:
    market, steps = played(seed, n_assets, env, cost)
    bars = np.arange(1, len(steps.reward) + 1)
    before, _ = entering(steps)
    held = before + steps.traded
    exiting = market.exit_at_open[bars]
    filled = market.tradable[bars if env.fill == "open" else bars - 1]
    if env.fill == "close":
        exiting = exiting | market.exit_at_close[bars - 1]
    assert (held[exiting] * (held - before)[exiting] == 0).all()  # closed or left as it was
    assert (held[exiting][filled[exiting]] == 0).all()
    assert (steps.quantity[market.exit_at_close[bars]] == 0).all()
    assert (steps.exit_quantity[~market.exit_at_close[bars]] == 0).all()
    assert not steps.forced[~exiting].any()
    assert (steps.traded[steps.forced] != 0).all()
    assert (steps.quantity[-1] == 0).all() or len(bars) < N_BARS - 1


def entering(steps: Play) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return quantity (K, A) and cash (K,) before each step."""
    before = np.vstack([np.zeros(steps.quantity.shape[1]), steps.quantity[:-1]])
    return before, np.concatenate([[1.0], steps.cash[:-1]])


def test_flat_agent_earns_exactly_nothing() -> None:
    market = make_market(random_walk(300))
    steps = play(make_env(market, cost=CostSpec()), np.zeros((299, 1)))
    assert (steps.reward == 0.0).all()
    assert (steps.equity == 1.0).all()
    discrete = EnvSpec(action="discrete")
    assert (play(make_env(market, env=discrete, cost=CostSpec()), np.ones(299)).reward == 0.0).all()


def test_oracle_profits() -> None:
    market = make_market(random_walk(300))
    moves = np.diff(np.log(market.close[:, 0]))
    steps = play(make_env(market, env=EAGER, cost=CostSpec()), np.sign(moves)[:, None])
    assert np.log(steps.equity[-1]) > 0.9 * np.abs(moves).sum()
    wrong = play(make_env(market, env=EAGER, cost=CostSpec()), -np.sign(moves)[:, None])
    assert np.log(wrong.equity[-1]) < -0.9 * np.abs(moves).sum()


def test_random_agents_lose_about_their_costs_on_a_driftless_walk() -> None:
    n_envs, n_steps = 256, 200
    market = make_market(random_walk(n_steps + 1, volatility=0.001))
    cost = CostSpec(commission_bps=5.0, slippage_bps=5.0, borrow_rate=0.0, short_rate=0.0)
    env = make_env(market, num_envs=n_envs, cost=cost)
    env.reset(seed=0)
    rng = np.random.default_rng(1)
    paid = np.zeros(n_envs)
    for _ in range(n_steps):
        before = env.account.equity.copy()
        env.advance(rng.uniform(-1, 1, (n_envs, 1)))
        paid += (env.fill.commission + env.fill.slippage)[:, 0] / before
    # two thirds of the equity turned over a step, at 10 bps
    assert paid.mean() == pytest.approx(n_steps * 2 / 3 * 1e-3, rel=0.02)
    assert np.log(env.account.equity).mean() == pytest.approx(-paid.mean(), rel=0.03)


def test_untradable_positions_count_in_the_leverage_of_the_others() -> None:
    tradable = [[True, True], [True, True], [False, True], [False, True], [True, True]]
    market = make_market([[100.0, 50.0]] * 5, tradable=tradable)
    env = make_env(market, env=replace(EAGER, long_only=True))
    played = play(env, [[1.0, 0.0], [0.0, 1.0], [0.0, 0.5], [0.0, 1.0]])
    np.testing.assert_allclose(played.weight[:3], [[1.0, 0.0]] * 3)
    assert np.all(played.cash >= 0.0)
