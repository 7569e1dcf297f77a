"""Gates name results without meaning: lost accounts, shorts that drifted away, averaged prices, interest."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.plain import from_plain, to_plain
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import FloatArray, IntArray, Market
from optimize.errors import BadInputError
from optimize.evaluate.gate_spec import ResultGateSpec
from optimize.evaluate.gates import (
    INTEREST,
    SMOOTHED_PRICES,
    GateRule,
    are_smoothed,
    blocking_gate,
    flags_of,
)
from optimize.evaluate.metrics import measure, session_returns
from optimize.evaluate.rollout import RecordedPolicy, replay_without_costs, rollout
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import Window, WindowDates
from tests.markets import make_market, random_walk

YEAR = 365.0
OFF = ResultGateSpec(
    max_drawdown=1.0, min_equity=0.0, max_exposure=1e6, opposite_sign=False, constant_policy=False
)
HOURS = 24


def play(market: Market, action: NDArray[Any], env: EnvSpec, cost: CostSpec | None = None) -> WindowResult:
    """Return the result of recorded actions over all bars of a market but the first."""
    last = market.n_bars - 1
    day = date(2024, 1, 1)
    sessions = (int(market.session[1]), int(market.session[last]) + 1)
    dates = WindowDates(0, day, day, day, day, sessions[1] - sessions[0])
    window = Window(0, 0, 0, 1, last, 0, sessions, dates)
    rules: dict[str, Any] = {"env": env, "reward": RewardSpec(), "lookback": 1}
    paid = rollout(RecordedPolicy([action]), market, [(1, last)], cost=cost or CostSpec.free(), **rules)
    free = replay_without_costs(paid, market, **rules)
    metrics = measure(market, window, paid[0], free[0], YEAR)
    returns = session_returns(market, paid[0], window)
    return WindowResult(metrics, returns, session_returns(market, free[0], window), paid[0].ruined)


def rule(spec: ResultGateSpec, risk_free: float = 0.0) -> GateRule:
    return GateRule(spec, max_leverage=1.0, risk_free=risk_free, sessions_per_year=YEAR)


def gate_of(result: WindowResult, spec: ResultGateSpec | None = None) -> str | None:
    return blocking_gate(rule(spec or ResultGateSpec()), [[result]])


def walking(bars: int = 40 * HOURS, seed: int = 1) -> Market:
    return make_market(random_walk(bars, volatility=0.002, seed=seed))


def changing(bars: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (bars, 1)).astype(np.float32).astype(np.float64)


def test_an_ordinary_result_passes_every_gate() -> None:
    market = walking()
    assert gate_of(play(market, changing(market.n_bars - 1), EnvSpec(action="continuous"))) is None


def short_that_runs_away(bars: int = 60) -> tuple[Market, IntArray]:
    """Return a market that rises by 91 %, and the actions of one short sale that is never cut."""
    return make_market(100.0 * np.linspace(1.0, 1.909, bars)), np.zeros(bars - 1, np.int64)


def test_a_short_that_drifted_to_twenty_one_times_equity_is_named() -> None:
    market, action = short_that_runs_away()
    result = play(market, action, EnvSpec(action="discrete"))
    assert result.metrics.largest_exposure == pytest.approx(21, rel=0.2)
    assert gate_of(result) == "max_exposure"
    assert gate_of(result, replace(ResultGateSpec(), max_exposure=1e6)) == "min_equity"


def test_an_account_that_was_nearly_lost_is_named() -> None:
    market = make_market(np.concatenate([np.linspace(100.0, 15.0, 40), np.linspace(15.0, 140.0, 40)]))
    action = np.full((market.n_bars - 1, 1), 1.0)
    action[-1] = 0.5
    result = play(market, action, EnvSpec(action="continuous", rebalance_band=0.9))
    assert result.metrics.total_return > 0.3  # it ends well, after it was lost
    assert gate_of(result) == "min_equity"
    assert gate_of(result, replace(ResultGateSpec(), min_equity=0.0)) == "max_drawdown"
    assert gate_of(result, replace(ResultGateSpec(), min_equity=0.0, max_drawdown=1.0)) != "max_drawdown"


@pytest.mark.parametrize(
    ("figure", "gate"),
    [
        ("largest_exposure", "max_exposure"),
        ("lowest", "min_equity"),
        ("highest", "min_equity"),
        ("max_drawdown_bars", "min_equity"),
    ],
)
def test_a_figure_that_is_no_number_passes_no_limit(figure: str, gate: str) -> None:
    market = walking()
    result = play(market, changing(market.n_bars - 1), EnvSpec(action="continuous"))
    nan: dict[str, Any] = {figure: float("nan")}
    none: dict[str, Any] = {figure: None}
    assert gate_of(replace(result, metrics=replace(result.metrics, **nan))) == gate
    unknown = replace(result, metrics=replace(result.metrics, **none))
    assert gate_of(unknown) is None  # as in windows of older versions


def test_the_drawdown_counts_over_windows() -> None:
    market = make_market(np.linspace(100.0, 65.0, 48))
    action = np.full((47, 1), 1.0)
    result = play(market, action, EnvSpec(action="continuous", rebalance_band=0.9))
    spec = replace(OFF, max_drawdown=0.5)
    assert blocking_gate(rule(spec), [[result]]) is None
    assert blocking_gate(rule(spec), [[result, result]]) == "max_drawdown"
    assert blocking_gate(rule(spec), [[result], [result, result]]) == "max_drawdown"  # of any repeat


def test_a_sharpe_ratio_above_zero_of_equity_that_lost_is_named() -> None:
    returns = np.tile([0.5, -0.4], 20)  # mean 5 %, growth log(1.5) + log(0.6) < 0
    result = replace(play(walking(), changing(959), EnvSpec(action="continuous")), returns=returns)
    assert gate_of(result, replace(OFF, opposite_sign=True)) == "opposite_sign"
    assert gate_of(result, OFF) is None
    gaining = replace(result, returns=np.tile([0.05, -0.04], 20))
    assert gate_of(gaining, replace(OFF, opposite_sign=True)) is None
    # At a rate of 5 % a year it earned less than cash, and so has no Sharpe ratio above 0 either.
    steady = replace(result, returns=np.tile([0.0002, -0.0001], 20))
    assert blocking_gate(rule(replace(OFF, opposite_sign=True), risk_free=0.05), [[steady]]) is None


@pytest.mark.parametrize(
    ("action", "env"),
    [
        (np.full((959, 1), 0.7), EnvSpec(action="continuous")),
        (np.full((959, 1), 0.7) + np.linspace(0, 0.009, 959)[:, None], EnvSpec(action="continuous")),
        (np.full(959, 2, np.int64), EnvSpec(action="discrete")),
    ],
)
def test_one_action_on_every_bar_is_named(action: NDArray[Any], env: EnvSpec) -> None:
    market = walking()
    constant, moving = play(market, action, env), play(market, changing(959), EnvSpec(action="continuous"))
    assert gate_of(constant, replace(OFF, constant_policy=True)) == "constant_policy"
    assert blocking_gate(rule(replace(OFF, constant_policy=True)), [[constant, moving]]) is None


def test_a_study_of_a_version_without_gates_resumes_without_them() -> None:
    assert from_plain(ResultGateSpec, {}) == OFF
    assert from_plain(ResultGateSpec, to_plain(ResultGateSpec())) == ResultGateSpec()


def test_limits_outside_of_their_range_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"gate\.max_drawdown=0 is not allowed"):
        ResultGateSpec(max_drawdown=0)


def flags(market: Market, sharpe: float = 1.0, provider: str = "file", **rates: float) -> tuple[str, ...]:
    rates = {"cash_rate": 0.0, "risk_free": 0.0} | rates
    return flags_of(ResultGateSpec(), sharpe=sharpe, market=market, provider=provider, **rates)


def test_a_sharpe_ratio_above_four_is_flagged_on_market_data_alone() -> None:
    market = walking()
    assert flags(market) == ()
    assert flags(market, sharpe=4.1) == ("implausible_sharpe",)
    assert flags(market, sharpe=4.1, provider="synthetic") == ()


def test_averaged_bars_are_flagged() -> None:
    close = random_walk(500, volatility=0.01, seed=3)[:, 0]
    averaged = make_market(np.convolve(close, np.full(3, 1 / 3), mode="valid"))
    assert not are_smoothed(make_market(close), 0.2)
    assert are_smoothed(averaged, 0.2)
    assert flags(averaged) == (SMOOTHED_PRICES,)
    assert flags(averaged, provider="synthetic") == ()
    assert not are_smoothed(make_market(np.full(50, 100.0)), 0.2)


def test_interest_that_counts_as_skill_is_flagged() -> None:
    assert flags(walking(), cash_rate=0.05) == (INTEREST,)
    assert flags(walking(), cash_rate=0.05, risk_free=0.05) == ()
