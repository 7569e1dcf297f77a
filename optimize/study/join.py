"""Join a study that was started elsewhere: with its spec, on its data, by its versions, into its folder."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from sqlalchemy import Engine

from optimize.database import DatabaseSpec, open_engine
from optimize.errors import BadInputError, StudyStoppedError
from optimize.results.leases import host_name, this_host
from optimize.results.queries import studies_of
from optimize.results.records import EventRecord, StudyRecord, load_study, log_event
from optimize.search.space import parse_space
from optimize.study.control import refuse_stopped
from optimize.study.handle import Handle, changeable, open_study
from optimize.study.place import find_folder
from optimize.study.runner import lay_grounds, supervise
from optimize.study.spec import MODEL_PHASE, TIMEFRAME_PHASE, StudySpec, WorkerSpec, from_plain
from optimize.study.telling import counts
from optimize.study.trial import Ground
from optimize.study.versions import package_differences, versions

POLL_S = 2.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Here:
    """What may differ from machine to machine."""

    database: DatabaseSpec
    worker: WorkerSpec = field(default_factory=WorkerSpec)
    output_dir: str | None = None  # None: where the launch had it
    data_path: str | None = None  # None: as stored
    data_folder: str | None = None
    same_versions: bool = True
    wait_s: float = 600.0  # for a study, or its next phase, to be ready


def join_study(name: str, here: Here, console: Console) -> str:
    """Work on a study, phase by phase, until its cap; return what there is to say.

    Raises BadInputError where this machine would not measure the same, StoppedByActionError after a stop.
    """
    engine = open_engine(here.database.url, read_only=True, busy_timeout_s=here.database.busy_timeout_s)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    try:
        for record, output_dir in _phases(engine, name, here, say):
            _work(record, output_dir, here, console)
        return f"study {name} is at its cap"
    finally:
        engine.dispose()


def _phases(engine: Engine, name: str, here: Here, say: Say) -> Iterator[tuple[StudyRecord, str]]:
    """Yield the phases of a study, each once it is ready."""
    names = studies_of(engine, name)
    record = None
    for study in names:
        record, output_dir = _ready(engine, study, here, say)
        yield record, output_dir
    both = record is not None and record.spec.get("phase", {}).get("kind") == "two"
    if both and names[-1].endswith(f".{TIMEFRAME_PHASE}"):
        study = names[-1].removesuffix(TIMEFRAME_PHASE) + MODEL_PHASE
        yield _ready(engine, study, here, say)


def _ready(engine: Engine, study: str, here: Here, say: Say) -> tuple[StudyRecord, str]:
    """Wait until the machine that launches a study has checked it and made its folder."""
    deadline, told = time.monotonic() + here.wait_s, False
    while True:
        with engine.connect() as conn:
            record = load_study(conn, study)
            output_dir = None
            if record is not None:
                output_dir = find_folder(conn, study, here.output_dir, record.spec["output_dir"])
        if record is not None and output_dir is not None:
            return record, output_dir
        if time.monotonic() >= deadline:
            raise StudyStoppedError(
                f"study {study!r} was not ready for workers within wait_s={here.wait_s:g} seconds: launch it "
                "with `walkforge study`, which checks it first, then join again"
            )
        if not told:
            say(f"{study} is not ready for workers yet: waiting for the machine that launches it")
            told = True
        time.sleep(POLL_S)


def _work(record: StudyRecord, output_dir: str, here: Here, console: Console) -> None:
    """Run the workers of this machine until the study is at its cap."""
    spec = spec_here(record, output_dir, here)
    refuse_versions(record, here)
    grounds = lay_grounds(spec, parse_space(spec.space))
    base = next(iter(grounds.values()))
    refuse_data(record, base)
    handle = open_study(spec)
    try:
        if _is_done(handle):
            return
        refuse_stopped(handle)
        place = f"{spec.worker.count} workers on {host_name(this_host())}"
        with handle.engine.begin() as conn:
            log_event(conn, EventRecord(spec.name, "joined", f"{place} joined", {"host": this_host()}))
        console.print(f"{spec.name}: {place} join", highlight=False)
        supervise(handle, console, len(base.windows))
        if not _is_done(handle):
            refuse_stopped(handle)
            raise StudyStoppedError(
                f"the workers of study {spec.name!r} ended before its cap: see {spec.folder / 'logs'}"
            )
    finally:
        handle.close()


def spec_here(record: StudyRecord, output_dir: str, here: Here) -> StudySpec:
    """Return the stored spec with the places and the worker of this machine."""
    stored = from_plain(StudySpec, dict(record.spec))
    own = {
        part.name: getattr(stored.worker, part.name)
        for part in dataclasses.fields(WorkerSpec)
        if not changeable(f"worker.{part.name}")
    }
    path, folder = here.data_path or stored.data.path, here.data_folder or stored.data.folder
    return dataclasses.replace(
        stored,
        name=record.study_name,
        n_trials=record.n_trials,
        output_dir=output_dir,
        data=dataclasses.replace(stored.data, path=path, folder=folder),
        database=here.database,
        worker=dataclasses.replace(here.worker, **own),
    )


def refuse_versions(record: StudyRecord, here: Here) -> None:
    """Refuse packages that may compute other numbers than those of the study's machine."""
    found = package_differences(record.versions, versions())
    if found and here.same_versions:
        raise BadInputError(
            f"study {record.study_name!r} was started with other packages ({'; '.join(found)}): install the "
            "same, or add versions=ignore where they make no difference"
        )


def refuse_data(record: StudyRecord, base: Ground) -> None:
    """Refuse data that is not what the study was started on."""
    fingerprint = base.market.fingerprint
    if fingerprint != record.data_fingerprint:
        raise BadInputError(
            f"study {record.study_name!r} was started on other data (fingerprint "
            f"{record.data_fingerprint[:12]} there, {fingerprint[:12]} here): copy the data of the machine "
            "that started it, and say with data.path=... where it lies here"
        )


def _is_done(handle: Handle) -> bool:
    """Say whether a study is at its cap, which may have moved since this machine joined."""
    with handle.engine.connect() as conn:
        record = load_study(conn, handle.spec.name)
    found = counts(handle.study)
    cap = handle.spec.n_trials if record is None else record.n_trials
    return found["COMPLETE"] + found["PRUNED"] >= cap and not found["RUNNING"]
