"""metrics.json of a bundle: the figures of its run overall, by year and by window, beside its baselines."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from optimize.bundles.gates import GateCheck
from optimize.bundles.inputs import BundleInputs, label_of
from optimize.bundles.luck import plain_luck
from optimize.evaluate.summary import summarise
from optimize.evaluate.windows import train_start
from optimize.results.outcome import beside_probe
from optimize.walkforward.refit import RefitPlan
from optimize.walkforward.run import conclude, years_of

OF_SEARCH = ("random_quantile", "flags")  # figures of a run that no bundle can compute again


def metrics_of(inputs: BundleInputs) -> dict[str, Any]:
    """Return the metrics as plain values: overall (median over repeats), per window, and buy-and-hold."""
    hold, probe = inputs.hold, inputs.probe
    score = conclude(inputs.spec, inputs.windowed, inputs.measured, pruned_at=None).score
    year, search = inputs.windowed.market.sessions_per_year, inputs.search
    years = years_of(inputs.windowed, inputs.measured, inputs.spec.score.risk_free)
    in_all = summarise(inputs.measured, year, inputs.spec.score.risk_free, np.concatenate(list(hold.returns)))
    return {
        "score": inputs.run.score,
        "standard_error": inputs.run.standard_error,
        "score_kind": inputs.spec.score.kind,
        "window_scores": list(score.window_values),
        "in_all": {key: _finite(value) for key, value in in_all.items()},
        "costs": asdict(inputs.spec.cost),
        "buy_and_hold": {
            "bought_anew": hold.bought_anew,
            "score": hold.score,
            "sharpe": hold.sharpe,
            "sharpe_zero_cost": hold.sharpe_zero_cost,
            "total_return": hold.total_return,
            "cost": hold.cost,
            "windows": [asdict(window) for window in hold.windows],
        },
        "baselines": {
            label_of(each): {
                "score": each.score,
                "sharpe": each.sharpe,
                "sharpe_zero_cost": each.sharpe_zero_cost,
                "total_return": each.total_return,
                "cost": each.cost,
            }
            for each in inputs.baselines
        },
        **beside_probe(inputs.measured, None if probe is None else np.concatenate(probe.returns), year),
        "probe_score": None if probe is None else probe.score,
        "years": [{key: _finite(value) for key, value in asdict(each).items()} for each in years],
        "tries": search.tries,
        **plain_luck(search.luck, search.luck_of(inputs.run)),
        **({"cautions": list(search.cautions)} if search.cautions else {}),
        **({} if (above := inputs.run.random_quantile) is None else {"random_quantile": above}),
        **({} if search.baseline is None else {"study_baseline": asdict(search.baseline)}),
        **({} if search.holdout_openings is None else {"holdout_openings": search.holdout_openings}),
        **({"search_earned": list(search.earned)} if search.earned else {}),
        **({} if inputs.checks is None else {"gates": plain_gates(inputs.checks)}),
        **({} if inputs.refit is None else {"refit": _plain_refit(inputs.refit)}),
        "parameters": dict(inputs.run.parameters),
        **{key: value for key in OF_SEARCH if (value := getattr(inputs.run, key)) is not None},
        "entropy": list(inputs.run.entropy),
        "windows": _windows(inputs),
    }


def plain_gates(checks: Sequence[GateCheck]) -> dict[str, dict[str, float | str | None]]:
    """Return the limit of each gate of an export and the figure that passed it."""
    return {check.gate: {"limit": check.limit, "figure": check.figure} for check in checks}


def _plain_refit(plan: RefitPlan) -> dict[str, Any]:
    return {"trained_until": str(plan.trained_until), "repeat": plan.repeat, "seed": plan.seed}


def _windows(inputs: BundleInputs) -> list[dict[str, Any]]:
    return [
        {
            "window": window.index,
            "repeat": repeat,
            "train_start": str(train_start(window, inputs.windowed.market)),
            "train_end": str(window.dates.train_end),
            "test_start": str(window.dates.test_start),
            "test_end": str(window.dates.test_end),
            "buy_and_hold_sharpe": inputs.hold.windows[place].sharpe,
            **asdict(row[place].metrics),
        }
        for place, window in enumerate(inputs.windowed.windows)
        for repeat, row in enumerate(inputs.measured)
    ]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
