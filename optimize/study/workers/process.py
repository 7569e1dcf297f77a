"""The worker process: claim and run trials until none is left."""

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
from optimize.extensions import load_extensions
from optimize.results.processes import Identity
from optimize.results.runs import retried
from optimize.results.states import FailureKind, RunState
from optimize.study.context import StudyContext, open_study
from optimize.study.control import NoTrial, StateReader
from optimize.study.failures.classify import SHORTAGES
from optimize.study.failures.shortages import (
    Shortage,
    in_full,
    let_others_renew,
    passes,
    patiently,
    write_log,
)
from optimize.study.spec import StudySpec
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import StopRequestedError, perform
from optimize.study.workers.gpus import Device, device_share
from optimize.study.workers.signals import STOP_SIGNALS
from optimize.walkforward.markets import WindowedMarket, shared_market

WAIT_S = 0.5  # polling interval while the last trials run in other workers
PRELOAD = ["optimize.study.workers.preload"]
EXIT_DONE, EXIT_FAILING, EXIT_LEFT, EXIT_SHORT = 0, 3, 4, 5
OUT, ERR = 1, 2  # file descriptors: a parent may have closed sys.stdout and sys.stderr
LONGEST_TEMPORARY = 71  # bytes: a socket's path is 32 longer, and 103 are allowed on every system
TrialContext = Callable[[Claim], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class WorkerSlot:
    """Worker slot: device, limits, and lock-free counters shared with the supervisor.

    The counters have no lock: a worker killed while it holds a lock would block all the others.
    """

    worker: int
    log: Path
    stop: Any  # 1 after a request to stop the study
    since: Any  # monotonic time at which the trial started, 0 between two trials
    begun: Any  # number of trials started
    device: Device | None = None  # None: the CPU
    memory_fraction: float = 1.0  # of the device
    threads: int = 1
    supervisor: Identity | None = None  # None: no supervisor handles its death


def check_sockets() -> None:
    """Refuse a folder for temporary files whose path is too long for the sockets of workers."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > LONGEST_TEMPORARY:
        raise BadInputError(
            f"TMPDIR={folder} is too long a path for the sockets of worker processes, at most "
            f"{LONGEST_TEMPORARY} bytes are allowed: set a shorter one, such as TMPDIR=/tmp"
        )


def work(spec: StudySpec, slot: WorkerSlot) -> None:
    """Claim and run trials until the cap is full, the study fails or a stop is requested."""
    with worker_process(spec, slot) as (stopping, asked_to_leave):
        context = patiently(lambda: open_study(spec))

        def enter(claimed: Claim) -> AbstractContextManager[None]:
            return trial_context(context, claimed, slot, stopping)

        # Also after the trial: the traceback of a failed trial keeps its tensors on the device until then.
        rest = (lambda: None) if slot.device is None else free_memory
        try:
            code = run_claims(context, slot.worker, stopping, enter, rest, slot.supervisor)
        except Exception as error:
            if not passes(error):
                raise
            write_log(in_full(error))  # database unreachable or disk full for too long: no trial fails
            code = EXIT_SHORT
        sys.exit(exit_code(code, slot, asked_to_leave))


@contextmanager
def worker_process(spec: StudySpec, slot: WorkerSlot) -> Iterator[tuple[Callable[[], bool], threading.Event]]:
    """Set up this process as a worker: signals, log, threads, device and extensions.

    Yields the function that returns whether to stop, and the event of a request to this worker alone.
    """
    asked_to_leave = threading.Event()
    _answer_signals(asked_to_leave)
    _follow_parent()
    with patiently(lambda: _open_log(slot.log)) as stream:
        os.dup2(stream.fileno(), OUT)
        os.dup2(stream.fileno(), ERR)
        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
        logging.getLogger("optimize").setLevel(logging.INFO)
        limit_threads(slot.threads)
        if slot.device is not None:
            limit_memory(slot.memory_fraction)
        load_extensions(spec.extensions)
        yield lambda: bool(slot.stop.value) or asked_to_leave.is_set(), asked_to_leave


def exit_code(code: int, slot: WorkerSlot, asked_to_leave: threading.Event) -> int:
    """Return the exit code of a worker, which is another one where it alone was asked to leave."""
    return EXIT_LEFT if asked_to_leave.is_set() and not slot.stop.value else code


def _open_log(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", buffering=1)


def run_claims(
    context: StudyContext,
    worker: int,
    stopping: Callable[[], bool],
    enter: TrialContext = lambda _: nullcontext(),
    rest: Callable[[], None] = lambda: None,
    supervisor: Identity | None = None,
) -> int:
    """Run trials one after another in this process; return the exit code.

    `enter(claim)` is the context in which a claimed trial trains: its share of a device and its clock. `rest`
    is called after each trial. An unreachable database and a full disk are waited for.
    """
    lay = market_builder(context)
    halted = StateReader(context)  # true once the study is paused or stopped; `claim` returns the reason
    away, short = Shortage(), Shortage()
    while not stopping():
        try:
            if away.since is not None:
                let_others_renew(context.engine)
            claimed = claim(context, worker, lay, supervisor)
        except Exception as error:
            if not passes(error) or away.lasts():
                raise
            away.wait(in_full(error), stopping)
            continue
        away.over()
        if claimed in (NoTrial.FULL, NoTrial.STOPPED):
            return EXIT_DONE
        if claimed in (NoTrial.FAILING, NoTrial.SYSTEMATIC):
            return EXIT_FAILING
        if isinstance(claimed, Claim):
            try:
                run = perform(context, claimed, lambda: stopping() or halted(), enter(claimed))
            except StopRequestedError:
                continue
            except StaleRunError as error:
                write_log(in_full(error))  # the trial has a newer run
                continue
            finally:
                rest()
            if run.state == RunState.RETRIED and run.failure_kind in SHORTAGES:
                short.wait(str(run.failure_message), stopping)
            else:
                short.over()
        elif claimed is NoTrial.SHORT:
            short.wait(claimed.value, stopping)
        else:
            time.sleep(WAIT_S)
    return EXIT_DONE


@contextmanager
def trial_context(
    context: StudyContext, claimed: Claim, slot: WorkerSlot, stopping: Callable[[], bool]
) -> Iterator[None]:
    """Hold a trial's share of the device and run its clock.

    A trial that ran out of memory before has the device to itself.
    """
    with ExitStack() as held:
        if slot.device is not None:
            held.enter_context(_share_of(slot.device, context, claimed, slot, stopping))
        slot.begun.value += 1
        slot.since.value = time.monotonic()
        try:
            yield
        finally:
            slot.since.value = 0.0


@contextmanager
def _share_of(
    device: Device, context: StudyContext, claimed: Claim, slot: WorkerSlot, stopping: Callable[[], bool]
) -> Iterator[None]:
    with context.engine.connect() as conn:
        alone = FailureKind.OUT_OF_MEMORY in retried(conn, context.spec.name, claimed.trial.number)

    def waiting() -> None:
        if stopping():
            raise StopRequestedError

    with device_share(local_folder(context.spec.database.url), device, alone=alone, waiting=waiting):
        if alone:
            limit_memory(1.0)
        try:
            yield
        finally:
            free_memory()
            if alone:
                limit_memory(slot.memory_fraction)


def market_builder(context: StudyContext) -> Callable[[StudySpec], WindowedMarket]:
    """Return a function that builds the market and windows of a resolved spec once in this process."""
    markets: dict[str, WindowedMarket] = {}
    return lambda spec: shared_market(spec, markets, context.cache_dir)


def _answer_signals(asked_to_leave: threading.Event) -> None:
    """Leave the supervisor's process group, ignore Ctrl-C, and finish the window and exit on SIGTERM."""
    os.setpgid(0, 0)  # so that processes started by a trainer are killed with the worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_leave.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # blocked by the supervisor at the start


def _follow_parent() -> None:
    """Kill this process group as soon as the supervisor is gone, so that no orphan trains on."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def follow() -> None:
        wait([sentinel])
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, name="parent", daemon=True).start()
