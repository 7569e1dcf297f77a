"""What failed in a study, grouped by cause, with what was done about it and what it comes to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from optimize.results.records import FINISHED, RETRIED, EventRecord
from optimize.results.tables import RUNS
from optimize.study.claims.control import stopped_by_triage
from optimize.study.claims.judgement import Ended, Policy, first_line, judge
from optimize.study.claims.triage import LIMIT, NOTABLE, ended_since_resume, why_of


@dataclass(frozen=True)
class Cause:
    """Failures that say the same."""

    kind: str
    count: int  # failed runs: a trial that was tried once more and failed again counts twice
    first_trial: int
    first_message: str
    retried: int  # runs whose trial was tried once more
    skipped: int  # trials that ended as FAIL
    stopped: bool  # the study stopped itself for them, and was not launched again
    action: str  # what was done, and why


@dataclass(frozen=True)
class FailureReport:
    """The failures of a study and the verdict on them."""

    study_name: str
    failed_trials: int
    ended_trials: int
    done: int  # COMPLETE and PRUNED
    cap: int
    causes: tuple[Cause, ...]  # the most frequent first
    verdict: str  # none, random or systematic
    why: str
    stopped: bool  # the study stopped itself for it
    progress: str  # how far it is


def failure_report(conn: Connection, study: str, cap: int, policy: Policy) -> FailureReport:
    """Return what failed in a study, the retried runs included."""
    ended = _ended_runs(conn, study)
    told = [each for each in ended if each.state in FINISHED]
    failed = sum(each.state == "FAIL" for each in told)
    own = stopped_by_triage(conn, study)
    found = judge(ended_since_resume(conn, study), policy)
    rule = None if own is None else (own.detail or {}).get("rule")
    if own is not None:  # too many failures need have no cause in common
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


def _ended_runs(conn: Connection, study: str) -> list[Ended]:
    columns = (RUNS.c.trial_number, RUNS.c.state, RUNS.c.failure_kind, RUNS.c.failure_message)
    ended = RUNS.c.state.in_((*FINISHED, RETRIED))
    rows = select(*columns).where(RUNS.c.study_name == study, ended)
    return [Ended(*row) for row in conn.execute(rows.order_by(RUNS.c.trial_number, RUNS.c.attempt))]


def _causes(ended: Sequence[Ended], own: EventRecord | None) -> tuple[Cause, ...]:
    """Group failed runs by their signature; own: the event by which the study stopped itself."""
    failed = [each for each in ended if each.kind is not None]
    to_blame = None if own is None else own.detail or {}
    return tuple(
        _cause([each for each in failed if each.signature == signature], to_blame)
        for signature, _ in Counter(each.signature for each in failed).most_common()
    )


def _cause(alike: Sequence[Ended], to_blame: Mapping[str, Any] | None) -> Cause:
    """Summarise failures of one cause; to_blame: why the study stopped itself, None where it did not."""
    first = alike[0]
    by_state = Counter(each.state for each in alike)
    words = {RETRIED: "retried", "FAIL": "skipped"}
    actions = [
        f"{by_state[state]} {word} ({why_of(state, first.kind)})"
        for state, word in words.items()
        if by_state[state]
    ]
    stopped = to_blame is not None and (
        first.signature in to_blame.get("causes", ())
        or (to_blame.get("rule") == LIMIT and by_state["FAIL"] > 0)
    )
    if stopped:
        actions.append("and the study stopped for it")
    return Cause(
        kind=first.kind or "bug",
        count=len(alike),
        first_trial=first.trial_number,
        first_message=first_line(first.message),
        retried=by_state[RETRIED],
        skipped=by_state["FAIL"],
        stopped=stopped,
        action=", ".join(actions),
    )


def _progress(done: int, cap: int, failed: int) -> str:
    """Say how much of a study is there, and that it is enough to read where it nearly is."""
    share = f" ({100 * done / cap:.1f} %)" if cap else ""
    text = f"{done} of {cap} finished{share}, {failed} failed"
    return f"{text}: enough to read" if NOTABLE * cap <= done < cap else text
