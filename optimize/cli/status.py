"""`walkforge status`."""

import json
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from optimize.database import Connection, Engine, open_engine, server_time
from optimize.database.address import in_words
from optimize.report.format import format_score, number
from optimize.report.market_line import stored_line
from optimize.report.nested import nested_line, stored_nested
from optimize.report.tables import Column, duration, say, short, show, show_json
from optimize.results.events import NestedMeasured
from optimize.results.launches import in_sentence, preflighting, running_launch, time_left, typed_command
from optimize.results.leases import Lease, active, is_future, is_lost, owner_alive
from optimize.results.processes import host_name
from optimize.results.queries import all_studies, best_score, health_of, studies_of
from optimize.results.records import load_study
from optimize.results.states import StudyState, WorkerState
from optimize.schemas.records import StatusConfig
from optimize.study.control import base_name, state_of, stopped_by_triage
from optimize.study.failures.policy import FailurePolicy
from optimize.study.failures.report import FailureReport, failure_report
from optimize.study.failures.shortages import short_now
from optimize.study.failures.stops import remedy

REPEAT_S = 2.0
COUNTS = ("cap", "complete", "pruned", "running", "waiting", "failed", "remaining")
STUDY_COLUMNS = (
    Column("name", "study", right=False),
    *(Column(key, key, short) for key in COUNTS),
    Column("best_score", "best score", format_score),
    Column("seconds_per_trial", "s/trial", number(1)),
    Column("eta_s", "time left", duration),
)
WORKER_COLUMNS = (
    Column("worker", "worker"),
    Column("pid", "pid", short),
    Column("host", "host", right=False),
    Column("study", "study", right=False),
    Column("trial", "trial"),
    Column("window", "window", short),
    Column("renewed_s_ago", "renewed", lambda seconds: "-" if seconds is None else f"{seconds:.0f} s ago"),
    Column("state", "state", right=False),
)
CAUSE_COLUMNS = (
    Column("study", "study", right=False),
    Column("kind", "kind", right=False),
    Column("count", "runs"),
    Column("first_trial", "first trial"),
    Column("first_message", "first message", right=False),
    Column("action", "action", right=False),
)


def status(config: StatusConfig) -> None:
    """Show progress, workers and failures of a study and its phases."""
    engine = open_engine(config.database.url, read_only=True, busy_timeout_s=config.database.busy_timeout_s)
    _look(engine, config)
    with suppress(KeyboardInterrupt):  # how it is meant to end
        while config.watch:
            time.sleep(REPEAT_S)
            _look(engine, config)


def _look(engine: Engine, config: StatusConfig) -> None:
    names = studies_of(engine, config.name) if config.name.strip("?") else all_studies(engine)
    if config.failures:
        show_failures([failures_of(engine, name) for name in names], config.format)
    else:
        _show([study_status(engine, name) for name in names], config)


def study_status(engine: Engine, name: str) -> dict[str, Any]:
    """Return the state of one study as plain values."""
    with engine.connect() as conn:
        health = health_of(conn, name)
        workers = _workers(conn, name)
        state, own = state_of(conn, name), stopped_by_triage(conn, name)
        preflight, launch = preflighting(conn, name), running_launch(conn, name)
        command = typed_command(conn, name)
        best, shortage = best_score(conn, name), short_now(conn, name)
        market, nested = stored_line(conn, name), stored_nested(conn, name)
    live = sum(worker["alive"] for worker in workers)
    where = in_words(engine.url)
    done, unfinished = health["complete"] + health["pruned"], health["running"] + health["waiting"]
    running = min(live, unfinished)  # a lease may outlast its process, which only its own machine can see
    return {
        "name": name,
        "phase": health["phase"],
        "market": market,
        "nested": None if nested is None else asdict(nested),
        "state": StudyState.FINISHED if done >= (health["cap"] or 0) and not unfinished else state,
        "stopped_itself": None if own is None else f"{own.message}: {remedy(own.event, name, where)}",
        "preflight": None if preflight is None else {"host": preflight[0], "pid": preflight[1]},
        "launch": None if launch is None else asdict(launch),
        "command": command,
        **{key: health[key] for key in COUNTS},
        "running": running,
        "waiting": unfinished - running,
        "best_score": best,
        "workers": workers,
        "shortage": shortage,
        "failures": json.loads(health["failures"] or "{}"),
        "seconds_per_trial": health["seconds_per_trial"],
        "eta_s": time_left((health["remaining"] or 0) + unfinished, health["seconds_per_trial"], live),
        "last_finished_at": health["last_finished_at"],
    }


def failures_of(engine: Engine, name: str) -> FailureReport:
    """Return the failures of a study and their assessment."""
    with engine.connect() as conn:
        record = load_study(conn, name)
        stored = {} if record is None else record.spec
        policy = FailurePolicy(
            stored.get("max_consecutive_failures", FailurePolicy.max_consecutive),
            stored.get("max_alike_failures", FailurePolicy.max_alike),
        )
        return failure_report(conn, name, 0 if record is None else record.n_trials, policy)


def show_failures(reports: list[FailureReport], form: str) -> None:
    """Print the failures of a study and its phases, the most frequent cause first."""
    if form == "json":
        show_json({"studies": [asdict(report) for report in reports]})
        return
    rows = [{"study": report.study_name, **asdict(cause)} for report in reports for cause in report.causes]
    if rows or form == "csv":
        show(rows, CAUSE_COLUMNS, form)
    for report in reports if form == "table" else ():
        say(f"{report.study_name}: {report.progress}")
        if report.causes or report.stopped:
            own = "; the study stopped itself" if report.stopped else ""
            say(f"{report.study_name}: {report.verdict}: {report.why}{own}")


def _workers(conn: Connection, name: str) -> list[dict[str, Any]]:
    """Return the runs that hold a trial; the pid of one that is lost may belong to anyone by now."""
    now = server_time(conn)
    return [_worker(lease, now) for lease in active(conn, name)]


def _worker(lease: Lease, now: float) -> dict[str, Any]:
    alive, ahead = not is_lost(lease, now, owner_alive), is_future(lease, now)
    return {
        "worker": lease.worker,
        "pid": lease.pid if alive else None,
        "host": host_name(lease.host),
        "trial": lease.trial_number,
        "window": lease.window,
        "alive": alive,
        "renewed_s_ago": None if lease.abandoned or ahead else round(max(0.0, now - lease.renewed_at), 1),
        "state": _state(alive, lease.abandoned, ahead),
    }


def _state(alive: bool, abandoned: bool, ahead: bool) -> WorkerState:
    if ahead:
        return WorkerState.AHEAD
    if alive:
        return WorkerState.ALIVE
    return WorkerState.GIVEN_BACK if abandoned else WorkerState.LOST


def _unfinished(study: dict[str, Any]) -> bool:
    """Return whether trials are yet to run; one that lost its worker waits, though none remain."""
    return bool(study["remaining"] or study["running"] or study["waiting"])


def _show(studies: list[dict[str, Any]], config: StatusConfig) -> None:
    form, where = config.format, in_words(config.database.url)
    if form == "json":
        show_json({"studies": studies})
        return
    show(studies, STUDY_COLUMNS, form)
    if form == "csv":
        return
    workers = [{"study": study["name"], **worker} for study in studies for worker in study["workers"]]
    if workers:
        show(workers, WORKER_COLUMNS, form)
    for study in studies:
        say(f"{study['name']}: {study['market']}")
        if study["nested"]:
            say(f"{study['name']}: {nested_line(NestedMeasured(**study['nested']))}")
        if study["failures"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in study["failures"].items())
            why = f"`walkforge status name={study['name']}{where} failures=true` says why"
            say(f"failed runs of {study['name']} by kind: {kinds}; {why}")
        if study["shortage"]:
            say(
                f"workers of {study['name']} wait and try again ({study['shortage']}): no trial is lost by it"
            )
        if (line := _state_line(study, where)) is not None:
            say(line)


def _state_line(study: dict[str, Any], where: str) -> str | None:
    """Return the active workers of an unfinished study, or the command that resumes it."""
    name, launch, state = study["name"], study["launch"], study["state"]
    goes_on = f"{in_sentence(study['command'], name, where)} goes on"
    works = any(worker["alive"] for worker in study["workers"])
    if study["stopped_itself"]:
        return f"{name} stopped itself: {study['stopped_itself']}"
    if state == StudyState.PAUSED:
        released = f"`walkforge study name={base_name(name)}{where} action=resume`"
        starts = "" if works or launch else "; no worker of a launch is there: then " + goes_on
        return f"{name} is paused: {released} {'releases it' if starts else 'goes on'}{starts}"
    if state == StudyState.STOPPED:
        return f"{name} is stopped: {goes_on}"
    if study["preflight"]:
        process = f"pid {study['preflight']['pid']} on {study['preflight']['host']}"
        return f"the preflight of {name} runs ({process}); its workers start when it has passed"
    if works or not _unfinished(study):
        return None
    if launch is None:
        return f"no process runs trials of {name} now: {goes_on}"
    process = f"pid {launch['pid']} on {launch['host']}"
    unseen = "" if launch["seen"] else f"; if that process is gone, {goes_on}"
    if launch["began_trials"]:
        return f"no trial of {name} runs at this moment, its launch looks after it ({process}){unseen}"
    return f"{name} is being launched ({process}): its workers have no trial yet{unseen}"
