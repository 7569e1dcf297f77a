from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs.costs import CostSpec
from envs.spec import EnvSpec
from envs.types import Market
from optimize.evaluate.metrics import sharpe_ratio
from optimize.evaluate.probe import ridge, trade
from optimize.evaluate.probe.trade import Probe, fit_probe, hold_within
from optimize.evaluate.random_policies import BASELINE_REWARD
from optimize.evaluate.rollout import RecordedPolicy, rollout
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk

TRAIN, TEST = (1, 1200), (1204, 1799)
CONTINUOUS = EnvSpec(action="continuous")
CHEAP = CostSpec(commission_bps=0.2, slippage_bps=0.4)


def leaning(strength: float, *, assets: int = 1, columns: int = 3, seed: int = 0) -> Market:
    """Build a market whose next return leans on the newest value of its first column."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(1800, assets, columns)).astype(np.float32)
    returns = rng.normal(0, 0.01, (1800, assets))
    returns[1:] += 0.01 * strength * features[:-1, :, 0]
    close = 100 * np.exp(np.cumsum(returns, axis=0))
    before = np.vstack([close[:1], close[:-1]])
    return make_market(close, open=before, features=features)


def fitted(market: Market, env: EnvSpec = CONTINUOUS, cost: CostSpec = CHEAP, lookback: int = 2) -> Probe:
    found = fit_probe(market, TRAIN, env=env, cost=cost, lookback=lookback)
    assert found is not None
    return found


def earned(market: Market, probe: Probe, env: EnvSpec = CONTINUOUS, cost: CostSpec = CHEAP) -> float:
    """Return the annualised Sharpe ratio per bar of the probe on the test span."""
    actions = probe.actions(market, *TEST, env)
    paid = rollout(
        RecordedPolicy([actions]), market, [TEST], env=env, cost=cost, reward=BASELINE_REWARD, lookback=2
    )
    equity = np.concatenate([[1.0], paid[0].equity])
    return float(np.nan_to_num(sharpe_ratio(equity[1:] / equity[:-1] - 1, 24 * 365)))  # 0 if it stays flat


def test_a_planted_edge_is_found_and_its_column_carries_it() -> None:
    market = leaning(0.3)
    probe = fitted(market)
    assert probe.train_sharpe > 5
    assert earned(market, probe) > 10
    newest = np.abs(probe.fit.weights[3:, 0, probe.horizon])
    assert newest[0] > 2 * newest[1:].max()


@pytest.mark.parametrize("assets", [1, 2])
def test_nothing_after_the_train_span_changes_the_probe(assets: int) -> None:
    market, last = leaning(0.1, assets=assets), TRAIN[1]
    rng = np.random.default_rng(9)
    arrays = {name: getattr(market, name).copy() for name in ("open", "high", "low", "close", "features")}
    for array in arrays.values():
        array[last + 1 :] = rng.uniform(1, 200, array[last + 1 :].shape)
    changed = replace(market, **arrays)
    one, other = fitted(market), fitted(changed)
    np.testing.assert_array_equal(one.fit.weights, other.fit.weights)
    np.testing.assert_array_equal(one.scale, other.scale)
    assert (one.horizon, one.band, one.train_sharpe) == (other.horizon, other.band, other.train_sharpe)


def test_an_action_depends_on_no_later_bar() -> None:
    market, cut = leaning(0.2), 1500
    features = market.features.copy()
    features[cut + 1 :] = 5.0
    probe = fitted(market)
    one = probe.actions(market, *TEST, CONTINUOUS)
    other = probe.actions(replace(market, features=features), *TEST, CONTINUOUS)
    decided = cut - TEST[0] + 2  # the actions of the bars up to cut
    np.testing.assert_array_equal(one[:decided], other[:decided])
    assert not np.array_equal(one[decided:], other[decided:])


def test_a_shift_in_time_shifts_the_probe() -> None:
    market, shift = leaning(0.2), 24
    names = ("open", "high", "low", "close", "features", "tradable", "spread")
    later = replace(market, **{name: np.roll(getattr(market, name), shift, axis=0) for name in names})
    one = fitted(market)
    other = fit_probe(later, (TRAIN[0] + shift, TRAIN[1] + shift), env=CONTINUOUS, cost=CHEAP, lookback=2)
    assert other is not None
    np.testing.assert_allclose(other.fit.weights, one.fit.weights)
    moved = other.actions(later, TEST[0] + shift, TEST[1], CONTINUOUS)
    np.testing.assert_allclose(moved, one.actions(market, *TEST, CONTINUOUS)[:-shift], atol=1e-6)


@pytest.mark.parametrize(
    ("env", "allowed"),
    [
        (EnvSpec(action="discrete"), {0, 1, 2}),
        (EnvSpec(action="discrete", long_only=True), {0, 1}),
        (EnvSpec(action="discrete", max_weights=[0.3]), {0, 1, 2}),
    ],
)
def test_discrete_actions_are_choices_of_the_environment(env: EnvSpec, allowed: set[int]) -> None:
    market = leaning(0.3)
    probe = fitted(market, env)
    assert set(probe.actions(market, *TEST, env).tolist()) == allowed
    assert earned(market, probe, env) > 5


def test_exposures_heed_long_only_leverage_and_limits() -> None:
    market = leaning(0.3, assets=2)
    env = EnvSpec(action="continuous", long_only=True, max_leverage=2.0, max_weights=[0.4, 3.0])
    exposure = fitted(market, env).actions(market, *TEST, env) * env.max_leverage
    assert exposure.min(axis=0).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(exposure.max(axis=0), [0.4, 1.0], rtol=1e-6)


def test_gaps_of_one_asset_and_session_exits_leave_a_probe() -> None:
    market = leaning(0.3, assets=2)
    tradable = market.tradable.copy()
    tradable[::3, 1] = False
    market = with_exits(replace(market, tradable=tradable), range(23, 1800, 24), range(23, 1800, 24))
    probe = fitted(market)
    assert np.isfinite(probe.fit.weights).all()
    assert earned(market, probe) > 5


def test_without_a_gain_after_costs_the_probe_stays_flat() -> None:
    market, dear = leaning(0.1), CostSpec(commission_bps=500.0)
    probe = fitted(market, cost=dear)
    assert (probe.band, probe.train_sharpe) == (np.inf, 0.0)
    assert not probe.actions(market, *TEST, CONTINUOUS).any()


@pytest.mark.parametrize(("cash_rate", "played"), [(0.0, 9), (0.02, 12)])
def test_a_choice_that_stays_flat_is_played_only_where_cash_earns(
    cash_rate: float, played: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, ratios = [], trade._sharpe_ratios

    def counted(market: Market, decided: tuple[int, int], actions: Any, *rest: Any) -> Any:
        counts.append(len(actions))
        return ratios(market, decided, actions, *rest)

    monkeypatch.setattr(trade, "_sharpe_ratios", counted)
    probe = fitted(leaning(0.3), cost=replace(CHEAP, cash_rate=cash_rate))
    assert counts == [played]
    assert probe.train_sharpe > 5


def test_too_few_decisions_give_no_probe() -> None:
    market = leaning(0.3)
    assert fit_probe(market, (1, 90), env=CONTINUOUS, cost=CHEAP, lookback=2) is None
    assert fit_probe(market, (1, 110), env=CONTINUOUS, cost=CHEAP, lookback=2) is not None


def test_wide_inputs_are_cut_to_their_newest_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "MOST_COLUMNS", 6)
    probe = fitted(leaning(0.3), lookback=8)
    assert probe.lookback == 2
    assert len(probe.fit.weights) == 6


def test_noise_earns_nothing_gross_of_costs() -> None:
    free = CostSpec.free(0.0)
    found = []
    for seed in range(12):
        close = random_walk(1800, seed=seed)
        market = make_market(close, features=2, seed=seed + 100)
        found.append(earned(market, fitted(market, cost=free), cost=free))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 2.5 * error


def test_exposures_are_held_within_a_band() -> None:
    wanted = np.array([[0.4], [0.6], [0.5], [-0.1], [0.1], [1.0]])
    assert hold_within(wanted, 0.5)[:, 0].tolist() == [0.0, 0.6, 0.6, -0.1, -0.1, 1.0]
    assert hold_within(wanted, 0.0)[:, 0].tolist() == wanted[:, 0].tolist()
