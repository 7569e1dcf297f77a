from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from envs.actions import action_space
from envs.costs import CostSpec
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import FloatArray, Market
from optimize.data.bars import join_bars
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import market_of
from optimize.evaluate.baselines import FlatPolicy
from optimize.evaluate.metrics import measure
from optimize.evaluate.random_policies import RandomPolicy
from optimize.evaluate.rollout import Evaluation, rollout
from optimize.evaluate.trades import SCHEMA, Trades, trades_table
from optimize.evaluate.windows import WindowSpec, place_windows, plan_windows
from optimize.walkforward.files import write_table
from tests.markets import make_market, random_walk
from tests.optimize.data.samples import bars_at, rows_of, stamps

DAYS = [f"2023-11-{day}" for day in (20, 21, 22, 24, 27, 28)]


def stocks() -> Market:
    """Return two stocks with gaps over six sessions, some of them without a bar to exit at."""
    axis = np.concatenate(
        [stamps(f"{day}T14:30", 24 + 2 * (index % 3), "15m") for index, day in enumerate(DAYS)]
    )
    rng = np.random.default_rng(5)
    keep = [np.ones(len(axis), dtype=np.bool_), rng.random(len(axis)) < 0.8]
    keep[1][[0, 1, -1]] = True
    parts = [
        rows_of(bars_at(axis, "15m", seed, name), kept)
        for seed, (name, kept) in enumerate(zip("XY", keep, strict=True))
    ]
    return market_of(join_bars(parts), "15m", FeatureSpec(1, ["range"]), SessionSpec(calendar="XNYS"))


def run(market: Market, fill: str, policy: RandomPolicy | FlatPolicy | None = None) -> Evaluation:
    policy = policy or RandomPolicy(action_space(False, False, market.n_assets), 0.4, seed=3)
    env = EnvSpec(fill=fill, max_leverage=2.0)
    span = (2, market.n_bars - 1)
    return rollout(policy, market, [span], env=env, cost=CostSpec(), reward=RewardSpec(), lookback=1)[0]


def rebuilt_equity(trades: Trades, evaluation: Evaluation, market: Market) -> FloatArray:
    """Return the equity (n,) at each close, from the table, the closes and the financing paid."""
    stamps_ns = market.timestamp[evaluation.bar]
    cash = 1.0 - np.cumsum(evaluation.financing)
    positions = np.zeros(len(cash))
    for row in trades.to_pandas().itertuples():
        at = int(np.searchsorted(stamps_ns, row.timestamp.value))
        signed = row.quantity if row.side == "buy" else -row.quantity
        asset = market.symbols.index(row.symbol)
        cash[at:] -= signed * row.price + row.cost
        positions[at:] += signed * market.close[evaluation.bar[at:], asset]
    return cash + positions


def test_equity_can_be_rebuilt_from_the_file(tmp_path: Path) -> None:
    market = stocks()
    evaluation = run(market, "open")
    write_table(tmp_path / "trades.parquet", trades_table(evaluation, market, "open"))
    trades = pq.read_table(tmp_path / "trades.parquet")
    assert trades.schema.equals(SCHEMA)
    np.testing.assert_allclose(
        rebuilt_equity(trades, evaluation, market), evaluation.equity, rtol=0, atol=1e-12
    )
    assert set(trades["side"].to_pylist()) == {"buy", "sell"}
    assert set(trades["symbol"].to_pylist()) == {"X", "Y"}
    assert set(trades["forced_exit"].to_pylist()) == {True, False}
    assert np.count_nonzero(evaluation.exit_quantity) > 0
    assert np.count_nonzero(evaluation.forced) > 0


def test_the_table_has_every_trade_in_order_of_time() -> None:
    market = stocks()
    evaluation = run(market, "open")
    trades = trades_table(evaluation, market, "open")
    assert trades.num_rows == evaluation.fills.sum()
    assert sum(trades["cost"].to_pylist()) == pytest.approx(
        (evaluation.commission + evaluation.slippage).sum()
    )
    assert np.all(np.diff(trades["timestamp"].to_numpy()).astype(np.int64) >= 0)
    assert min(trades["quantity"].to_pylist()) > 0
    opens = evaluation.quantity != 0
    filled = market.open[evaluation.bar][opens & market.tradable[evaluation.bar]]
    assert set(filled.tolist()) <= set(trades["price"].to_pylist())


def test_fills_at_the_close_are_stamped_by_the_bar_they_fill_on() -> None:
    market = make_market(random_walk(120))
    evaluation = run(market, "close", RandomPolicy(action_space(False, False, 1), 0.4, seed=3))
    trades = trades_table(evaluation, market, "close")
    bar = np.searchsorted(market.timestamp, trades["timestamp"].to_numpy().astype(np.int64))
    np.testing.assert_array_equal(market.close[bar, 0], trades["price"].to_numpy())
    bars_of_fills = evaluation.bar[evaluation.fills > 0] - 1
    assert bar.tolist() == bars_of_fills.tolist()


def test_fills_at_the_close_and_exits_come_to_the_same_equity() -> None:
    market = stocks()
    evaluation = run(market, "close")
    trades = trades_table(evaluation, market, "close")
    bought = (
        np.where(np.array(trades["side"].to_pylist()) == "buy", 1.0, -1.0) * trades["quantity"].to_numpy()
    )
    spent = bought @ trades["price"].to_numpy() + trades["cost"].to_numpy().sum()
    assert 1.0 - spent - evaluation.financing.sum() == pytest.approx(evaluation.equity[-1], abs=1e-12)


def test_an_evaluation_without_trades_has_an_empty_table() -> None:
    market = stocks()
    trades = trades_table(run(market, "open", FlatPolicy(action_space(False, False, 2))), market, "open")
    assert trades.num_rows == 0
    assert trades.schema.equals(SCHEMA)


def test_metrics_count_forced_exits_among_the_trades() -> None:
    market = stocks()
    spec = WindowSpec(count=1, train_ratio=1.0, holdout_share=0.0, min_train_bars=1, min_test_bars=1)
    (window,) = place_windows(
        plan_windows(spec, market.session_date), market, purge_bars=2, lookback=1, spec=spec
    )
    policy = RandomPolicy(action_space(False, False, 2), 0.4, seed=3)
    span = (window.test_first, window.test_last)
    settings = {"env": EnvSpec(), "cost": CostSpec(), "reward": RewardSpec(), "lookback": 1}
    (evaluation,) = rollout(policy, market, [span], **settings)  # type: ignore[arg-type]  # settings are passed through
    metrics = measure(market, window, evaluation, evaluation, 250.0)
    trades = trades_table(evaluation, market, "open")
    assert metrics.trades == trades.num_rows
    assert metrics.forced_exits == sum(trades["forced_exit"].to_pylist()) > 2
