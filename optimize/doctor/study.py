"""The doctor's look at a study: leases, records, folders, versions; each with a way to mend it."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path

from envs.plain import from_plain
from optimize import clock
from optimize.bundles.manifest import MANIFEST_FILE
from optimize.database import server_time, study_lock
from optimize.doctor.findings import FAIL, OK, WARN, Audit, Finding, guarded_findings, listed
from optimize.doctor.returns import examine_returns
from optimize.hashing import hash_file
from optimize.results import leases
from optimize.results.code_of_runs import are_equal, codes_of_runs, equal_codes
from optimize.results.creation import create_tables
from optimize.results.ended_runs import numbers_and_uuids, stored_texts
from optimize.results.leases import Lease
from optimize.results.orphans import trial_states
from optimize.results.processes import this_host
from optimize.results.records import (
    StudyRecord,
    forget_exports,
    load_exports,
    load_study,
)
from optimize.results.runs import finished_runs
from optimize.results.states import TrialState
from optimize.study.context import open_study
from optimize.study.shared_folder import holds_token
from optimize.study.spec import StudySpec
from optimize.study.trials.tell import tell_finished
from optimize.walkforward.files import run_folder
from optimize.walkforward.versions import CODE, changed_code, package_differences, versions

TRASH_FOLDER = ".trash"
RUN_FOLDER = re.compile(r"\d{4,}_[0-9a-f]{8}")


def examine_study(audit: Audit) -> Iterator[Finding]:
    """Yield the findings of one study; a part that cannot be read is a finding of its own."""
    try:
        with audit.engine.connect() as conn:
            record = load_study(conn, audit.name)
    except ValueError as error:
        said = f"{audit.name}: its row in wf_studies cannot be read ({error})"
        yield Finding("study", FAIL, said, "restore the row from a copy of the database")
        record = None
    parts = {
        "leases": _running(audit, record),
        "records": _records(audit),
        "folders": _folders(audit, record),
        "files": examine_returns(audit),
        "bundles": _exports(audit),
    }
    if record is not None:
        parts |= {"versions": _versions(audit, record), "code": _codes(audit, record)}
    for check, findings in parts.items():
        yield from guarded_findings(
            check, audit.name, findings, "restore what is damaged from a copy of the database"
        )


def _running(audit: Audit, record: StudyRecord | None) -> Iterator[Finding]:
    """Find trials that are recorded but still RUNNING in Optuna, and leases whose owner is gone."""
    with audit.engine.connect() as conn:
        states = trial_states(conn, audit.name)
        held = leases.active(conn, audit.name)
        lost = leases.lost(conn, audit.name, server_time(conn), leases.owner_alive)
        running = [number for number, state in states.items() if state == TrialState.RUNNING]
        untold = [run.trial_number for run in finished_runs(conn, audit.name, running)]
    gone = {lease.run_uuid for lease in lost}
    working = [lease.trial_number for lease in held if lease.run_uuid not in gone]
    over = [number for number in untold if number not in working]
    # In batch mode Optuna gets them in the order of their numbers.
    if record is not None and record.spec.get("worker", {}).get("mode") == "batch":
        over = list(takewhile(over.__contains__, sorted(running)))
    yield from _untold(audit, over, record)
    yield _leases(audit, _stale(lost), [lease for lease in lost if _lives_here(lease)], states, working)


def _records(audit: Audit) -> Iterator[Finding]:
    """Find runs whose stored settings are not valid JSON."""
    with audit.engine.connect() as conn:
        stored = stored_texts(conn, audit.name)
    damaged = {number for number, texts in stored if not all(map(_is_json, texts))}
    if damaged:
        said = f"{audit.name}: runs in wf_runs cannot be read (trials {listed(sorted(damaged))})"
        yield Finding("records", FAIL, said, "restore their rows from a copy of the database")


def _is_json(stored: object) -> bool:
    try:
        return stored is None or json.loads(str(stored)) is not Ellipsis
    except ValueError:
        return False


def _untold(audit: Audit, numbers: list[int], record: StudyRecord | None) -> Iterator[Finding]:
    """Find trials whose record is complete although Optuna thinks that they run."""
    if not numbers or record is None:
        return

    def mend() -> str:
        context = open_study(_spec_of(record, audit))
        try:
            tell_finished(context)
        finally:
            context.close()
        return f"reported {listed(numbers)}"

    said = f"{audit.name}: {len(numbers)} trials are recorded and not reported to Optuna ({listed(numbers)})"
    yield Finding("trials", WARN, said, "the next launch reports them, or repair=true", mend)


def _spec_of(record: StudyRecord, audit: Audit) -> StudySpec:
    stored = from_plain(StudySpec, dict(record.spec))
    return dataclasses.replace(stored, database=audit.database, output_dir=str(audit.output_dir))


def _lives_here(lease: Lease) -> bool:
    """Return whether the process that took a lease runs on this machine, even if its renewal is late."""
    return lease.host == this_host() and not lease.abandoned and leases.owner_alive(lease)


def _stale(lost: list[Lease]) -> list[Lease]:
    return [lease for lease in lost if not lease.abandoned and not _lives_here(lease)]


def _leases(
    audit: Audit, stale: list[Lease], late: list[Lease], states: Mapping[int, str], working: list[int]
) -> Finding:
    """Find leases whose owner is gone: of running trials, to be taken over, and of ended ones."""
    running = {number for number, state in states.items() if state == TrialState.RUNNING}
    run = {*working, *(lease.trial_number for lease in late)} & running
    waiting = running - run
    said = f"{audit.name}: {len(run)} trials run, {len(waiting)} wait to be taken over"
    if late:  # a machine that is overloaded, a process that is stopped: ending it is no mending
        said += f"; {len(late)} leases are late though their processes live here (pids {_pids(late)})"
    if not stale:
        level, remedy = (WARN, "see why they stand still") if late else (OK, "")
        return Finding("leases", level, said, remedy)

    def mend() -> str:
        found = {lease.run_uuid for lease in stale}
        with study_lock(audit.database.url, audit.name), audit.engine.begin() as conn:
            lost = leases.lost(conn, audit.name, server_time(conn), leases.owner_alive)
            still = [lease for lease in _stale(lost) if lease.run_uuid in found]
            now = trial_states(conn, audit.name)
            for lease in still:
                give_up = (
                    leases.abandon if now.get(lease.trial_number) == TrialState.RUNNING else leases.release
                )
                give_up(conn, lease)
        return f"released the leases of {listed(lease.trial_number for lease in still) or 'none any more'}"

    numbers = listed(lease.trial_number for lease in stale)
    return Finding(
        "leases",
        WARN,
        f"{said}; {len(stale)} leases are stale (trials {numbers})",
        "the next launch takes their trials over, or repair=true gives them back without a loss",
        mend,
    )


def _pids(held: list[Lease]) -> str:
    return listed(sorted({lease.pid for lease in held}))


def _folders(audit: Audit, record: StudyRecord | None) -> Iterator[Finding]:
    """Find folders of runs without a row; they are moved, never deleted."""
    trials = audit.folder / "trials"
    there = {path.name for path in _children(trials) if RUN_FOLDER.fullmatch(path.name)}
    with audit.engine.connect() as conn:
        runs = numbers_and_uuids(conn, audit.name)
        ours = holds_token(conn, audit.name, audit.folder)
    known = {run_folder(audit.folder, number, uuid).name for number, uuid in runs}
    orphans = sorted(there - known)
    if not orphans:
        yield Finding("folders", OK, f"{audit.name}: every folder of a run has its row")
        return
    said = f"{audit.name}: {len(orphans)} folders of runs have no row ({listed(orphans)})"
    if not (ours or there & known):
        remedy = "another database may own this folder: name that database, or another output_dir"
        yield Finding("folders", WARN, said, remedy)
        return
    mend = _mover(audit, [trials / name for name in orphans])
    yield Finding("folders", WARN, said, f"repair=true moves them to {audit.output_dir / TRASH_FOLDER}", mend)


def _mover(audit: Audit, folders: list[Path]) -> Callable[[], str]:
    def mend() -> str:
        trash = audit.output_dir / TRASH_FOLDER / f"{clock.now():%Y%m%dT%H%M%S}" / audit.name
        trash.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            shutil.move(folder, trash / folder.name)
        return f"moved {len(folders)} folders to {trash}"

    return mend


def _exports(audit: Audit) -> Iterator[Finding]:
    """Find bundles that are missing or differ from their export."""
    with audit.engine.connect() as conn:
        exports = {each.bundle: each for each in load_exports(conn, audit.name)}
    places = {bundle: _bundle_place(audit, bundle) for bundle in exports}
    manifests = {bundle: place / MANIFEST_FILE for bundle, place in places.items() if place is not None}
    gone = [bundle for bundle, manifest in manifests.items() if not manifest.is_file()]
    changed = [
        bundle
        for bundle, manifest in manifests.items()
        if bundle not in gone and hash_file(manifest) != exports[bundle].manifest_sha256
    ]
    if changed:
        said = f"{audit.name}: bundles are not what was exported ({listed(changed)})"
        yield Finding("bundles", FAIL, said, "do not use them: export again")
    if gone:

        def mend() -> str:
            create_tables(audit.engine)
            with audit.engine.begin() as conn:
                forget_exports(conn, gone)
            return f"forgot {len(gone)} bundles (their rows are in wf_trash)"

        said = f"{audit.name}: bundles are not where they were exported to ({listed(gone)})"
        yield Finding("bundles", WARN, said, "repair=true forgets them, export makes them anew", mend)


def _bundle_place(audit: Audit, bundle: str) -> Path | None:
    """Return the folder of a bundle, None where it lies on another machine.

    An older version stored the path as it was typed, relative to where the export ran.
    """
    path = Path(bundle)
    if path.is_absolute():
        return path if path.parent.is_dir() else None
    tried = (path, audit.folder / path.parent.name / path.name)
    return next((place for place in tried if (place / MANIFEST_FILE).is_file()), None)


def _versions(audit: Audit, record: StudyRecord) -> Iterator[Finding]:
    found = package_differences(record.versions, versions())
    if not found:
        yield Finding("versions", OK, f"{audit.name}: the packages are those it was started with")
        return
    said = f"{audit.name}: packages differ from those it was started with ({'; '.join(found)})"
    remedy = "install the same, or take it that scores differ in their last digits"
    yield Finding("versions", WARN, said, remedy)


def _codes(audit: Audit, record: StudyRecord) -> Iterator[Finding]:
    """Find runs computed by code that differs, but for codes that gave equal results on a stored window."""
    with audit.engine.connect() as conn:
        counts = codes_of_runs(conn, audit.name, CODE)
        pairs = equal_codes(conn, audit.name)
    newest = record.versions.get(CODE)
    others = {code: count for code, count in counts.items() if not are_equal(pairs, code, newest)}
    if not others:
        yield Finding("code", OK, f"{audit.name}: all runs are of one code, or of equivalent ones")
        return
    changed = {name for code in others for name in changed_code(code or "", newest or "")}
    unknown = others.pop(None, 0)
    parts = [f"{sum(others.values())} of {', '.join(sorted(changed))}"] if others else []
    parts += [f"{unknown} of code that was not recorded"] if unknown else []
    said = f"{audit.name}: runs of other code than its last launch's: {'; '.join(parts)}"
    remedy = "do not compare their scores with those of the others; search again under another name"
    yield Finding("code", WARN, said, remedy)


def examine_strangers(output_dir: Path, names: list[str]) -> Iterator[Finding]:
    """Find folders of studies that this database does not hold; another one may."""
    strangers = [
        path.name
        for path in _children(output_dir)
        if path.name not in names and (path / "config.json").is_file()
    ]
    if strangers:
        said = f"{output_dir} holds studies that this database does not ({listed(strangers)})"
        remedy = "name their database with database.url=..., or move the folders away"
        yield Finding("folders", WARN, said, remedy)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
