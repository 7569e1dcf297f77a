"""`walkforge status`."""

import json
import time
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, text

from optimize.cli.tables import Column, duration, number, say, short, show, show_json, signed
from optimize.compose import StatusConfig
from optimize.database import open_engine, server_time
from optimize.results.leases import Lease, active, host_name, owner_alive
from optimize.results.progress import preflighting
from optimize.results.queries import best_score, studies_of
from optimize.results.records import load_study
from optimize.study.claims.control import base_name, state_of
from optimize.study.claims.failures import FailureReport, failure_report
from optimize.study.claims.triage import Policy

REPEAT_S = 2.0
HEALTH = text("SELECT * FROM study_health WHERE study_name = :name")
COUNTS = ("cap", "complete", "pruned", "running", "waiting", "failed", "remaining")
STUDY_COLUMNS = (
    Column("name", "study", right=False),
    *(Column(key, key, short) for key in COUNTS),
    Column("best_score", "best score", signed()),
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
    """Show how far a study and its phases are, who works on them and what failed."""
    engine = open_engine(config.database.url, read_only=True, busy_timeout_s=config.database.busy_timeout_s)
    while True:
        names = studies_of(engine, config.name)
        if config.failures:
            show_failures([failures_of(engine, name) for name in names], config.format)
        else:
            _show([study_status(engine, name) for name in names], config.format)
        if not config.watch:
            return
        time.sleep(REPEAT_S)


def study_status(engine: Engine, name: str) -> dict[str, Any]:
    """Return the state of one study as plain values."""
    with engine.connect() as conn:
        health = conn.execute(HEALTH, {"name": name}).mappings().one()
        workers = _workers(conn, name)
        state = state_of(conn, name)
        preflight = preflighting(conn, name)
        best = best_score(conn, name)
    live = sum(worker["alive"] for worker in workers)
    return {
        "name": name,
        "phase": health["phase"],
        "state": state,
        "preflight": None if preflight is None else {"host": preflight[0], "pid": preflight[1]},
        **{key: health[key] for key in COUNTS},
        "best_score": best,
        "workers": workers,
        "failures": json.loads(health["failures"] or "{}"),
        "seconds_per_trial": health["seconds_per_trial"],
        "eta_s": _eta_s(health, live),
        "last_finished_at": health["last_finished_at"],
    }


def failures_of(engine: Engine, name: str) -> FailureReport:
    """Return what failed in a study and what that comes to."""
    with engine.connect() as conn:
        record = load_study(conn, name)
        stored = {} if record is None else record.spec
        limit = stored.get("max_consecutive_failures", Policy.max_consecutive)
        return failure_report(conn, name, 0 if record is None else record.n_trials, Policy(limit))


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
        verdict = f"{report.verdict}: {report.why}" if report.failed_trials else "nothing failed"
        say(f"{report.study_name}: {verdict}" + ("; the study stopped itself" if report.stopped else ""))


def _workers(conn: Connection, name: str) -> list[dict[str, Any]]:
    """Return the runs that hold a trial; the pid of one that is lost may belong to anyone by now."""
    now = server_time(conn)
    return [_worker(lease, now) for lease in active(conn, name)]


def _worker(lease: Lease, now: float) -> dict[str, Any]:
    alive = not lease.abandoned and lease.renewed_at + lease.lease_s >= now and owner_alive(lease)
    return {
        "worker": lease.worker,
        "pid": lease.pid if alive else None,
        "host": host_name(lease.host),
        "trial": lease.trial_number,
        "window": lease.window,
        "alive": alive,
        "renewed_s_ago": None if lease.abandoned else round(max(0.0, now - lease.renewed_at), 1),
        "state": "alive" if alive else "given back" if lease.abandoned else "lost",
    }


def _eta_s(health: RowMapping, live: int) -> float | None:
    """Return the seconds to the cap at the pace so far, or None while nobody works or nothing is known."""
    left = (health["remaining"] or 0) + health["running"]
    if left == 0:
        return 0.0
    if live == 0 or health["seconds_per_trial"] is None:
        return None
    return float(left * health["seconds_per_trial"] / live)


def _show(studies: list[dict[str, Any]], form: str) -> None:
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
        if study["failures"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in study["failures"].items())
            why = f"`walkforge status name={study['name']} failures=true` says why"
            say(f"failed runs of {study['name']} by kind: {kinds}; {why}")
        if study["state"] != "running":
            say(
                f"{study['name']} is {study['state']}: `walkforge study name={base_name(study['name'])}"
                f"{' action=resume' if study['state'] == 'paused' else ''}` goes on"
            )
        elif study["preflight"]:
            where = f"pid {study['preflight']['pid']} on {study['preflight']['host']}"
            say(f"the preflight of {study['name']} runs ({where}); its workers start when it has passed")
        elif not any(worker["alive"] for worker in study["workers"]) and study["remaining"]:
            say(f"nobody works on {study['name']} now: the command that started it resumes it")
