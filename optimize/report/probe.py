"""The line on a linear probe that an agent does not beat."""

from collections.abc import Mapping

from optimize.evaluate.captions import LINEAR_PROBE
from optimize.report.format import format_score, number

ERRORS_BEYOND = 2.0  # standard errors by which an agent's Sharpe ratio must lie above that of its probe


def probe_line(subject: str, score: float | None, metrics: Mapping[str, float | None]) -> str | None:
    """Return the line where an agent does not beat the probe on its inputs beyond error, else None.

    metrics: probe_score, probe_lead and probe_lead_error; a probe that stayed flat earns nothing to compare.
    """
    probe, lead = metrics.get("probe_score"), metrics.get("probe_lead")
    error = metrics.get("probe_lead_error")
    if score is None or probe is None or lead is None or error is None or lead >= ERRORS_BEYOND * error:
        return None
    return (
        f"a linear regression on the same inputs earns as much, within error: {subject} scores "
        f"{format_score(score)}, the {LINEAR_PROBE} {format_score(probe)} (lead in annual Sharpe ratio "
        f"{format_score(lead)}, standard error {number()(error)})"
    )
