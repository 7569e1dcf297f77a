"""Close trials that are not to run: over a lowered cap, or queued by hand with values not of the space.

A surplus trial that nobody runs and that has no finished window is closed, the highest numbers first, until
the cap holds again. A closed trial is FAIL to Optuna, which learns nothing from it, and no failure to us: it
has no failed run.
"""

from collections.abc import Collection

from optuna.trial import FrozenTrial, TrialState

from optimize.results import leases
from optimize.results.records import EventRecord, log_event
from optimize.results.runs import with_windows
from optimize.results.views import CLOSED
from optimize.study.claims.telling import trial_id
from optimize.study.handle import Handle

WHY = "over the lowered cap"


def close_surplus(handle: Handle, takeable: Collection[int], excess: int, cap: int) -> set[int]:
    """Close up to `excess` of the trials that nobody runs, under the study lock; return their numbers."""
    if excess <= 0 or not takeable:
        return set()
    with handle.engine.connect() as conn:
        begun = with_windows(conn, handle.spec.name, takeable)
    surplus = sorted(set(takeable) - begun, reverse=True)[:excess]
    for number in surplus:
        _close(handle, number, WHY)
    if surplus:
        with handle.engine.begin() as conn:
            for lease in leases.active(conn, handle.spec.name):
                if lease.trial_number in surplus:
                    leases.release(conn, lease)
            numbers = ", ".join(str(number) for number in sorted(surplus))
            message = f"trials {numbers} closed: {WHY} of {cap}, and none of their windows was finished"
            log_event(conn, EventRecord(handle.spec.name, "closed", message, {"trials": sorted(surplus)}))
    return set(surplus)


def close_unfit(handle: Handle, number: int, why: str) -> None:
    """Close a trial whose queued values cannot be tried, under the study lock, and keep the reason."""
    _close(handle, number, f"queued by hand, and not of the space: {why}")
    message = f"trial {number} closed: it was queued by hand with values that are not of the space: {why}"
    with handle.engine.begin() as conn:
        log_event(conn, EventRecord(handle.spec.name, "closed", message, {"trials": [number], "why": why}))


def _close(handle: Handle, number: int, why: str) -> None:
    handle.study._storage.set_trial_user_attr(trial_id(handle, number), CLOSED, why)
    handle.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def is_closed(trial: FrozenTrial) -> bool:
    """Say whether a trial was closed: the cap was lowered, or its queued values are not of the space."""
    return trial.state == TrialState.FAIL and CLOSED in trial.user_attrs
