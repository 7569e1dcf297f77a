"""The studentised bootstrap maximum keeps its level and finds a column of the detectable size."""

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.errors import BadInputError
from optimize.evaluate.luck import (
    MaximumTest,
    bootstrap_maximum,
    detectable_sharpe,
    maximum,
    sessions_to_detect,
    sidak_critical_value,
)
from tests.optimize.evaluate.luck.markets import returns_without_skill

FAST = 199  # bootstraps: the level of the test is exact at 199 as well


def planted(seed: int = 0, *, sessions: int = 250, trials: int = 12, edge: float = 0.3) -> FloatArray:
    """Return noise with one column, the fourth, of a Sharpe ratio of about `edge` per session."""
    returns = returns_without_skill(seed, kind="normal", sessions=sessions, trials=trials)
    returns[:, 3] += 0.01 * edge
    return returns


def level(kind: str, *, against: str, runs: int) -> float:
    """Return how often the test at 5 % finds skill where there is none."""
    found = 0
    for seed in range(runs):
        returns = returns_without_skill(seed, kind=kind)
        benchmark: float | FloatArray = 0.0
        if against == "buy and hold":
            benchmark = 0.0005 + returns_without_skill(seed + runs, kind="normal", trials=1)[:, 0]
            returns = returns + benchmark[:, None]
        found += bootstrap_maximum(
            returns=returns, benchmark=benchmark, n_bootstraps=FAST, seed=seed
        ).significant
    return found / runs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "against"), [("mixed", "flat"), ("mixed", "buy and hold"), ("autocorrelated", "flat")]
)
def test_without_skill_it_fires_in_about_five_percent_of_five_hundred_studies(
    kind: str, against: str
) -> None:
    assert 0.025 <= level(kind, against=against, runs=500) <= 0.075


def test_without_skill_it_seldom_fires() -> None:
    assert level("mixed", against="flat", runs=40) <= 0.125


def found_of_planted(*, runs: int, factor: float) -> float:
    """Return how often one more column with a factor times the detectable Sharpe ratio is found."""
    found = 0
    for seed in range(runs):
        returns = returns_without_skill(seed, kind="normal")
        verdict = bootstrap_maximum(returns=returns, n_bootstraps=FAST, seed=seed)
        sharpe = factor * detectable(verdict)
        own = returns_without_skill(seed + runs, kind="normal", trials=1) + 0.01 * sharpe
        wider = bootstrap_maximum(returns=np.hstack((returns, own)), n_bootstraps=FAST, seed=seed)
        found += wider.single_step[-1] <= 0.05
    return found / runs


def detectable(verdict: MaximumTest) -> float:
    return detectable_sharpe(
        critical_value=verdict.critical_value,
        n_sessions=verdict.n_sessions,
        block_length=verdict.block_length,
        variance_ratio=verdict.variance_ratio,
    )


@pytest.mark.slow
def test_a_column_of_the_detectable_size_is_found_in_four_of_five_studies() -> None:
    assert 0.72 <= found_of_planted(runs=300, factor=1.0) <= 0.88


def test_a_column_of_twice_the_detectable_size_is_found() -> None:
    assert found_of_planted(runs=5, factor=2.0) == 1.0


def test_the_verdict_names_the_planted_column() -> None:
    verdict = bootstrap_maximum(returns=planted(), seed=1)
    assert verdict.best == 3
    assert verdict.significant
    assert verdict.p_value == verdict.single_step[3] == verdict.step_down[3] == 1 / 1001
    assert verdict.statistic == verdict.statistics[3] > verdict.critical_value
    assert (verdict.n_columns, verdict.n_sessions, verdict.n_bootstraps, verdict.seed) == (12, 250, 1000, 1)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_the_critical_value_and_the_p_value_agree(confidence: float) -> None:
    for seed in range(20):
        returns = planted(seed, sessions=60, edge=0.25)
        verdict = bootstrap_maximum(returns=returns, n_bootstraps=FAST, confidence=confidence, seed=seed)
        assert verdict.significant == (verdict.p_value <= 1 - confidence + 1e-9)


def test_too_few_bootstraps_for_the_confidence_find_nothing() -> None:
    verdict = bootstrap_maximum(returns=planted(edge=2.0), n_bootstraps=18)
    assert verdict.critical_value == np.inf
    assert not verdict.significant
    assert verdict.p_value == 1 / 19


def test_the_statistic_is_about_that_of_the_textbook() -> None:
    returns = planted(sessions=2000, edge=0.1)
    expected = np.sqrt(2000) * returns.mean(axis=0) / returns.std(axis=0)
    found = bootstrap_maximum(returns=returns, block_length=1.0).statistics
    assert found == pytest.approx(expected, abs=0.25)


def test_standard_errors_follow_the_autocorrelation() -> None:
    returns = returns_without_skill(0, kind="autocorrelated", sessions=20000, trials=3)
    verdict = bootstrap_maximum(returns=returns, n_bootstraps=FAST, block_length=5.0)
    assert verdict.variance_ratio == pytest.approx(1.2 / 0.8, rel=0.08)
    alternating = returns * np.where(np.arange(20000) % 2, 1, -1)[:, None]
    inverse = bootstrap_maximum(returns=alternating, n_bootstraps=FAST, block_length=5.0)
    assert inverse.variance_ratio == pytest.approx(0.8 / 1.2, rel=0.08)


def test_the_critical_value_of_one_autocorrelated_column_is_that_of_a_normal() -> None:
    returns = returns_without_skill(0, kind="autocorrelated", sessions=2000, trials=1)
    verdict = bootstrap_maximum(returns=returns, n_bootstraps=2000, block_length=10.0)
    assert verdict.critical_value == pytest.approx(1.645, abs=0.15)


def test_the_same_seed_gives_the_same_verdict_in_chunks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = planted(edge=0.2)
    whole = bootstrap_maximum(returns=returns, seed=5)
    monkeypatch.setattr(maximum, "CHUNK_COLUMNS", 5)
    monkeypatch.setattr(maximum, "CHUNK_BOOTSTRAPS", 7)
    cut = bootstrap_maximum(returns=returns, seed=5)
    assert_same_verdict(cut, whole)
    other = bootstrap_maximum(returns=returns, seed=6)
    assert other.critical_value != whole.critical_value


def assert_same_verdict(found: MaximumTest, expected: MaximumTest) -> None:
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9)
    assert found.critical_value == pytest.approx(expected.critical_value, rel=1e-9)
    assert found.p_value == expected.p_value
    assert found.block_length == pytest.approx(expected.block_length, rel=1e-9)
    assert np.sort(found.step_down)[: len(expected.step_down)] == pytest.approx(np.sort(expected.step_down))


def test_order_scale_and_constant_columns_do_not_change_the_verdict() -> None:
    returns = planted(edge=0.2)
    expected = bootstrap_maximum(returns=returns)
    order = np.random.default_rng(0).permutation(12)
    permuted = bootstrap_maximum(returns=returns[:, order])
    assert_same_verdict(permuted, expected)
    assert permuted.single_step == pytest.approx(expected.single_step[order])
    assert permuted.step_down == pytest.approx(expected.step_down[order])
    assert_same_verdict(bootstrap_maximum(returns=returns * np.geomspace(0.01, 1000, 12)), expected)
    constant = np.column_stack((returns, np.zeros(250), np.full(250, 0.01), np.full(250, np.nan)))
    wider = bootstrap_maximum(returns=constant)
    assert_same_verdict(wider, expected)
    assert wider.n_columns == 12
    assert np.isnan(wider.statistics[12:]).all()
    assert np.isnan(wider.single_step[12:]).all()


def test_copies_of_columns_do_not_change_the_verdict() -> None:
    returns = planted(edge=0.2)
    expected = bootstrap_maximum(returns=returns)
    copied = bootstrap_maximum(returns=np.hstack((returns, 2 * returns[:, :7])))
    assert copied.p_value == expected.p_value
    assert copied.critical_value == pytest.approx(expected.critical_value, rel=1e-9)
    assert copied.step_down[:12] == pytest.approx(expected.step_down)
    assert copied.step_down[12:] == pytest.approx(expected.step_down[:7])


def test_sessions_without_any_trial_do_not_change_the_verdict() -> None:
    returns = planted(edge=0.2)
    gaps = np.insert(returns, [0, 100, 250], np.nan, axis=0)
    found = bootstrap_maximum(returns=gaps, benchmark=np.zeros(253))
    assert_same_verdict(found, bootstrap_maximum(returns=returns))
    assert found.n_sessions == 250


def test_a_pruned_column_is_measured_on_its_own_sessions() -> None:
    returns = planted(edge=0.0)
    returns[:, 5] += np.where(np.arange(250) < 125, 0.004, np.nan)
    verdict = bootstrap_maximum(returns=returns, block_length=1.0)
    seen = returns[:125, 5]
    assert verdict.best == 5
    assert verdict.statistic == pytest.approx(seen.sum() / np.sqrt(seen @ seen), abs=0.8)
    assert np.isnan(bootstrap_maximum(returns=returns, min_sessions=126).statistics[5])


def test_against_a_benchmark_only_the_excess_counts() -> None:
    returns = planted(edge=0.2)
    market = np.random.default_rng(9).standard_normal(250) * 0.02
    found = bootstrap_maximum(returns=returns + market[:, None], benchmark=market)
    assert_same_verdict(found, bootstrap_maximum(returns=returns))
    same = bootstrap_maximum(returns=np.column_stack((market, market)), benchmark=market)
    assert np.isnan([same.statistic, same.p_value, same.critical_value]).all()
    flat = bootstrap_maximum(returns=returns + 0.001, benchmark=0.001)
    assert_same_verdict(flat, bootstrap_maximum(returns=returns))


def test_one_lucky_trade_is_no_evidence() -> None:
    returns = planted(edge=0.0)
    returns[:, 7] = 0.0
    returns[100, 7] = 0.5
    verdict = bootstrap_maximum(returns=returns)
    assert verdict.statistics[7] == pytest.approx(1.0, abs=0.15)
    assert verdict.single_step[7] > 0.2


def test_step_down_finds_the_second_column_that_the_single_step_misses() -> None:
    gains = []
    for seed in range(10):
        returns = planted(seed, edge=0.5)
        verdict = bootstrap_maximum(returns=returns, n_bootstraps=FAST, seed=seed)
        order = np.argsort(-verdict.statistics)
        assert (np.diff(verdict.step_down[order]) >= 0).all()
        assert (verdict.step_down <= verdict.single_step).all()
        gains.append(np.sum(verdict.single_step - verdict.step_down))
        without = bootstrap_maximum(
            returns=np.delete(returns, 3, axis=1),
            n_bootstraps=FAST,
            seed=seed,
            block_length=verdict.block_length,
        )
        assert without.p_value == verdict.step_down[order[1]]
    assert max(gains) > 0


@pytest.mark.parametrize(
    "returns",
    [np.zeros((100, 3)), np.empty((100, 0)), np.full((100, 2), np.nan), planted()[:19], np.empty((0, 2))],
)
def test_without_a_usable_column_there_is_no_verdict(returns: FloatArray) -> None:
    verdict = bootstrap_maximum(returns=returns)
    assert np.isnan([verdict.statistic, verdict.critical_value, verdict.p_value]).all()
    assert verdict.best is None
    assert not verdict.significant
    assert np.isnan(detectable(verdict)) if verdict.n_sessions >= 2 else True


def test_bad_input_is_refused_by_name() -> None:
    returns = planted()
    with pytest.raises(BadInputError, match=r"shape=\(250,\)"):
        bootstrap_maximum(returns=returns[:, 0])
    with pytest.raises(BadInputError, match=r"infinite values=1"):
        bootstrap_maximum(returns=np.where(np.arange(3000).reshape(250, 12) == 7, np.inf, returns))
    with pytest.raises(BadInputError, match=r"benchmark=249 .* 250 sessions"):
        bootstrap_maximum(returns=returns, benchmark=np.zeros(249))
    with pytest.raises(BadInputError, match=r"benchmark=nan"):
        bootstrap_maximum(returns=returns, benchmark=float("nan"))
    with pytest.raises(BadInputError, match=r"benchmark with not finite values=250"):
        bootstrap_maximum(returns=returns, benchmark=np.full(250, np.nan))
    with pytest.raises(BadInputError, match=r"confidence=95"):
        bootstrap_maximum(returns=returns, confidence=95)
    with pytest.raises(BadInputError, match=r"n_bootstraps=0"):
        bootstrap_maximum(returns=returns, n_bootstraps=0)
    with pytest.raises(BadInputError, match=r"block_length=0\.5"):
        bootstrap_maximum(returns=returns, block_length=0.5)


@pytest.mark.parametrize(
    ("annual", "n_trials", "sessions"), [(1, 1, 1562), (1, 1000, 5641), (2, 1000, 1419), (3, 1000, 638)]
)
def test_golden_sessions_to_detect_a_sharpe_ratio(annual: int, n_trials: int, sessions: int) -> None:
    found = sessions_to_detect(sharpe=annual / np.sqrt(252), n_trials=n_trials)
    assert round(found) == sessions


def test_no_number_of_sessions_detects_no_edge() -> None:
    assert sessions_to_detect(sharpe=0.0, n_trials=10) == np.inf
    with pytest.raises(BadInputError, match=r"power=1\.5"):
        sessions_to_detect(sharpe=0.1, n_trials=10, power=1.5)


def test_the_detectable_ratio_inverts_the_sessions_to_detect_it() -> None:
    critical = sidak_critical_value(n_trials=1000, confidence=0.95)
    assert sidak_critical_value(n_trials=1, confidence=0.95) == pytest.approx(1.6448536270)
    found = detectable_sharpe(critical_value=critical, n_sessions=5641)
    assert found * np.sqrt(252) == pytest.approx(1.0, rel=0.01)
    longer = detectable_sharpe(critical_value=critical, n_sessions=5641, variance_ratio=1.5)
    assert longer == pytest.approx(found * np.sqrt(1.5), rel=0.01)


def test_what_no_ratio_can_reach_is_infinite() -> None:
    assert detectable_sharpe(critical_value=4.0, n_sessions=10) == np.inf
    assert detectable_sharpe(critical_value=np.inf, n_sessions=1000) == np.inf
    assert detectable_sharpe(critical_value=-2.0, n_sessions=1000) == 0.0
    assert np.isnan(detectable_sharpe(critical_value=np.nan, n_sessions=1000))
    with pytest.raises(BadInputError, match=r"n_sessions=1 "):
        detectable_sharpe(critical_value=2.0, n_sessions=1)
