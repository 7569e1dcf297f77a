import numpy as np
import pytest
from gymnasium import spaces

from envs.actions import action_space
from envs.costs import CostSpec
from envs.policy import Policy
from envs.spec import EnvSpec
from envs.types import Market
from optimize.evaluate.baselines import TURNOVERS, Baseline, FlatPolicy, measure_baselines
from optimize.evaluate.random_policies import RandomPolicy
from optimize.evaluate.score import ScoreSpec, score
from optimize.evaluate.windows import Window, WindowSpec, place_windows, plan_windows
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk

SPEC = WindowSpec(min_train_bars=1, min_test_bars=1)


def windows_of(market: Market) -> tuple[Window, ...]:
    plan = plan_windows(SPEC, market.session_date)
    return place_windows(plan, market, purge_bars=2, lookback=4, spec=SPEC)


def run(market: Market, env: EnvSpec, cost: CostSpec | None = None, seed: int = 0) -> tuple[Baseline, ...]:
    return measure_baselines(
        market,
        windows_of(market),
        env=env,
        cost=cost or CostSpec(),
        lookback=4,
        score_spec=ScoreSpec(),
        seed=seed,
    )


@pytest.mark.parametrize(("action", "assets"), [("continuous", 1), ("continuous", 2), ("discrete", 1)])
def test_the_set_and_its_order(action: str, assets: int) -> None:
    market = make_market(random_walk(6 * 60, assets=assets), timeframe="4h")
    flat, hold, *random = run(market, EnvSpec(action=action))
    assert (flat.name, hold.name) == ("flat", "buy_and_hold")
    assert [baseline.turnover for baseline in (flat, hold, *random)] == [None, None, *TURNOVERS]
    assert (flat.score, flat.sharpe, flat.sharpe_zero_cost) == (None, None, None)
    assert (flat.total_return, flat.cost) == (0.0, 0.0)
    assert [window.trades for window in hold.windows] == [2 * assets] * 4
    assert hold.score is not None
    assert hold.score == hold.sharpe  # few trades do not hide a yardstick
    assert hold.sharpe_zero_cost is not None
    assert hold.sharpe_zero_cost > hold.score
    costs = [baseline.cost for baseline in random]
    assert costs == sorted(costs)
    assert len(set(costs)) > 3
    for baseline in random:
        assert baseline.random is not None
        assert len(baseline.random.scores) == 200
        assert baseline.score == baseline.random.scores[99]
    assert [len(returns) for returns in hold.returns] == [window.sessions for window in hold.windows]


def test_seeds_change_random_and_nothing_else() -> None:
    market = make_market(random_walk(6 * 60), timeframe="4h")
    one, same, other = (run(market, EnvSpec(), seed=seed) for seed in (1, 1, 2))
    assert [baseline.score for baseline in one] == [baseline.score for baseline in same]
    assert [baseline.score for baseline in one[:2]] == [baseline.score for baseline in other[:2]]
    assert all(a.random != b.random for a, b in zip(one[2:], other[2:], strict=True))


@pytest.mark.parametrize("max_leverage", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("band", [0.0, 0.01])
def test_hold_drifts_with_its_assets_and_never_borrows(max_leverage: float, band: float) -> None:
    close = random_walk(6 * 60, assets=2, volatility=0.03, seed=1)
    gaps = np.exp(np.random.default_rng(2).normal(0, 0.03, close.shape))
    market = make_market(close, open=close * gaps, timeframe="4h")
    env = EnvSpec(max_leverage=max_leverage, rebalance_band=band)
    hold = run(market, env, CostSpec.free())[1]
    exposure = min(1.0, max_leverage)
    for window, metrics in zip(windows_of(market), hold.windows, strict=True):
        growth = market.open[window.test_last] / market.open[window.test_first] - 1
        assert metrics.total_return == pytest.approx(exposure * growth.mean(), abs=1e-9)
        assert metrics.trades == 4


def test_random_policy_keeps_its_target_between_draws() -> None:
    policy = RandomPolicy(action_space(False, False, 2), 0.25, seed=3)
    observation = np.zeros((400, 9), dtype=np.float32)
    first, state = policy.act(observation, None, np.ones(400, dtype=bool))
    second, state = policy.act(observation, state, np.zeros(400, dtype=bool))
    restarted, _ = policy.act(observation, state, np.ones(400, dtype=bool))
    assert 0.15 < np.mean(first[:, 0] != 0) < 0.35
    assert 0.15 < np.mean(second[:, 0] != first[:, 0]) < 0.35
    assert 0.65 < np.mean(restarted[:, 0] == 0) < 0.85
    assert np.abs(second).max() <= 1.0


@pytest.mark.parametrize(
    ("limits", "weight"), [([], [0.5, 0.5]), ([0.3], [0.3] * 2), ([0.2, 2.0], [0.2, 0.5])]
)
@pytest.mark.parametrize("long_only", [False, True])
def test_hold_is_bought_within_the_limits_and_left_to_drift(
    limits: list[float], weight: list[float], long_only: bool
) -> None:
    close = random_walk(6 * 60, assets=2, volatility=0.03, seed=1)
    close[:, 0] *= np.exp(0.03 * np.arange(len(close)))  # so that its weight outgrows every limit
    market = make_market(close, timeframe="4h")
    env = EnvSpec(long_only=long_only, max_weights=limits, max_leverage=2.0)
    hold = run(market, env, CostSpec.free())[1]
    for window, metrics in zip(windows_of(market), hold.windows, strict=True):
        growth = market.open[window.test_last] / market.open[window.test_first] - 1
        assert metrics.total_return == pytest.approx(growth @ weight, rel=1e-6)
        assert metrics.trades == 4


def test_hold_is_bought_again_in_every_session_that_ends_flat() -> None:
    market = make_market(random_walk(6 * 60), timeframe="4h")  # six bars a day
    market = with_exits(market, [bar for bar in range(360) if bar % 6 == 5], range(5, 360, 6))
    hold = run(market, EnvSpec())[1]
    for metrics in hold.windows:
        assert metrics.trades == 2 * metrics.sessions
        assert metrics.cost == pytest.approx(2 * metrics.sessions * 1.5e-4, rel=0.2)


@pytest.mark.parametrize("action", ["continuous", "discrete"])
def test_random_goes_long_only_where_that_is_the_rule(action: str) -> None:
    market = make_market(random_walk(6 * 60), timeframe="4h")
    policy = RandomPolicy(action_space(action == "discrete", True, 1), 0.5, seed=1)
    actions, _ = policy.act(np.zeros((400, 9), dtype=np.float32), None, np.ones(400, dtype=bool))
    assert (actions.min(), actions.max() <= 1) == (0, True)
    assert 0.2 < np.mean(actions > 0) < 0.6
    flat, _, *random = run(market, EnvSpec(action=action, long_only=True))
    assert (flat.total_return, flat.cost) == (0.0, 0.0)
    assert all(baseline.cost > 0 for baseline in random if (baseline.turnover or 0.0) >= 0.1)


def test_no_space_is_made_while_a_policy_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    space = action_space(False, False, 2)

    def make(*args: object, **options: object) -> None:
        raise AssertionError("made a space")

    monkeypatch.setattr(spaces.Box, "__init__", make)
    observation, start = np.zeros((3, 9), dtype=np.float32), np.ones(3, dtype=bool)
    policies: tuple[Policy, ...] = (FlatPolicy(space), RandomPolicy(space, 0.5, seed=1))
    for policy in policies:
        action, _ = policy.act(observation, None, start)
        assert action.shape == (3, 2)
        assert action.dtype == np.float32


@pytest.mark.parametrize("ends_flat", [False, True])
def test_buy_and_hold_is_labelled_if_it_is_bought_again_each_session(ends_flat: bool) -> None:
    market = make_market(random_walk(6 * 60), timeframe="4h")
    exits = with_exits(market, [], range(5, market.n_bars, 6))
    found = run(exits if ends_flat else market, EnvSpec())
    by_name = {each.name: each for each in found if each.turnover is None}
    assert by_name["buy_and_hold"].bought_anew is ends_flat
    assert ("buy_and_hold_overnight" in by_name) is ends_flat
    if ends_flat:
        held = by_name["buy_and_hold_overnight"]
        assert not held.bought_anew
        assert [window.trades for window in held.windows] == [2] * len(held.windows)
        assert held.cost < by_name["buy_and_hold"].cost
        (plain,) = (each for each in run(market, EnvSpec()) if each.name == "buy_and_hold")
        assert (held.score, held.total_return, held.cost) == (plain.score, plain.total_return, plain.cost)


def test_holding_through_four_windows_has_trades_enough() -> None:
    market = make_market(random_walk(6 * 60), timeframe="4h")
    (hold,) = (each for each in run(market, EnvSpec()) if each.name == "buy_and_hold")
    trades = sum(window.trades for window in hold.windows)
    assert trades == 8
    for spec, reason in ((ScoreSpec(min_volatility=0.0), None), (ScoreSpec(min_trades=10), "min_trades")):
        found = score(spec, [hold.returns], trades=[trades], ruined=[False], sessions_per_year=365.0)
        assert found.reason == reason
