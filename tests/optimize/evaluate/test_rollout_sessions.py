from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from envs.actions import action_space
from envs.costs import CostSpec
from envs.policy import Policy
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import FloatArray, Market
from optimize.data.bars import join_bars
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import load_bars, market_of
from optimize.data.spec import DataSpec
from optimize.evaluate.random_policies import RandomPolicy
from optimize.evaluate.rollout import Evaluation, rollout
from optimize.evaluate.trades import trades_table
from tests.optimize.data.samples import bars_at, rows_of, stamps
from tests.optimize.evaluate.policies import Acted, ConstantPolicy
from tests.tiers import mostly_slow

NEW_YORK = SessionSpec(calendar="XNYS")
RANGE = FeatureSpec(lookback=1, indicators=["range"])  # no warm-up: the market has every bar of the file
SPY_DAYS = 23
WITHOUT_EXIT = "2020-01-10"  # its file ends at 16:00Z


def run(policy: Policy, market: Market, env: EnvSpec | None = None, first: int = 1) -> Evaluation:
    span = (first, market.n_bars - 1)
    return rollout(
        policy, market, [span], env=env or EnvSpec(), cost=CostSpec(), reward=RewardSpec(), lookback=1
    )[0]


def real_market(market_data: Path, file: str, session: SessionSpec = NEW_YORK) -> Market:
    bars = load_bars(DataSpec(provider="file", path=str(market_data / f"{file}.parquet"), drop_nan=True))
    return market_of(bars, bars.timeframe, RANGE, session)


def forced_stamps(evaluation: Evaluation, market: Market, fill: str = "open") -> list[str]:
    """Return the minutes at which a forced exit filled, once each."""
    trades = trades_table(evaluation, market, fill)
    stamped = trades.filter(trades["forced_exit"])["timestamp"].cast(pa.int64()).to_numpy()
    return sorted(set(np.unique(stamped).astype("datetime64[ns]").astype("datetime64[m]").astype(str)))


def held(evaluation: Evaluation) -> FloatArray:
    """Return the units (n, A) at the close of each bar, rebuilt from the trades alone."""
    return np.cumsum(evaluation.quantity + evaluation.exit_quantity, axis=0)


def assert_flat_overnight(evaluation: Evaluation, market: Market) -> None:
    """From its exit on a session only closes, and it ends flat."""
    bar = evaluation.bar
    session = market.session[bar]
    last = np.append(session[1:] != session[:-1], True)
    assert np.all(evaluation.weight[last] == 0.0)
    units = held(evaluation)
    assert np.abs(units[last]).max(initial=0.0) < 1e-12
    before = np.concatenate([np.zeros((1, units.shape[1])), units[:-1]])
    late = market.exit_at_open[bar]
    assert np.all(np.abs(units[late]) <= np.abs(before[late]) + 1e-12)


POLICIES: dict[str, Policy] = {
    "always_long": ConstantPolicy(1.0),
    "always_short": ConstantPolicy(-1.0),
    "random": RandomPolicy(action_space(False, False, 1), 0.3, seed=4),
}


@pytest.mark.market_data
@pytest.mark.parametrize(
    ("name", "fill"),
    mostly_slow(product(POLICIES, ["open", "close"]), ("random", "open"), ("random", "close")),
)
def test_every_session_of_a_stock_ends_flat(market_data: Path, name: str, fill: str) -> None:
    market = real_market(market_data, "spy_1m_yahoo_201912")
    evaluation = run(POLICIES[name], market, EnvSpec(fill=fill))
    assert market.exit_at_close.sum() == SPY_DAYS
    assert_flat_overnight(evaluation, market)
    assert np.all(evaluation.weight[market.exit_at_open[evaluation.bar]] == 0.0)
    assert np.abs(evaluation.weight).max() > 0.9
    assert evaluation.fills.sum() >= 2 * SPY_DAYS


@pytest.mark.market_data
@pytest.mark.parametrize("action", ["continuous", "discrete"])
def test_a_position_closes_at_the_exit_and_opens_again_next_day(market_data: Path, action: str) -> None:
    market = real_market(market_data, "spy_1m_yahoo_201912")
    policy = ConstantPolicy(1.0) if action == "continuous" else AlwaysLong()
    evaluation = run(policy, market, EnvSpec(action=action))
    days = market.session_date[np.unique(market.session)].astype(str).tolist()
    exits = {day: f"{day}T20:45" for day in days} | {"2019-12-24": "2019-12-24T17:45"}
    exits[WITHOUT_EXIT] = f"{WITHOUT_EXIT}T15:59"  # its last bar, at the close
    assert forced_stamps(evaluation, market) == sorted(exits.values())
    assert np.count_nonzero(evaluation.exit_quantity) == 1
    first_bars = np.flatnonzero(np.diff(market.session, prepend=-1))[1:]  # of all sessions but the first
    at = np.searchsorted(evaluation.bar, first_bars)
    assert np.all(evaluation.quantity[at, 0] > 0)
    assert np.all(evaluation.weight[at, 0] > 0.9)


@pytest.mark.market_data
def test_the_exit_bar_is_not_known_before_it_is_due(market_data: Path) -> None:
    """The day whose file ends at noon holds to its last close: no order foresees that it is the last."""
    market = real_market(market_data, "spy_1m_yahoo_201912")
    evaluation = run(ConstantPolicy(1.0), market)
    day = np.flatnonzero(market.session_date == np.datetime64(WITHOUT_EXIT))[0]
    rows = np.flatnonzero(market.session[evaluation.bar] == day)
    assert np.all(evaluation.weight[rows[:-1], 0] > 0.9)
    assert evaluation.quantity[rows[1:]].any() == 0
    assert evaluation.exit_quantity[rows[-1], 0] < 0
    assert evaluation.exit_price[rows[-1], 0] == market.close[evaluation.bar[rows[-1]], 0]


@pytest.mark.market_data
def test_nothing_opens_among_the_prints_after_an_early_close(market_data: Path) -> None:
    market = real_market(market_data, "goog_1m_lean_20151223_28_earlyclose")
    evaluation = run(ConstantPolicy(1.0), market)
    assert_flat_overnight(evaluation, market)
    assert forced_stamps(evaluation, market) == ["2015-12-23T20:45", "2015-12-24T17:45", "2015-12-28T20:45"]
    stamp = market.timestamp[evaluation.bar].astype("datetime64[ns]")
    after = (stamp > np.datetime64("2015-12-24T17:45")) & (stamp < np.datetime64("2015-12-25"))
    assert str(stamp[after][-1].astype("datetime64[m]")) == "2015-12-24T21:11"
    assert not evaluation.fills[after].any()
    assert not evaluation.weight[after].any()


@pytest.mark.slow
@pytest.mark.market_data
def test_sessions_of_hourly_bars_close_at_their_last_bar(market_data: Path) -> None:
    market = real_market(market_data, "spy_1h_lean_1998_2021")
    evaluation = run(ConstantPolicy(1.0), market)
    assert_flat_overnight(evaluation, market)
    row = market.session[evaluation.bar]
    exits = np.count_nonzero(evaluation.exit_quantity[:, 0])
    orders = np.count_nonzero(evaluation.forced[:, 0])
    assert exits == 5826 - 1  # the last session of the span is closed by the span's own end
    assert orders == 23  # half days, whose closing print is stamped after the exit
    last = np.append(row[1:] != row[:-1], True)
    assert not evaluation.exit_quantity[~last].any()


@pytest.mark.market_data
def test_holding_overnight_trades_once(market_data: Path) -> None:
    overnight = replace(NEW_YORK, flat_overnight=False)
    market = real_market(market_data, "spy_1m_yahoo_201912", overnight)
    evaluation = run(ConstantPolicy(1.0), market)
    assert evaluation.fills.sum() == 2
    assert forced_stamps(evaluation, market) == []


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kept=st.floats(0.3, 1.0),
    fill=st.sampled_from(["open", "close"]),
    leverage=st.sampled_from([1.0, 2.0]),
    first=st.integers(1, 40),
)
def test_no_position_is_ever_held_over_night(
    seed: int, kept: float, fill: str, leverage: float, first: int
) -> None:
    """Random sessions of two assets with missing bars, half days and late prints, entered anywhere."""
    rng = np.random.default_rng(seed)
    days = [f"2023-11-{day}" for day in (20, 21, 22, 24, 27)]  # the 24th is a half day
    axis = np.concatenate([stamps(f"{day}T14:30", 30, "15m") for day in days])
    parts = []
    for name in ("X", "Y"):
        chosen = rng.random(len(axis)) < kept
        chosen[[0, 1, -1]] = True  # so that both begin with the axis
        parts.append(rows_of(bars_at(axis, "15m", int(rng.integers(99)), name), chosen))
    market = market_of(join_bars(parts), "15m", RANGE, NEW_YORK)
    policy = RandomPolicy(action_space(False, False, 2), 0.5, seed=seed % 1000)
    env = EnvSpec(fill=fill, max_leverage=leverage)
    evaluation = run(policy, market, env, min(first, market.n_bars - 2))
    assert_flat_overnight(evaluation, market)


class AlwaysLong:
    """Order long in a discrete environment."""

    def act(self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]) -> Acted:
        return np.full(len(start), 2, dtype=np.int64), None
