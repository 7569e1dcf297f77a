"""The discovery benchmark: the planted edge has its stated size, and the rules read a table correctly."""

import numpy as np
import pytest

from benchmarks.discovery import RULES, judged, rule_rows, searched
from benchmarks.discovery_markets import COST, DAY, TURNOVER, YEAR, Table, make_bars
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


def test_the_results_become_tables() -> None:
    found = judged(table(0.5))
    regret = searched(table(0.5), "tpe and median pruner", 0)
    result = {
        "points": 8, "seeds": 2, "steps": 64, "cpu_s": 1.0, "budgets": (0.25, 0.5, 0.75, 1.0),
        "rules": rule_rows([(4.0, 6000, found)]), "regret": {"random": regret},
    }  # fmt: skip
    assert "| 4 | 120 | 1 of 1 | 1 of 1 |" in discovery(result)
    assert regret[-1] >= 0
