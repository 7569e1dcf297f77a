"""A fused rollout equals the rollout in lock step bit for bit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.observations import observation_layout
from envs.policy import FusedPolicy, Policy
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from optimize.errors import NumericError
from optimize.evaluate.baselines import BuyAndHoldPolicy, FlatPolicy, buy_and_hold_weight
from optimize.evaluate.random_policies import RandomPolicy
from optimize.evaluate.rollout import Evaluation, RecordedPolicy, replay_without_costs, rollout
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk
from tests.optimize.evaluate.policies import Acted

SPANS = [(40, 99), (120, 121), (150, 299)]  # the second has one step, so that nothing but its end is played
LOOKBACK = 4
COSTS = CostSpec(commission_bps=2.0, slippage_bps=1.0, fixed_fee=0.001)
Make = Callable[[Market, EnvSpec], FusedPolicy]


@dataclass(frozen=True)
class Asked:
    """A policy that hides how it could be fused."""

    policy: Any

    def act(self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]) -> Acted:
        acted: Acted = self.policy.act(observation, state, start)
        return acted


def run(
    policy: Any, market: Market, env: EnvSpec, spans: Sequence[tuple[int, int]] = SPANS
) -> tuple[Evaluation, ...]:
    return rollout(policy, market, spans, env=env, cost=COSTS, reward=RewardSpec(), lookback=LOOKBACK)


def assert_identical(one: Sequence[Evaluation], other: Sequence[Evaluation]) -> None:
    for left, right in zip(one, other, strict=True):
        for field in fields(Evaluation):
            mine, theirs = np.asarray(getattr(left, field.name)), np.asarray(getattr(right, field.name))
            assert mine.dtype == theirs.dtype, field.name
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)


def flat(market: Market, env: EnvSpec) -> FusedPolicy:
    return FlatPolicy(env.action_space(market.n_assets))


def random(market: Market, env: EnvSpec) -> FusedPolicy:
    return RandomPolicy(env.action_space(market.n_assets), 0.3, seed=5)


def hold(market: Market, env: EnvSpec) -> FusedPolicy:
    return BuyAndHoldPolicy(
        observation_layout(market, LOOKBACK, RewardSpec()), buy_and_hold_weight(env, market.n_assets)
    )


def gappy_market(assets: int, seed: int = 0, volatility: float = 0.01) -> Market:
    """Return a market with untradable bars, forced exits of both kinds and opens of its own."""
    close = random_walk(300, assets=assets, seed=seed, volatility=volatility)
    rng = np.random.default_rng(seed)
    gaps = np.exp(rng.normal(0, 0.01, close.shape))
    market = make_market(close, open=close * gaps, tradable=rng.random(close.shape) < 0.8, seed=seed)
    return with_exits(market, [bar for bar in range(300) if bar % 48 in (21, 22, 23)], range(23, 300, 24))


@pytest.mark.parametrize(
    ("make", "env", "assets"),
    [
        (flat, EnvSpec(), 2),
        (flat, EnvSpec(action="discrete"), 1),
        (hold, EnvSpec(rebalance_band=0.2), 3),
        (hold, EnvSpec(fill="close", max_weights=[0.2, 0.4]), 2),
        (random, EnvSpec(max_leverage=2.0), 3),
        (random, EnvSpec(fill="close"), 1),
        (random, EnvSpec(action="discrete"), 1),
        (random, EnvSpec(action="discrete", long_only=True, fill="close"), 1),
    ],
)
def test_baselines_are_played_as_in_lock_step(make: Make, env: EnvSpec, assets: int) -> None:
    market = gappy_market(assets)
    policy = make(market, env)
    fused = run(policy, market, env)
    assert_identical(fused, run(Asked(policy), market, env))
    free = replay_without_costs(fused, market, env=env, reward=RewardSpec(), lookback=LOOKBACK)
    asked = Asked(RecordedPolicy([evaluation.action for evaluation in fused]))
    terms: dict[str, Any] = {"env": env, "cost": CostSpec.free(), "reward": RewardSpec()}
    assert_identical(free, rollout(asked, market, SPANS, lookback=LOOKBACK, **terms))
    assert (fused[2].fills.sum() > 0) == (make is not flat)
    assert np.any(fused[2].forced | (fused[2].exit_quantity != 0)) == (make is not flat)


def test_spans_apart_are_the_spans_together() -> None:
    market = gappy_market(2)
    policy = RecordedPolicy([np.linspace(-1, 1, 600).reshape(300, 2).astype(np.float32)])
    together = run(RecordedPolicy([*policy.actions] * 3), market, EnvSpec())
    apart = [run(policy, market, EnvSpec(), [span])[0] for span in SPANS]
    assert_identical(together, apart)


@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from(["open", "close"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_recorded_actions_are_played_as_in_lock_step(
    seed: int, assets: int, fill: str, discrete: bool
) -> None:
    rng = np.random.default_rng(seed)
    discrete = discrete and assets == 1
    market = gappy_market(assets, seed, volatility=float(rng.choice([0.01, 0.3])))  # 0.3 ruins some
    edges = np.sort(rng.choice(np.arange(LOOKBACK, 300), size=(3, 2), replace=False), axis=1)
    spans = [(int(first), int(last)) for first, last in edges]
    drawn = rng.integers(3, size=(3, 300)) if discrete else rng.uniform(-1.5, 1.5, (3, 300, assets))
    policy = RecordedPolicy(list(drawn if discrete else drawn.astype(np.float32)))
    action = "discrete" if discrete else "continuous"
    env = EnvSpec(action=action, fill=fill, max_leverage=float(rng.choice([0.5, 3.0])))
    assert_identical(run(policy, market, env, spans), run(Asked(policy), market, env, spans))


def test_ruin_ends_a_span_and_leaves_the_others_alone() -> None:
    close = np.full(300, 100.0)
    close[60:110] = 250.0
    market = make_market(close, open=close)
    policy = RecordedPolicy([np.full((300, 1), -1, np.float32)] * 3)
    ruined, *others = fused = run(policy, market, EnvSpec())
    assert_identical(fused, run(Asked(policy), market, EnvSpec()))
    assert ruined.ruined
    assert not ruined.action[21:].any()
    assert not ruined.equity[20:].any()
    assert not any(evaluation.ruined for evaluation in others)


def broken(market: Market, name: str, bar: int) -> Market:
    array = getattr(market, name).copy()
    array[bar] = np.nan
    return replace(market, **{name: array})


def message_of(policy: Policy | FusedPolicy, market: Market) -> str:
    with pytest.raises(NumericError) as raised:
        run(policy, market, EnvSpec())
    return str(raised.value)


@pytest.mark.parametrize("bar", [37, 60, 98, 250])  # 37 is in the first window, but no later bar
@pytest.mark.parametrize("name", ["features", "close"])
def test_values_that_are_not_finite_are_refused_with_the_same_message(name: str, bar: int) -> None:
    market = broken(make_market(random_walk(300)), name, bar)
    policy = RecordedPolicy([np.full((300, 1), 0.5, np.float32)] * 3)
    if name == "close" and bar == 37:  # it is not in the span
        assert_identical(run(policy, market, EnvSpec()), run(Asked(policy), market, EnvSpec()))
        return
    assert message_of(policy, market) == message_of(Asked(policy), market)


def test_the_first_failing_step_of_all_rows_is_named() -> None:
    market = broken(make_market(random_walk(300)), "features", 60)  # step 21 of the first span
    actions = np.full((3, 300, 1), 0.5, np.float32)
    actions[2, 15] = np.nan
    policy = RecordedPolicy(list(actions))
    message = message_of(policy, market)
    assert message == message_of(Asked(policy), market) == message.replace("step 21", "step 15")
    actions[2, 15], actions[2, 21] = 0.5, np.nan  # at the same step the observation is checked first
    assert "observation" in message_of(policy, market)
    assert message_of(policy, market) == message_of(Asked(policy), market)


def test_bars_after_a_span_are_not_checked() -> None:
    market = broken(make_market(random_walk(300)), "features", 99)  # the first span ends there
    policy = RecordedPolicy([np.full((300, 1), 0.5, np.float32)] * 3)
    assert_identical(run(policy, market, EnvSpec()), run(Asked(policy), market, EnvSpec()))
