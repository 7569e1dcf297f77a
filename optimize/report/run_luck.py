"""Luck of one configuration that was run by itself, after all tries on its instrument and dates."""

import math
from collections.abc import Sequence

import numpy as np

from envs.types import FloatArray
from optimize.evaluate.luck.family import FamilyTest, assess_family, chance_level
from optimize.evaluate.luck.power import detectable_sharpe
from optimize.evaluate.metrics import sharpe_ratio
from optimize.report.luck import verdict_of
from optimize.results.luck import LuckTest
from optimize.results.tries import Tries


def luck_of_run(
    repeats: Sequence[FloatArray],
    hold: FloatArray,
    tries: Tries,
    sessions_per_year: float,
    risk_free: float = 0.0,
) -> LuckTest:
    """Return the verdict on session returns (T,) of each repeat; the repeat of the lower median counts."""
    ratios = [sharpe_ratio(each, sessions_per_year, risk_free) for each in repeats]
    order = np.argsort([each if math.isfinite(each) else -math.inf for each in ratios], kind="stable")
    chosen = int(order[(len(ratios) - 1) // 2])
    excess = repeats[chosen] - risk_free / sessions_per_year
    n_tries, year = max(tries.same_instrument, 1), math.sqrt(sessions_per_year)
    flat = assess_family(excess[:, None], n_tries=n_tries, n_held=1)
    against_hold = assess_family((repeats[chosen] - hold)[:, None], n_tries=n_tries, n_held=1)
    p_flat, p_hold = _p_of(flat), _p_of(against_hold)
    chance = detectable = None
    if len(excess) > 1:
        chance = chance_level([], n_tries=n_tries, n_observations=len(excess))
        detectable = detectable_sharpe(
            critical_value=flat.test.critical_value,
            n_sessions=len(excess),
            block_length=flat.test.block_length,
            variance_ratio=flat.test.variance_ratio,
        )
    return LuckTest(
        study_name="",
        verdict=verdict_of(p_flat),
        verdict_buy_and_hold=verdict_of(p_hold),
        trial_number=None,
        sharpe=_finite(ratios[chosen]),
        p_flat=p_flat,
        trial_buy_and_hold=None,
        p_buy_and_hold=p_hold,
        critical_flat=_finite(flat.test.critical_value),
        critical_buy_and_hold=_finite(against_hold.test.critical_value),
        chance_sharpe=None if chance is None else chance * year,
        detectable_sharpe=None if detectable is None or not math.isfinite(detectable) else detectable * year,
        n_sessions=len(excess),
        n_sets=flat.test.n_columns,
        n_pruned=0,
        n_tries=n_tries,
        n_tries_all=max(tries.all_instruments, 1),
        n_held=n_tries,  # of the others only the number matters here
        as_of_trials=0,
    )


def _p_of(tested: FamilyTest) -> float | None:
    return _finite(float(tested.p_values[0]))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
