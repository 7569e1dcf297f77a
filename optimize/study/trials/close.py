"""Close trials that must not run: above a lowered cap, or queued by hand with values outside the space.

A surplus trial without a worker and without a finished window is closed, the highest numbers first, until
the cap holds again. A closed trial is FAIL in Optuna, so no sampler learns from it. It has no failed run, so
it counts as no failure.
"""

from collections.abc import Collection

from optuna.trial import FrozenTrial, TrialState

from optimize.results import leases
from optimize.results.event_log import log_event
from optimize.results.events import TrialsClosed
from optimize.results.runs import with_windows
from optimize.results.views import CLOSED
from optimize.search.storage import trial_id
from optimize.study.context import StudyContext

WHY = "over the lowered cap"


def close_surplus(context: StudyContext, takeable: Collection[int], excess: int, cap: int) -> set[int]:
    """Close up to `excess` trials without a live run and return their numbers; needs the study lock."""
    if excess <= 0 or not takeable:
        return set()
    with context.engine.connect() as conn:
        begun = with_windows(conn, context.spec.name, takeable)
    surplus = sorted(set(takeable) - begun, reverse=True)[:excess]
    for number in surplus:
        _close(context, number, WHY)
    if surplus:
        with context.engine.begin() as conn:
            for lease in leases.active(conn, context.spec.name):
                if lease.trial_number in surplus:
                    leases.release(conn, lease)
            numbers = ", ".join(str(number) for number in sorted(surplus))
            message = f"trials {numbers} closed: {WHY} of {cap}, and none of their windows was finished"
            log_event(conn, context.spec.name, message, TrialsClosed(tuple(sorted(surplus))))
    return set(surplus)


def close_unfit(context: StudyContext, number: int, why: str) -> None:
    """Close a trial with queued values outside the space and log the reason; needs the study lock."""
    _close(context, number, f"queued by hand, and not of the space: {why}")
    message = f"trial {number} closed: it was queued by hand with values that are not of the space: {why}"
    with context.engine.begin() as conn:
        log_event(conn, context.spec.name, message, TrialsClosed((number,), why))


def _close(context: StudyContext, number: int, why: str) -> None:
    context.storage.set_trial_user_attr(trial_id(context.storage, context.spec.name, number), CLOSED, why)
    context.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def is_closed(trial: FrozenTrial) -> bool:
    """Return whether a trial was closed: the cap was lowered, or its queued values lie outside the space."""
    return trial.state == TrialState.FAIL and CLOSED in trial.user_attrs
