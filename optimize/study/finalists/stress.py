"""Stress tests of a finalist: its stored agents evaluated again under a worse market, without training."""

import dataclasses
from collections.abc import Callable

import numpy as np

from envs.stress import Stress
from optimize.bundles.replay import load_window_model
from optimize.data.market import volume_of
from optimize.errors import WalkforgeError
from optimize.evaluate.summary import WindowResult, summarise
from optimize.results.finalists import FinalistRun, StressRecord, save_stress, stress_of
from optimize.study.failures.shortages import patiently
from optimize.study.finalists.plan import Entrant, FinalistPlan
from optimize.study.finalists.retrain import Place
from optimize.walkforward.files import finalist_folder, window_folder
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import conclude, evaluate_window

DOUBLE, TRIPLE, DELAYED, WORST = "costs_x2", "costs_x3", "delay_1", "worst_price"
STRESS_MEANINGS = {
    DOUBLE: "commission, spread, slippage and financing twice as high",
    TRIPLE: "three times as high",
    DELAYED: "every order waits one bar more",
    WORST: "buys fill at the high of their bar, sales at its low",
}
NO_VOLUME = "the data have no volume"


def scenarios_of(volume_share: float) -> tuple[str, ...]:
    """Return the names of the scenarios; that of the volume holds its share."""
    return DOUBLE, TRIPLE, DELAYED, WORST, volume_scenario(volume_share)


def volume_scenario(share: float) -> str:
    """Return the name of the scenario in which an order trades at most a share of its bar's volume."""
    return f"volume_{share:g}"


def stress_run(
    place: Place,
    plan: FinalistPlan,
    entrant: Entrant,
    run: FinalistRun,
    market_of: Callable[[Entrant], WindowedMarket],
) -> None:
    """Evaluate the agents of a run under every scenario that is not stored yet, and store each."""
    with place.engine.connect() as conn:
        known = {each.scenario for each in stress_of(conn, plan.study) if each.run_uuid == run.run_uuid}
    for scenario in scenarios_of(plan.volume_share):
        if scenario not in known:
            record = _stressed(place, plan, entrant, run, scenario, market_of(entrant))
            patiently(lambda record=record: _save(place, record))  # type: ignore[misc]


def _save(place: Place, record: StressRecord) -> None:
    with place.engine.begin() as conn:
        save_stress(conn, record)


def _stressed(
    place: Place,
    plan: FinalistPlan,
    entrant: Entrant,
    run: FinalistRun,
    scenario: str,
    windowed: WindowedMarket,
) -> StressRecord:
    """Return the figures of one scenario, or the reason for which it has none."""
    folder, spec = finalist_folder(place.folder, run.parameter_set, run.seed), entrant.spec
    try:
        stress = _stress_of(scenario, plan.volume_share, entrant, windowed)
        if stress is None:
            return StressRecord(run.run_uuid, scenario, None, reason=NO_VOLUME)
        measured: list[WindowResult] = []
        for window in windowed.windows:
            stored = window_folder(folder, window.index, 0)
            model = load_window_model(spec, windowed, stored)
            measured.append(evaluate_window(spec, windowed, window, model, stress)[0])
    except WalkforgeError as error:  # such as costs that take all of a price
        return StressRecord(run.run_uuid, scenario, None, reason=str(error))
    year = windowed.market.sessions_per_year
    found = conclude(spec, windowed, [measured], pruned_at=None).score
    whole = summarise([measured], year, spec.score.risk_free)
    figures = {each.name for each in dataclasses.fields(StressRecord)} & whole.keys()
    numbers = {name: whole[name] if np.isfinite(whole[name]) else None for name in figures}
    return StressRecord(run.run_uuid, scenario, found.value, reason=found.reason, **numbers)


def _stress_of(scenario: str, share: float, entrant: Entrant, windowed: WindowedMarket) -> Stress | None:
    """Return the change of the market; None where the data lack the volume that it needs."""
    if scenario in (DOUBLE, TRIPLE):
        return Stress(cost_factor=2.0 if scenario == DOUBLE else 3.0)
    if scenario == DELAYED:
        return Stress(delay=1)
    if scenario == WORST:
        return Stress(worst_price=True)
    volume = volume_of(entrant.spec.data, entrant.spec.session, windowed.market)
    if not volume.any():
        return None
    return Stress(most_units=share * volume / entrant.spec.cost.capital)
