"""The ledger's equity equals that of an independent engine, vectorbt, for the same orders on real data."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.spec import EnvSpec
from envs.types import Market
from tests.envs.environments import Play, make_env, play
from tests.markets import make_market, random_walk

pytestmark = [pytest.mark.market_data, pytest.mark.slow]
CAPITAL = 100_000.0  # vectorbt rounds by absolute amounts, so it gets the account's own size
BPS = replace(CostSpec.free(), commission_bps=7.0, slippage_bps=3.0)
SHARES = replace(
    BPS,
    slippage_bps=0.0,
    spread_from_data=True,
    slippage_per_share=0.00002,
    commission_per_share=0.00003,
    commission_min=2.0,
    commission_max_pct=0.1,
    fixed_fee=0.25,
    capital=CAPITAL,
)


@pytest.fixture(scope="module")
def engine() -> ModuleType:
    """Import vectorbt where a test needs it: it takes seconds."""
    return importlib.import_module("vectorbt")


@pytest.fixture(scope="module")
def euro(market_data: Path) -> Market:
    """Return an hour-by-hour year of EURUSD, with a spread that widens at random."""
    bars = pd.read_parquet(market_data / "eurusd_1h_gymanytrading_2017.parquet")
    market = make_market(bars["close"], open=bars["open"], features=1)
    return replace(market, spread=np.random.default_rng(0).uniform(0.00005, 0.0006, market.close.shape))


@pytest.fixture(scope="module")
def coins(market_data: Path) -> Market:
    """Return three coins, one of which trades on after the others have ended."""
    files = sorted((market_data / "crypto_multi").glob("*_1h_*.parquet"))
    bars = [pd.read_parquet(file).set_index("timestamp") for file in files]
    columns = {name: pd.concat([each[name] for each in bars], axis=1) for name in ("open", "close")}
    close = columns["close"].to_numpy()
    tradable = np.isfinite(close)
    assert (tradable.mean(axis=0) < 1).any()
    close = columns["close"].ffill().dropna().to_numpy()
    rows = slice(len(tradable) - len(close), None)
    open_ = columns["open"].to_numpy()[rows]
    return make_market(close, open=np.nan_to_num(open_), features=1, tradable=tradable[rows])


def value_of(engine: ModuleType, market: Market, steps: Play, fill: str, **costs: Any) -> NDArray[Any]:
    """Return vectorbt's equity in units of the start for the orders of a play; short of cash it raises."""
    rows = slice(1, None) if fill == "open" else slice(None, -1)
    size, price = (np.zeros(market.close.shape) for _ in range(2))
    size[rows], price[rows] = steps.traded * CAPITAL, steps.price
    price[price == 0] = 1.0  # of the bar without an order
    arrays = {name: np.zeros(size.shape) for name in costs}
    for name, values in costs.items():
        arrays[name][rows] = values
    portfolio = engine.Portfolio.from_orders(
        pd.DataFrame(market.close),
        size,
        price=price,
        **arrays,
        init_cash=CAPITAL,
        cash_sharing=True,
        group_by=True,
        call_seq="auto",  # sells before it buys
        min_size=0.0,
        allow_partial=False,
        raise_reject=True,
        freq="1h",
    )
    assert len(portfolio.order_records) == np.count_nonzero(steps.traded)
    return np.asarray(portfolio.value(), dtype=np.float64) / CAPITAL


def ledger_value(steps: Play, fill: str) -> NDArray[Any]:
    """Return our equity at each close minus the cost of orders at that close, as vectorbt defines it."""
    equity = np.append(1.0, steps.equity)
    if fill == "open":
        return equity
    charges = np.append((steps.commission + steps.slippage).sum(axis=1), 0.0)
    return np.asarray(equity - charges)


@pytest.mark.parametrize("fill", ["open", "close"])
def test_one_asset_long_and_short(engine: ModuleType, euro: Market, fill: str) -> None:
    actions = np.sign(np.diff(euro.close[:, 0])).astype(int) + 1
    env = EnvSpec(action="discrete", fill=fill, max_leverage=0.95)
    steps = play(make_env(euro, env=env, cost=BPS), actions)
    assert {-1, 1} <= set(np.sign(steps.quantity[:, 0]).tolist())
    value = value_of(engine, euro, steps, fill, fees=7e-4, slippage=3e-4)
    np.testing.assert_allclose(value, ledger_value(steps, fill), rtol=1e-9)


@pytest.mark.parametrize("fill", ["open", "close"])
def test_three_assets_share_the_cash(engine: ModuleType, coins: Market, fill: str) -> None:
    drawn = random_walk(coins.n_bars - 1, assets=3, volatility=0.1, seed=1)
    steps = play(make_env(coins, env=EnvSpec(fill=fill, max_leverage=0.9), cost=BPS), np.sin(drawn))
    assert {-1, 1} <= set(np.sign(steps.quantity).ravel().tolist())
    value = value_of(engine, coins, steps, fill, fees=7e-4, slippage=3e-4)
    np.testing.assert_allclose(value, ledger_value(steps, fill), rtol=1e-9)


def test_prices_by_the_share_and_quoted_spreads(engine: ModuleType, euro: Market) -> None:
    actions = np.sin(random_walk(euro.n_bars - 1, volatility=0.02, seed=1))
    steps = play(make_env(euro, env=EnvSpec(max_leverage=0.9), cost=SHARES), actions)
    units, side = np.abs(steps.traded) * CAPITAL, np.sign(steps.traded)
    worse = 0.00002 + euro.spread[1:] / 2
    value = units * (steps.price + side * worse)
    by_unit, most = np.maximum(0.00003 * units, 2.0), 0.001 * value
    assert (by_unit[units > 0] == 2.0).any()
    assert ((by_unit > 2.0) & (by_unit < most)).any()
    assert ((most < 2.0) & (units > 0)).any()
    paid = np.where(units > 0, np.minimum(by_unit, most) + 0.25, 0.0)
    equity = value_of(engine, euro, steps, "open", fees=7e-4, slippage=worse / steps.price, fixed_fees=paid)
    np.testing.assert_allclose(equity, ledger_value(steps, "open"), rtol=1e-9)
