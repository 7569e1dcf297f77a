"""Settle a run: store its outcome, release its trial if the cause of a failure may pass, log the decision."""

from optimize import clock
from optimize.database import Connection
from optimize.results.event_log import log_event
from optimize.results.events import FailureAction, FailureHandled
from optimize.results.leases import Lease
from optimize.results.records import Outcome, RunRecord
from optimize.results.runs import fail_run, finish_run, load_run, retried, retry_run, seconds_of, short_since
from optimize.results.states import FINISHED, RunState
from optimize.study.failures import shortages
from optimize.study.failures.classify import SHORTAGES, TRANSIENT, handling_reason
from optimize.study.failures.policy import first_line_of


def settle(conn: Connection, lease: Lease, outcome: Outcome) -> RunRecord:
    """Store the outcome of a run; release the trial if the cause of its failure may pass.

    Storing an outcome again, after a lost answer, changes nothing.
    """
    if outcome.state != RunState.FAIL:
        return finish_run(conn, lease, outcome)
    stored = load_run(conn, lease.run_uuid)
    if stored is not None and stored.state in (*FINISHED, RunState.RETRIED):
        return stored
    waits = bool(retried(conn, lease.study_name, lease.trial_number) & SHORTAGES)
    again = _again(conn, lease, outcome.failure_kind)
    run = retry_run(conn, lease, outcome) if again else finish_run(conn, lease, outcome)
    logged_before = waits and run.state == RunState.RETRIED and run.failure_kind in SHORTAGES
    return run if logged_before else _logged(conn, run)


def settle_killed(conn: Connection, lease: Lease, kind: str, message: str) -> RunRecord:
    """Store the failure of a run whose worker was killed; release the trial if the cause may pass.

    Raises StaleRunError if another run owns the trial.
    """
    if not _again(conn, lease, kind):
        return _logged(conn, fail_run(conn, lease, kind, message))
    outcome = Outcome(
        RunState.FAIL, seconds_of(conn, lease.run_uuid), failure_kind=kind, failure_message=message
    )
    return _logged(conn, retry_run(conn, lease, outcome))


def _again(conn: Connection, lease: Lease, kind: str | None) -> bool:
    if kind in SHORTAGES:
        since = short_since(conn, lease, SHORTAGES)
        return since is None or (clock.now() - since).total_seconds() <= shortages.PATIENCE_S
    return kind in TRANSIENT and not retried(conn, lease.study_name, lease.trial_number) - SHORTAGES


def _logged(conn: Connection, run: RunRecord) -> RunRecord:
    """Log the handling of a failed run as an event."""
    if run.state not in (RunState.RETRIED, RunState.FAIL):
        return run
    action = FailureAction.RETRIED if run.state == RunState.RETRIED else FailureAction.SKIPPED
    why = handling_reason(run.state, run.failure_kind)
    message = (
        f"trial {run.trial_number} {action}: {why} ({run.failure_kind}: {first_line_of(run.failure_message)})"
    )
    handled = FailureHandled(run.trial_number, run.run_uuid, run.failure_kind, action, why)
    log_event(conn, run.study_name, message, handled)
    return run
