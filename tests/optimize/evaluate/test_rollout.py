from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.actions import action_space
from envs.costs import CostSpec
from envs.observations import observation_layout
from envs.policy import Policy
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from optimize.errors import NumericError
from optimize.evaluate.baselines import BuyAndHoldPolicy, FlatPolicy, buy_and_hold_weight
from optimize.evaluate.metrics import session_returns
from optimize.evaluate.random_policies import RandomPolicy
from optimize.evaluate.rollout import Evaluation, replay_without_costs, rollout
from optimize.evaluate.windows import WindowSpec, place_windows, plan_windows
from tests.markets import make_market, random_walk
from tests.optimize.evaluate.policies import Acted, ConstantPolicy, MemoryPolicy, OraclePolicy

SPANS = [(40, 99), (120, 139), (150, 299)]
LOOKBACK = 4


def run(
    policy: Policy,
    market: Market,
    spans: Sequence[tuple[int, int]] = SPANS,
    env: EnvSpec | None = None,
    cost: CostSpec | None = None,
) -> tuple[Evaluation, ...]:
    return rollout(
        policy,
        market,
        spans,
        env=env or EnvSpec(),
        cost=cost or CostSpec(),
        reward=RewardSpec(),
        lookback=LOOKBACK,
    )


def hold_in(market: Market) -> BuyAndHoldPolicy:
    return BuyAndHoldPolicy(
        observation_layout(market, LOOKBACK, RewardSpec()), buy_and_hold_weight(EnvSpec(), market.n_assets)
    )


def assert_same(one: Evaluation, other: Evaluation, tolerance: float = 0.0) -> None:
    for field in fields(Evaluation):
        np.testing.assert_allclose(
            getattr(one, field.name), getattr(other, field.name), rtol=0, atol=tolerance, err_msg=field.name
        )


def test_arrays_cover_the_test_bars() -> None:
    market = make_market(random_walk(300, assets=2))
    for (first, last), evaluation in zip(SPANS, run(MemoryPolicy(2), market), strict=True):
        assert evaluation.bar.tolist() == list(range(first, last + 1))
        assert evaluation.weight.shape == evaluation.action.shape == (last - first + 1, 2)
        assert evaluation.weight[-1].tolist() == [0.0, 0.0]  # closed on its last bar
        assert np.abs(evaluation.weight).max() > 0.1
        assert not evaluation.ruined


def test_lock_step_equals_one_by_one() -> None:
    market = make_market(random_walk(300, assets=2))
    together = run(MemoryPolicy(2), market)
    for span, evaluation in zip(SPANS, together, strict=True):
        assert_same(evaluation, run(MemoryPolicy(2), market, [span])[0], 1e-12)


def test_a_second_run_is_identical() -> None:
    market = make_market(random_walk(300))
    policy = RandomPolicy(action_space(False, False, 1), 0.3, seed=5)
    for one, other in zip(run(policy, market), run(policy, market), strict=True):
        assert_same(one, other)


def test_nothing_after_the_test_span_changes_the_evaluation() -> None:
    market = make_market(random_walk(300, assets=2))
    span = (40, 99)
    changed = {}
    for name in ("open", "high", "low", "close", "features"):
        changed[name] = getattr(market, name).copy()
        changed[name][span[1] + 1 :] *= 3.0
    changed["tradable"] = market.tradable.copy()
    changed["tradable"][span[1] + 1 :] = False
    for policy in (MemoryPolicy(2), hold_in(market)):
        before = run(policy, market, [span])[0]
        assert_same(before, run(policy, replace(market, **changed), [span])[0])
        shifted = run(policy, market, [(span[0], span[1] + 1)])[0]
        assert not np.array_equal(shifted.weight[:-1], before.weight)  # the comparison can fail


def test_oracle_earns_every_move_exactly() -> None:
    market = make_market(random_walk(300))
    first = np.array([span[0] - 1 for span in SPANS])
    env = EnvSpec(rebalance_band=0.0)
    oracle = OraclePolicy(market, first)
    for (start, last), evaluation in zip(
        SPANS, run(oracle, market, env=env, cost=CostSpec.free()), strict=True
    ):
        moves = np.abs(market.close[start:last, 0] / market.open[start:last, 0] - 1)
        assert evaluation.equity[-1] == pytest.approx(np.prod(1 + moves), rel=1e-10)
    assert all(evaluation.equity[-1] > 1.1 for evaluation in run(oracle, market))


def test_flat_loses_exactly_nothing() -> None:
    market = make_market(random_walk(300, assets=2))
    for evaluation in run(FlatPolicy(action_space(False, False, 2)), market):
        assert np.all(evaluation.equity == 1.0)
        for name in ("weight", "turnover", "commission", "slippage", "financing", "fills"):
            assert not np.any(getattr(evaluation, name)), name


@pytest.mark.parametrize("discrete", [False, True])
def test_random_loses_exactly_its_costs_where_prices_stand_still(discrete: bool) -> None:
    market = make_market(np.full(300, 100.0))
    env = EnvSpec(action="discrete" if discrete else "continuous")
    for evaluation in run(RandomPolicy(action_space(discrete, False, 1), 0.2, seed=1), market, env=env):
        paid = evaluation.commission + evaluation.slippage + evaluation.financing
        assert paid.sum() > 1e-4
        assert evaluation.equity == pytest.approx(1.0 - np.cumsum(paid), abs=1e-12)


def test_random_loses_about_its_costs_on_a_random_walk() -> None:
    market = make_market(random_walk(64 * 50, volatility=0.005, seed=3))
    spans = [(first + LOOKBACK + 1, first + 49) for first in range(0, 64 * 50, 50)]
    runs = run(RandomPolicy(action_space(False, False, 1), 0.5, seed=2), market, spans)
    paid = np.array([np.sum(e.commission + e.slippage + e.financing) for e in runs])
    gain = np.array([e.equity[-1] - 1.0 for e in runs]) + paid
    assert paid.mean() > 0.001
    assert abs(gain.mean()) < 4 * gain.std(ddof=1) / np.sqrt(len(gain))


def test_replay_without_cost_repeats_the_actions() -> None:
    market = make_market(random_walk(300))
    paid = run(RandomPolicy(action_space(False, False, 1), 0.3, seed=5), market)
    free = replay_without_costs(paid, market, env=EnvSpec(), reward=RewardSpec(), lookback=LOOKBACK)
    for with_cost, without in zip(paid, free, strict=True):
        assert np.array_equal(with_cost.action, without.action)
        assert np.array_equal(with_cost.bar, without.bar)
        assert without.equity[-1] > with_cost.equity[-1]
        assert without.commission.sum() + without.slippage.sum() + without.financing.sum() == 0


def test_replay_of_discrete_actions() -> None:
    market, env = make_market(random_walk(300)), EnvSpec(action="discrete")
    paid = run(RandomPolicy(action_space(True, False, 1), 0.3, seed=5), market, env=env)
    free = replay_without_costs(paid, market, env=env, reward=RewardSpec(), lookback=LOOKBACK)
    assert all(np.array_equal(a.weight != 0, b.weight != 0) for a, b in zip(paid, free, strict=True))
    assert {0, 1, 2} == set(np.concatenate([evaluation.action for evaluation in paid]).tolist())


def test_ruin_ends_one_row_and_leaves_the_others_alone() -> None:
    close = np.full(300, 100.0)
    close[60:110] = 250.0
    market = make_market(close, open=close)
    first, *others = run(ConstantPolicy(-1.0), market)
    assert first.ruined
    assert np.all(first.equity[20:] == 0.0)
    assert not first.fills[21:].any()
    assert not first.action[21:].any()
    assert not any(evaluation.ruined for evaluation in others)
    assert all(np.all(evaluation.equity > 0.9) for evaluation in others)
    discrete = run(ShortPolicy(), market, env=EnvSpec(action="discrete"))[0]
    assert discrete.ruined
    assert np.all(discrete.action[21:] == 1)  # flat


@dataclass(frozen=True)
class ShortPolicy:
    def act(self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]) -> Acted:
        return np.zeros(len(observation), dtype=np.int64), state


@dataclass(frozen=True)
class NanPolicy:
    from_step: int

    def act(self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]) -> Acted:
        step = 0 if state is None else state
        action = np.zeros((len(observation), 1), dtype=np.float32)
        if step >= self.from_step:
            action[1] = np.nan
        return action, step + 1


def test_values_that_are_not_finite_are_refused() -> None:
    market = make_market(random_walk(300))
    with pytest.raises(NumericError, match="action became NaN or infinite at step 7"):
        run(NanPolicy(7), market)
    run(NanPolicy(20), market)  # the second span is over by then
    features = market.features.copy()
    features[60] = np.nan
    with pytest.raises(NumericError, match="observation"):
        run(FlatPolicy(action_space(False, False, 1)), replace(market, features=features))
    close = market.close.copy()
    close[60] = np.nan
    with pytest.raises(NumericError, match="not finite"):
        run(hold_in(market), replace(market, close=close))


@pytest.mark.parametrize("fill", ["open", "close"])
def test_timeframes_agree_on_session_returns(fill: str) -> None:
    hourly_close = random_walk(24 * 40)[:, 0]
    for day in range(40):  # an account closes one bar early, so its last four hours must not move
        hourly_close[24 * day + 19 : 24 * day + 24] = hourly_close[24 * day + 19]
    hourly = make_market(hourly_close)
    four_hourly = make_market(hourly_close[3::4], open=hourly.open[::4, 0], timeframe="4h")
    spec = WindowSpec(min_train_bars=1, min_test_bars=1)
    plan = plan_windows(spec, hourly.session_date)
    assert plan == plan_windows(spec, four_hourly.session_date)
    results = []
    for market in (hourly, four_hourly):
        windows = place_windows(plan, market, purge_bars=2, lookback=LOOKBACK, spec=spec)
        spans = [(window.test_first, window.test_last) for window in windows]
        runs = run(hold_in(market), market, spans, EnvSpec(fill=fill), CostSpec.free())
        results.append([session_returns(market, e, w) for e, w in zip(runs, windows, strict=True)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
        assert np.abs(one).max() > 0.01
