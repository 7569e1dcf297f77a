"""The title of a bundle's run: a trial, or an ensemble with its members."""

from collections.abc import Sequence

from optimize.agents.ensemble import ENSEMBLE
from optimize.results.records import RunRecord


def members_of(run: RunRecord) -> list[str]:
    """Return the members of an ensemble, which its record has in place of parameters; empty for a trial."""
    return [str(each) for each in run.parameters.get(ENSEMBLE) or []]


def title_of(run: RunRecord) -> str:
    """Return `trial 7`, or `ensemble of trial 7, trial 3`."""
    return title_with(run.trial_number, members_of(run))


def title_with(trial: int | None, members: Sequence[str]) -> str:
    """Return the title of a trial's number, or of the members of an ensemble."""
    return f"ensemble of {', '.join(members)}" if members else f"trial {trial}"
