"""The title of a bundle's run: a trial, or an ensemble with its members."""

from optimize.agents.ensemble import ENSEMBLE
from optimize.results.records import RunRecord


def title_of(run: RunRecord) -> str:
    """Return `trial 7`, or the members of an ensemble, which its record has in place of parameters."""
    members = run.parameters.get(ENSEMBLE)
    return f"trial {run.trial_number}" if members is None else f"ensemble of {', '.join(members)}"
