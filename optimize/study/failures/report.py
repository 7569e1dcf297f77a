"""Report of a study's failures: grouped by cause, with the action taken and the assessment."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optimize.database import Connection
from optimize.results.ended_runs import ended_by_trial
from optimize.results.event_log import Logged
from optimize.results.events import Stopped
from optimize.results.states import FINISHED, RunState
from optimize.study.control import stopped_by_triage
from optimize.study.failures.classify import handling_reason
from optimize.study.failures.policy import Ended, FailurePolicy, assess, first_line_of
from optimize.study.failures.stops import LIMIT, NOTABLE, ended_since_resume


@dataclass(frozen=True)
class Cause:
    """Failures of one kind and message."""

    kind: str
    count: int  # failed runs: a trial that was tried once more and failed again counts twice
    first_trial: int
    first_message: str
    retried: int  # runs whose trial was tried once more
    skipped: int  # trials that ended as FAIL
    stopped: bool  # the study stopped itself for them, and was not launched again
    action: str  # action taken, with its reason


@dataclass(frozen=True)
class FailureReport:
    """The failures of a study with their assessment."""

    study_name: str
    failed_trials: int
    ended_trials: int
    done: int  # COMPLETE and PRUNED
    cap: int
    causes: tuple[Cause, ...]  # the most frequent first
    verdict: str  # none, random or systematic
    why: str
    stopped: bool  # whether the study stopped itself
    progress: str  # sentence: finished and failed trials of the cap


def failure_report(conn: Connection, study: str, cap: int, policy: FailurePolicy) -> FailureReport:
    """Return the failures of a study, retried runs included."""
    ended = [Ended(*row) for row in ended_by_trial(conn, study)]
    told = [each for each in ended if each.state in FINISHED]
    failed = sum(each.state == RunState.FAIL for each in told)
    own = stopped_by_triage(conn, study)
    found = assess(ended_since_resume(conn, study), policy)
    rule = None if own is None else own.event.rule
    if own is not None:  # a stop at max_failures needs no common cause
        verdict, why = ("random" if rule == LIMIT else "systematic"), own.message
    elif failed and found.kind == "none":
        lost = "all of them before the last launch, or with lost workers"
        verdict, why = "random", f"{failed} of {len(told)} ended trials failed, {lost}"
    elif len(ended) > len(told) and not failed:
        again = len(ended) - len(told)
        verdict, why = "none", f"{again} runs failed and were tried once more, no trial failed for good"
    else:
        verdict, why = found.kind, found.why
    done = len(told) - failed
    return FailureReport(
        study,
        failed,
        len(told),
        done,
        cap,
        _causes(ended, own),
        verdict,
        why,
        own is not None,
        _progress(done, cap, failed),
    )


def _causes(ended: Sequence[Ended], own: Logged[Stopped] | None) -> tuple[Cause, ...]:
    """Group failed runs by their signature; own: the event by which the study stopped itself."""
    failed = [each for each in ended if each.kind is not None]
    stop = None if own is None else own.event
    return tuple(
        _cause([each for each in failed if each.signature == signature], stop)
        for signature, _ in Counter(each.signature for each in failed).most_common()
    )


def _cause(alike: Sequence[Ended], stop: Stopped | None) -> Cause:
    """Summarise failures of one cause; stop: the event by which the study stopped itself."""
    first = alike[0]
    by_state = Counter(each.state for each in alike)
    words = {RunState.RETRIED: "retried", RunState.FAIL: "skipped"}
    actions = [
        f"{by_state[state]} {word} ({handling_reason(state, first.kind)})"
        for state, word in words.items()
        if by_state[state]
    ]
    stopped = stop is not None and (
        first.signature in stop.causes or (stop.rule == LIMIT and by_state[RunState.FAIL] > 0)
    )
    if stopped:
        actions.append("and the study stopped for it")
    return Cause(
        kind=first.kind or "bug",
        count=len(alike),
        first_trial=first.trial_number,
        first_message=first_line_of(first.message),
        retried=by_state[RunState.RETRIED],
        skipped=by_state[RunState.FAIL],
        stopped=stopped,
        action=", ".join(actions),
    )


def _progress(done: int, cap: int, failed: int) -> str:
    """Return a sentence: finished and failed trials, and whether they are enough to read."""
    share = f" ({100 * done / cap:.1f} %)" if cap else ""
    text = f"{done} of {cap} finished{share}, {failed} failed"
    return f"{text}: enough to read" if NOTABLE * cap <= done < cap else text
