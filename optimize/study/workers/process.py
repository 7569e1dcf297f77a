"""What runs in a worker process: claim a trial, run it, and again, until there is none left."""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TextIO

from optimize.agents.devices import free_memory, limit_memory
from optimize.agents.threads import limit_threads
from optimize.database import local_folder
from optimize.errors import BadInputError, StaleRunError
from optimize.results.processes import Identity
from optimize.results.records import RETRIED
from optimize.results.runs import retried
from optimize.study.claims.caps import Claim, Verdict, claim
from optimize.study.claims.control import Watch
from optimize.study.claims.patience import Shortage, in_full, let_others_renew, passes, patiently, say
from optimize.study.claims.perform import StopRequestedError, perform
from optimize.study.claims.triage import SHORTAGES
from optimize.study.devices import Device, turn
from optimize.study.handle import Handle, open_study
from optimize.study.spec import StudySpec
from optimize.study.trial import Ground, lay_ground, target_horizon
from optimize.study.workers.signals import STOP_SIGNALS

WAIT_S = 0.5  # between looks at trials that others run
PRELOAD = [
    "optimize.study.workers.process",
    "optuna.storages",
    "alembic.command",  # a storage that is opened imports it
    "torch._dynamo",  # the first optimizer imports it: a second of every worker's time
    "matplotlib.backends.backend_agg",
    "optimize.study.workers.prepared",
]
EXIT_DONE, EXIT_FAILING, EXIT_LEFT, EXIT_SHORT = 0, 3, 4, 5
OUT, ERR = 1, 2  # file descriptors: a parent may have closed the streams of their names
LONGEST_TEMPORARY = 71  # bytes: sockets 32 longer lie in it, and 103 are allowed everywhere
Room = Callable[[Claim], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Seat:
    """Where a worker works, and the words in shared memory between it and its supervisor.

    Plain shared numbers without a lock: a worker killed while it holds a lock would stop all the others.
    """

    worker: int
    log: Path
    stop: Any  # 1 once the study is asked to stop
    since: Any  # monotonic time at which the trial started, 0 between two trials
    begun: Any  # trials that it started
    device: Device | None = None  # None: the CPU
    memory_fraction: float = 1.0  # of the device
    threads: int = 1
    supervisor: Identity | None = None  # None: its death is judged by nobody


def check_sockets() -> None:
    """Refuse a folder for temporary files that has no room in its name for the workers' sockets."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > LONGEST_TEMPORARY:
        raise BadInputError(
            f"TMPDIR={folder} is too long a path for the sockets of worker processes, at most "
            f"{LONGEST_TEMPORARY} bytes are allowed: set a shorter one, such as TMPDIR=/tmp"
        )


def work(spec: StudySpec, seat: Seat) -> None:
    """Claim and run trials until the cap is full, the study fails or a stop is asked for."""
    asked_to_leave = threading.Event()
    _answer_signals(asked_to_leave)
    _follow_parent()
    with patiently(lambda: _open_log(seat.log)) as stream:
        os.dup2(stream.fileno(), OUT)
        os.dup2(stream.fileno(), ERR)
        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
        logging.getLogger("optimize").setLevel(logging.INFO)
        limit_threads(seat.threads)
        if seat.device is not None:
            limit_memory(seat.memory_fraction)
        handle = patiently(lambda: open_study(spec))

        def stopping() -> bool:
            return bool(seat.stop.value) or asked_to_leave.is_set()

        def enter(claimed: Claim) -> AbstractContextManager[None]:
            return room(handle, claimed, seat, stopping)

        # Also after the trial: the error of one that failed held on to what it had on the device.
        rest = (lambda: None) if seat.device is None else free_memory
        try:
            code = run_claims(handle, seat.worker, stopping, enter, rest, seat.supervisor)
        except Exception as error:
            if not passes(error):
                raise
            say(in_full(error))  # the database was away, or the disk full, for too long: no trial's fault
            code = EXIT_SHORT
        sys.exit(EXIT_LEFT if asked_to_leave.is_set() and not seat.stop.value else code)


def _open_log(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", buffering=1)


def run_claims(
    handle: Handle,
    worker: int,
    stopping: Callable[[], bool],
    enter: Room = lambda _: nullcontext(),
    rest: Callable[[], None] = lambda: None,
    supervisor: Identity | None = None,
) -> int:
    """Run trials one after another in this process; return the exit code.

    `enter(claim)` is held while a claimed trial trains: its place on a device, the clock it is under; `rest`
    is called when nothing is left of a trial. A database that is away, or a disk that is full, is waited for.
    """
    lay = ground_source(handle)
    held = Watch(handle)  # paused or stopped from another terminal: claim says which
    away, short = Shortage(), Shortage()
    while not stopping():
        try:
            if away.since is not None:
                let_others_renew(handle.engine)
            claimed = claim(handle, worker, lay, supervisor)
        except Exception as error:
            if not passes(error) or away.lasts():
                raise
            away.wait(in_full(error), stopping)
            continue
        away.over()
        if claimed in (Verdict.FULL, Verdict.STOPPED):
            return EXIT_DONE
        if claimed in (Verdict.FAILING, Verdict.SYSTEMATIC):
            return EXIT_FAILING
        if isinstance(claimed, Claim):
            try:
                run = perform(handle, claimed, lambda: stopping() or held(), enter(claimed))
            except StopRequestedError:
                continue
            except StaleRunError as error:
                say(in_full(error))  # the trial has another run now
                continue
            finally:
                rest()
            if run.state == RETRIED and run.failure_kind in SHORTAGES:
                short.wait(str(run.failure_message), stopping)
            else:
                short.over()
        elif claimed is Verdict.SHORT:
            short.wait(claimed.value, stopping)
        else:
            time.sleep(WAIT_S)
    return EXIT_DONE


@contextmanager
def room(handle: Handle, claimed: Claim, seat: Seat, stopping: Callable[[], bool]) -> Iterator[None]:
    """Hold a trial's place on the device and let its clock run.

    A trial that ran out of memory before has the device to itself.
    """
    with ExitStack() as held:
        if seat.device is not None:
            held.enter_context(_place_on(seat.device, handle, claimed, seat, stopping))
        seat.begun.value += 1
        seat.since.value = time.monotonic()
        try:
            yield
        finally:
            seat.since.value = 0.0


@contextmanager
def _place_on(
    device: Device, handle: Handle, claimed: Claim, seat: Seat, stopping: Callable[[], bool]
) -> Iterator[None]:
    with handle.engine.connect() as conn:
        alone = "oom" in retried(conn, handle.spec.name, claimed.trial.number)

    def waiting() -> None:
        if stopping():
            raise StopRequestedError

    with turn(local_folder(handle.spec.database.url), device, alone=alone, waiting=waiting):
        if alone:
            limit_memory(1.0)
        try:
            yield
        finally:
            free_memory()
            if alone:
                limit_memory(seat.memory_fraction)


def ground_source(handle: Handle) -> Callable[[StudySpec], Ground]:
    """Return a function from a resolved spec to its ground, which remembers those of its process."""
    remembered: dict[str, Ground] = {}

    def lay(spec: StudySpec) -> Ground:
        measured = (spec.data, spec.session, spec.feature, spec.env, spec.cost, spec.window, spec.score)
        key = repr((measured, target_horizon(spec.agent)))
        if key not in remembered:
            remembered[key] = lay_ground(spec, handle.cache_dir)
        return remembered[key]

    return lay


def _answer_signals(asked_to_leave: threading.Event) -> None:
    """Leave the group of the supervisor, which answers Ctrl-C, and take SIGTERM as a wish to leave."""
    os.setpgid(0, 0)  # so that whatever a trainer starts can be ended with its worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_leave.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # blocked by the supervisor until here


def _follow_parent() -> None:
    """End this process and what it started as soon as its supervisor is gone: no orphan trains on."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def follow() -> None:
        wait([sentinel])
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, name="parent", daemon=True).start()
