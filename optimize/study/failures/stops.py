"""Stop a study whose failures have a common cause or are too many, and return the reason and the remedy."""

from typing import TYPE_CHECKING

from optimize.database import Connection
from optimize.database.address import in_words
from optimize.results.ended_runs import count_stale, newest_ended
from optimize.results.event_log import last_event, log_event
from optimize.results.events import TRIAGE, Resumed, Stopped
from optimize.results.states import StudyState
from optimize.study.control import NoTrial, state_of, stopped_by_triage
from optimize.study.failures.policy import Ended, FailurePolicy, assess

if TYPE_CHECKING:  # `walkforge status` reads this module and must not load Optuna
    from optimize.study.context import StudyContext

LIMIT = "max_failures"  # the rule behind a stop that no single cause explains
NOTABLE = 0.9  # share of the cap from which a stopped study is worth reading
ENDED_LIMIT = 200  # newest ended trials that are assessed


def hold_reason(context: "StudyContext") -> NoTrial | None:
    """Return why no trial may be claimed (PAUSED, STOPPED, SYSTEMATIC), or None; needs the study lock.

    A study with systematic failures is stopped here, for the workers of all machines.
    """
    name = context.spec.name
    with context.engine.begin() as conn:
        state = state_of(conn, name)
        if state != StudyState.RUNNING:
            own = stopped_by_triage(conn, name) is not None
            if state == StudyState.PAUSED:
                return NoTrial.PAUSED
            return NoTrial.SYSTEMATIC if own else NoTrial.STOPPED
        found = assess(ended_since_resume(conn, name), failure_policy(context))
        if found.action != "stop":
            return None
        _log_stop(conn, name, found.why, causes=found.causes)
        return NoTrial.SYSTEMATIC


def stop_at_limit(context: "StudyContext", failed: int) -> bool:
    """Stop the study on all machines if too many trials failed; return whether they did."""
    allowed = context.spec.failures_allowed
    if failed < allowed:
        return False
    with context.engine.begin() as conn:
        if failed - count_stale(conn, context.spec.name) < allowed:
            return False
        if state_of(conn, context.spec.name) == StudyState.RUNNING:
            _log_stop(conn, context.spec.name, f"{LIMIT}={allowed} trials failed", rule=LIMIT)
    return True


def _log_stop(
    conn: Connection, study: str, why: str, rule: str | None = None, causes: tuple[str, ...] = ()
) -> None:
    log_event(conn, study, why, Stopped(TRIAGE, why, rule, causes))


def failure_policy(context: "StudyContext") -> FailurePolicy:
    """Return the failure limits of this study."""
    return FailurePolicy(context.spec.max_consecutive_failures, context.spec.max_alike_failures)


def ended_since_resume(conn: Connection, study: str) -> list[Ended]:
    """Return the trials that ended, oldest first, without those from before the last resume."""
    last = last_event(conn, [study], [Resumed])  # each phase has its own, as trials are counted anew
    after = -1 if last is None else last.event.after_trial
    return ended_trials(conn, study, after, ENDED_LIMIT)


def ended_trials(conn: Connection, study: str, after: int = -1, limit: int | None = None) -> list[Ended]:
    """Return the newest trials that ended, oldest first, with a number above `after`."""
    return [Ended(*row) for row in newest_ended(conn, study, after, limit)]


def stop_message(context: "StudyContext") -> str:
    """Return why a study stopped itself, and the remedy."""
    name = context.spec.name
    with context.engine.connect() as conn:
        own = stopped_by_triage(conn, name)
    # None: the study was launched again since.
    event = Stopped(TRIAGE, rule=LIMIT) if own is None else own.event
    why = f"{LIMIT}={context.spec.failures_allowed} trials failed" if own is None else own.message
    return f"study {name!r} stopped itself: {why}: {remedy(event, name, in_words(context.spec.database.url))}"


def remedy(own: Stopped, study: str, where: str = "") -> str:
    """Return the remedy for a study that stopped itself; `where` names its database."""
    higher = f" with a higher {LIMIT}" if own.rule == LIMIT else ""
    seen = f"`walkforge status name={study}{where} failures=true`"
    return f"see {seen}, mend the cause, then launch it again{higher}"


def enough_to_read(done: int, cap: int, name: str, where: str = "") -> str:
    """Return a hint to read a study that ended early with nearly all trials, else an empty text.

    `where` names its database in a command.
    """
    if not NOTABLE * cap <= done < cap:
        return ""
    return f"; {done} of {cap} finished, enough to read: `walkforge leaderboard name={name}{where}`"
