"""Join a study that was started elsewhere: with its spec, on its data, by its versions, into its folder."""

import time
from collections.abc import Callable, Iterator
from functools import partial

from rich.console import Console
from sqlalchemy import Engine

from optimize.database import open_engine
from optimize.errors import StudyStoppedError
from optimize.results.processes import host_name, this_host
from optimize.results.queries import studies_of
from optimize.results.records import SOURCE, EventRecord, StudyRecord, last_event, load_study, log_event
from optimize.search.space import parse_space
from optimize.study.admission import Here, refuse_data, refuse_versions, spec_here
from optimize.study.claims.control import refuse_stopped
from optimize.study.claims.telling import counts
from optimize.study.equivalence import settle_code
from optimize.study.grounds import lay_grounds
from optimize.study.handle import Handle, cap_of, open_study
from optimize.study.pages.figured import draw_figures
from optimize.study.place import find_folder
from optimize.study.spec import MODEL_PHASE, TIMEFRAME_PHASE
from optimize.study.workers.crew import supervise

POLL_S = 2.0
Say = Callable[[str], None]


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
        if here.same_versions:
            settle_code(handle, partial(console.print, markup=False, highlight=False), launch=False)
        place = f"{spec.worker.count} workers on {host_name(this_host())}"
        with handle.engine.begin() as conn:
            described = last_event(conn, [spec.name], [SOURCE])
            log_event(conn, EventRecord(spec.name, "joined", f"{place} joined", {"host": this_host()}))
        if described is not None:
            console.print(described.message, highlight=False, markup=False, soft_wrap=True)
        console.print(f"{spec.name}: {place} join", highlight=False)
        try:
            supervise(handle, console, len(base.windows))
        finally:
            draw_figures(handle, partial(console.print, highlight=False, markup=False, soft_wrap=True))
        if not _is_done(handle):
            refuse_stopped(handle)
            raise StudyStoppedError(
                f"the workers of study {spec.name!r} ended before its cap: see {spec.folder / 'logs'}"
            )
    finally:
        handle.close()


def _is_done(handle: Handle) -> bool:
    """Say whether a study is at its cap, which may have moved since this machine joined."""
    found = counts(handle.study)
    return found["COMPLETE"] + found["PRUNED"] >= cap_of(handle) and not found["RUNNING"]
