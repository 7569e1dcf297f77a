"""Properties that hold for every market, order and cost; and agents with known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.costs import CostSpec
from envs.vector import EnvSpec
from tests.envs.worlds import EAGER, make_env, play
from tests.markets import make_market, random_walk

COSTS = st.builds(
    CostSpec,
    commission_bps=st.floats(0, 50),
    slippage_bps=st.floats(0, 50),
    borrow_rate=st.floats(0, 1),
    short_rate=st.floats(0, 1),
    cash_rate=st.floats(0, 0.2),
)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_assets=st.integers(1, 3),
    fill=st.sampled_from(["open", "close"]),
    max_leverage=st.floats(0.1, 5.0),
    cost=COSTS,
)
def test_identity_cost_signs_and_leverage(
    seed: int, n_assets: int, fill: str, max_leverage: float, cost: CostSpec
) -> None:
    rng = np.random.default_rng(seed)
    tradable = rng.random((30, n_assets)) > 0.1
    market = make_market(random_walk(30, assets=n_assets, volatility=0.05, seed=seed), tradable=tradable)
    spec = EnvSpec(fill=fill, max_leverage=max_leverage, rebalance_band=0.0)
    steps = play(make_env(market, env=spec, cost=cost), rng.uniform(-2, 2, (29, n_assets)))
    bars = np.arange(1, len(steps.reward) + 1)
    alive = ~steps.terminated
    positions = (steps.quantity * market.close[bars]).sum(axis=1)
    np.testing.assert_allclose((steps.cash + positions)[alive], steps.equity[alive], rtol=1e-9, atol=1e-12)
    assert (steps.commission >= 0).all()
    assert (steps.slippage >= 0).all()
    assert np.isfinite(steps.reward).all()
    before = np.vstack([np.zeros(n_assets), steps.quantity[:-1]])
    cash_before = np.concatenate([[1.0], steps.cash[:-1]])
    charges = (steps.commission + steps.slippage).sum(axis=1) + steps.financing
    spent = (steps.traded * steps.price).sum(axis=1)
    np.testing.assert_allclose(
        steps.cash[alive], (cash_before - spent - charges)[alive], rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(steps.quantity[alive], (before + steps.traded)[alive], atol=1e-12)
    equity_at_fill = cash_before + (before * steps.price).sum(axis=1)
    filled = market.tradable[bars if fill == "open" else bars - 1].all(axis=1) & alive
    gross = np.abs(steps.quantity * steps.price).sum(axis=1) / equity_at_fill
    # financing of the gap is paid before the fill; these bars have no gap
    assert (gross[filled] <= max_leverage * (1 + 1e-9)).all()


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
