"""What becomes of trials that were asked for under a higher cap than the study has now.

A trial that nobody runs and that has no finished window is closed, the highest numbers first, until the cap
holds again. It is FAIL to Optuna, which learns nothing from it, and no failure to us: it has no failed run.
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
        handle.study._storage.set_trial_user_attr(trial_id(handle, number), CLOSED, WHY)
        handle.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    if surplus:
        with handle.engine.begin() as conn:
            for lease in leases.active(conn, handle.spec.name):
                if lease.trial_number in surplus:
                    leases.release(conn, lease)
            numbers = ", ".join(str(number) for number in sorted(surplus))
            message = f"trials {numbers} closed: {WHY} of {cap}, and none of their windows was finished"
            log_event(conn, EventRecord(handle.spec.name, "closed", message, {"trials": sorted(surplus)}))
    return set(surplus)


def is_closed(trial: FrozenTrial) -> bool:
    """Say whether a trial was closed because the cap was lowered, which is no failure."""
    return trial.state == TrialState.FAIL and CLOSED in trial.user_attrs
