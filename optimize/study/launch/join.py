"""Join a study that was launched elsewhere, with its spec, data, package versions and folder."""

import time
from collections.abc import Callable, Iterator
from functools import partial

from rich.console import Console

from optimize.database import Engine, open_engine
from optimize.errors import StudyStoppedError
from optimize.results.event_log import last_event, log_event
from optimize.results.events import SourceDescribed, WorkersJoined
from optimize.results.processes import host_name, this_host
from optimize.results.queries import studies_of
from optimize.results.records import StudyRecord, load_study
from optimize.results.states import RunState
from optimize.search.space import parse_space
from optimize.search.spec import MODEL_PHASE, TIMEFRAME_PHASE
from optimize.study.context import StudyContext, cap_of, open_study
from optimize.study.control import refuse_stopped
from optimize.study.dashboard.attach_missing import attach_figures
from optimize.study.launch.code_equivalence import check_code
from optimize.study.launch.markets import build_markets
from optimize.study.launch.supervise import supervise
from optimize.study.shared_folder import find_folder
from optimize.study.trials.tell import counts
from optimize.study.workers.machine_compatibility import (
    MachineSettings,
    refuse_data,
    refuse_versions,
    spec_on_machine,
)

READY_POLL_S = 2.0


def join_study(name: str, machine: MachineSettings, console: Console) -> str:
    """Work on a study, phase by phase, until its cap; return the closing line.

    Raises BadInputError where this machine would compute other results, StoppedByActionError after a stop.
    """
    engine = open_engine(machine.database.url, read_only=True, busy_timeout_s=machine.database.busy_timeout_s)

    def echo(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    try:
        for record, output_dir in _phases(engine, name, machine, echo):
            _work(record, output_dir, machine, console)
        return f"study {name} is at its cap"
    finally:
        engine.dispose()


def _phases(
    engine: Engine, name: str, machine: MachineSettings, echo: Callable[[str], None]
) -> Iterator[tuple[StudyRecord, str]]:
    """Yield each phase of a study as soon as it is ready for workers."""
    names = studies_of(engine, name)
    record = None
    for study in names:
        record, output_dir = _ready(engine, study, machine, echo)
        yield record, output_dir
    both = record is not None and record.spec.get("phase", {}).get("kind") == "two"
    if both and names[-1].endswith(f".{TIMEFRAME_PHASE}"):
        study = names[-1].removesuffix(TIMEFRAME_PHASE) + MODEL_PHASE
        yield _ready(engine, study, machine, echo)


def _ready(
    engine: Engine, study: str, machine: MachineSettings, echo: Callable[[str], None]
) -> tuple[StudyRecord, str]:
    """Wait until the launching machine has checked the study and created its folder."""
    deadline, told = time.monotonic() + machine.wait_s, False
    while True:
        with engine.connect() as conn:
            record = load_study(conn, study)
            output_dir = None
            if record is not None:
                output_dir = find_folder(conn, study, machine.output_dir, record.spec["output_dir"])
        if record is not None and output_dir is not None:
            return record, output_dir
        if time.monotonic() >= deadline:
            raise StudyStoppedError(
                f"study {study!r} was not ready for workers within wait_s={machine.wait_s:g} seconds: launch "
                "it with `walkforge study`, which checks it first, then join again"
            )
        if not told:
            echo(f"{study} is not ready for workers yet: waiting for the machine that launches it")
            told = True
        time.sleep(READY_POLL_S)


def _work(record: StudyRecord, output_dir: str, machine: MachineSettings, console: Console) -> None:
    """Run the workers of this machine until the study is at its cap."""
    spec = spec_on_machine(record, output_dir, machine)
    refuse_versions(record, machine)
    markets = build_markets(spec, parse_space(spec.space))
    base = next(iter(markets.values()))
    refuse_data(record, base)
    context = open_study(spec)
    try:
        if _is_done(context):
            return
        refuse_stopped(context)
        if machine.same_versions:
            check_code(context, partial(console.print, markup=False, highlight=False), launch=False)
        place = f"{spec.worker.count} workers on {host_name(this_host())}"
        with context.engine.begin() as conn:
            described = last_event(conn, [spec.name], [SourceDescribed])
            log_event(conn, spec.name, f"{place} joined", WorkersJoined(this_host()))
        if described is not None:
            console.print(described.message, highlight=False, markup=False, soft_wrap=True)
        console.print(f"{spec.name}: {place} join", highlight=False)
        try:
            supervise(context, console, len(base.windows))
        finally:
            attach_figures(context, partial(console.print, highlight=False, markup=False, soft_wrap=True))
        if not _is_done(context):
            refuse_stopped(context)
            raise StudyStoppedError(
                f"the workers of study {spec.name!r} ended before its cap: see {spec.folder / 'logs'}"
            )
    finally:
        context.close()


def _is_done(context: StudyContext) -> bool:
    """Return whether a study is at its cap, which may have changed since this machine joined."""
    found = counts(context.study)
    return (
        found[RunState.COMPLETE] + found[RunState.PRUNED] >= cap_of(context) and not found[RunState.RUNNING]
    )
