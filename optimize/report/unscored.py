"""Why a study has no trial to show or export: the gates that its finished runs did not pass."""

from collections import Counter

from optimize.database import Engine
from optimize.results.records import RunRecord
from optimize.results.runs import finished_runs
from optimize.results.states import RunState


def why_unscored(engine: Engine, study: str) -> str:
    """Return which gates blocked how many trials."""
    with engine.connect() as conn:
        runs = finished_runs(conn, study)
    if not runs:
        return f"{study} has no finished trial yet, so there is nothing to export: run walkforge study first"
    counts = Counter(f"{run.state} {_gate(run)}" for run in runs)
    causes = ", ".join(f"{number} {cause}" for cause, number in counts.most_common())
    scored = [run for run in runs if run.state == RunState.COMPLETE]
    if scored and all(run.gate for run in scored):
        return (
            f"{study} has no trial to export: gates block every one that has a score; of {len(runs)} "
            f"finished: {causes}: the view gated_trials lists them; search further, or set other gates "
            "under a new name"
        )
    if scored:
        return (
            f"{study} has no parameter set to export: of each that has a score, half of the runs or more "
            f"were PRUNED or blocked; of {len(runs)} finished: {causes}: search further, or with pruner=none "
            "under a new name"
        )
    return (
        f"{study} has no feasible trial, so there is nothing to export; of {len(runs)} finished: {causes}: "
        "loosen the gate (score.min_trades, score.min_volatility) or search further under another name"
    )


def _gate(run: RunRecord) -> str:
    if run.gate is not None and run.state == RunState.COMPLETE:
        return f"(gate.{run.gate})"
    cause = run.failure_kind if run.state == RunState.FAIL else (run.reason or "no reason")
    return f"({'pruner' if cause and cause.startswith('pruner') else cause})"
