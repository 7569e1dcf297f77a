"""The discovery benchmark: the planted edge has its stated size, and the rules read a table correctly."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from benchmarks.discovery import RULES, judged, rule_rows, search_rows
from benchmarks.discovery_markets import COST, DAY, QUICK, TURNOVER, YEAR, Table, make_bars
from benchmarks.discovery_records import Market, markets
from benchmarks.discovery_searches import BUDGETS, SEARCHES, replay
from benchmarks.discovery_table import discovery


def table(mean: float) -> Table:
    """Return trials of eight points whose returns have a mean in standard deviations of a session."""
    rng = np.random.default_rng(0)
    returns = rng.normal(mean, 1.0, (8, 2, 160)) * 0.01
    return Table(returns, np.repeat(np.arange(4), 40), np.full((8, 2, 4), 9.0), np.full((8, 4), 0.1))


@pytest.mark.parametrize("edge", [2.0, 4.0])
def test_holding_the_sign_of_the_drift_earns_the_stated_ratio_net_of_costs(edge: float) -> None:
    days = 6000
    bars = make_bars(edge, days * DAY, 0)
    log_return = np.diff(np.log(np.r_[100.0, bars["close"]])).reshape(days, DAY)
    rising = np.where(np.arange(DAY) < DAY // 2, 1, -1)
    cost = TURNOVER * (COST.commission_bps + COST.slippage_bps) * 1e-4
    daily = (log_return * rising).sum(axis=1) - cost
    assert daily.mean() / daily.std() * np.sqrt(YEAR) == pytest.approx(edge, abs=3 * np.sqrt(YEAR / days))


def test_the_noise_has_heavy_tails_clusters_and_a_season() -> None:
    log_return = np.diff(np.log(make_bars(0.0, 48_000, 1)["close"].to_numpy()))
    scaled = log_return / log_return.std()
    assert (scaled**4).mean() > 4
    assert np.corrcoef(scaled[DAY:] ** 2, scaled[:-DAY] ** 2)[0, 1] > 0.05
    by_hour = [scaled[hour::DAY].std() for hour in range(DAY)]
    assert max(by_hour) > 1.8 * min(by_hour)


def test_every_rule_finds_a_large_edge_and_the_strict_ones_find_none_in_losses() -> None:
    assert all(judged(table(0.5))[rule] for rule in RULES)
    losing = judged(table(-0.5))
    assert not any(losing[rule] for rule in RULES)
    assert losing["sessions"] == 120


def test_a_run_that_is_stopped_has_recorded_about_as_many_markets_of_each_kind() -> None:
    size = replace(QUICK, bars=(6000, 12000))
    for stop in range(1, size.markets * len(size.edges) * len(size.bars) + 1):
        recorded = Counter((each.edge, each.bars) for each in islice(markets(size), stop))
        counts = [recorded[edge, bars] for edge in size.edges for bars in size.bars]
        assert max(counts) - min(counts) <= 1


def one_good_point() -> Table:
    """Return trials of noise, but for the last point, which earns in every window."""
    found = table(0.0)
    found.returns[-1] += 0.02
    return found


def test_a_search_that_may_try_the_grid_twice_finds_the_one_good_point() -> None:
    (default,) = [each for each in SEARCHES if each.is_default]
    found = np.mean([replay(one_good_point(), default, seed) for seed in range(10)], axis=0)
    regret, held = found
    assert regret[-1] < 0.2 * regret[1]
    assert held[-1] > held[1]


def test_a_first_phase_delays_the_first_ranked_point() -> None:
    by_name = {each.name: replay(one_good_point(), each, 3) for each in SEARCHES}
    assert np.isfinite(by_name["TPE"][0, 0])
    assert np.isnan(by_name["the default after a phase for the lookback"][0, :2]).all()
    assert (by_name["TPE"][0, :1] == by_name["random"][0, :1]).all(), (
        "the first ten trials are drawn at random"
    )


def test_the_results_become_tables() -> None:
    found = judged(table(0.5))
    searched = np.array([[replay(table(0.5), each, 0) for each in SEARCHES]])
    result = {
        "points": 8, "seeds": 2, "steps": 64, "windows": 4, "cpu_s": 1.0, "budgets": BUDGETS,
        "rules": rule_rows([(Market(4.0, 6000, 0), found)]), "markets_searched": 1,
        "searches": search_rows(searched),
    }  # fmt: skip
    written = discovery(result)
    assert "| 4 | 120 | 1 of 1 | 1 of 1 |" in written
    assert "| the default with two repeats | " in written
    assert "nan" not in written
