"""Worker processes from a warm forkserver, and the supervisor that owns them."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Event
from types import FrameType

import psutil

from optimize.agents.threads import limit_threads
from optimize.errors import StaleRunError, StudyStoppedError
from optimize.results import leases
from optimize.study.caps import Claim, Verdict, claim
from optimize.study.handle import Handle, open_study
from optimize.study.perform import StopRequestedError, perform
from optimize.study.spec import StudySpec
from optimize.study.trial import Ground, lay_ground

POLL_S = 0.2
WAIT_S = 0.5  # between looks at trials that others run
PRELOAD = ["optimize.study.workers", "optuna.storages", "matplotlib.backends.backend_agg"]
EXIT_DONE, EXIT_FAILING, EXIT_ORPHANED = 0, 3, 4
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def work(spec: StudySpec, worker: int, stop: Event) -> None:
    """Claim and run trials until the cap is full, the study fails or a stop is asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor answers it
    _follow_parent()
    log = spec.folder / "logs" / f"worker_{worker}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", buffering=1) as stream:
        os.dup2(stream.fileno(), sys.stdout.fileno())
        os.dup2(stream.fileno(), sys.stderr.fileno())
        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
        logging.getLogger("optimize").setLevel(logging.INFO)
        limit_threads(1)
        sys.exit(run_claims(open_study(spec), worker, stop.is_set))


def run_claims(handle: Handle, worker: int, stopping: Callable[[], bool]) -> int:
    """Run trials one after another in this process; return the exit code."""
    lay = ground_source(handle)
    while not stopping():
        claimed = claim(handle, worker, lay)
        if claimed is Verdict.FULL:
            return EXIT_DONE
        if claimed is Verdict.FAILING:
            return EXIT_FAILING
        if isinstance(claimed, Claim):
            try:
                perform(handle, claimed, stopping)
            except StopRequestedError:
                return EXIT_DONE
            except StaleRunError:
                traceback.print_exc()  # into the worker's log: the trial has another run now
        else:
            time.sleep(WAIT_S)
    return EXIT_DONE


def ground_source(handle: Handle) -> Callable[[StudySpec], Ground]:
    """Return a function from a resolved spec to its ground, which remembers the last few."""
    remembered: dict[tuple[str, int, int], Ground] = {}

    def lay(spec: StudySpec) -> Ground:
        steps = int(spec.agent.hyperparameters.get("n_steps", 1))
        key = (spec.data.timeframe, spec.feature.lookback, steps)
        if key not in remembered:
            remembered[key] = lay_ground(spec, handle.cache_dir)
        return remembered[key]

    return lay


def _follow_parent() -> None:
    """End this process as soon as its supervisor is gone, so that no orphan trains on."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def follow() -> None:
        wait([sentinel])
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=follow, name="parent", daemon=True).start()


@dataclass
class Supervisor:
    """Own the worker processes of one study: start, replace, stop in order, leave no orphan."""

    handle: Handle
    context: ForkServerContext = field(default_factory=lambda: multiprocessing.get_context("forkserver"))
    restarts: int = 0
    stops: int = 0  # how often a stop was asked for

    def __post_init__(self) -> None:
        self.stop: Event = self.context.Event()
        self.processes: dict[int, ForkServerProcess] = {}

    def run(self, show: Callable[[], None]) -> None:
        """Run workers until the study is at its cap; raise StudyStoppedError or KeyboardInterrupt."""
        spec = self.handle.spec
        for variable in THREAD_VARIABLES:  # before the forkserver imports numpy and torch
            os.environ[variable] = "1"
        self.context.set_forkserver_preload(PRELOAD)
        with self._signals():
            try:
                for worker in range(spec.worker.count):
                    self._start(worker)
                while self.processes:
                    wait([process.sentinel for process in self.processes.values()], timeout=POLL_S)
                    self._collect()
                    show()
            finally:
                self._end_all()
                show()
        if self.stops:
            raise KeyboardInterrupt

    def _start(self, worker: int) -> None:
        process = self.context.Process(
            target=work, args=(self.handle.spec, worker, self.stop), name=f"worker_{worker}"
        )
        process.start()
        self.processes[worker] = process

    def _collect(self) -> None:
        """Look after workers that ended: done, failing, or dead and to be replaced."""
        for worker, process in list(self.processes.items()):
            if process.exitcode is None:
                continue
            process.join()
            del self.processes[worker]
            if process.exitcode == EXIT_FAILING:
                raise StudyStoppedError(self._failing())
            if process.exitcode == EXIT_DONE or self.stops:
                continue
            self.restarts += 1
            if self.restarts > self.handle.spec.worker.max_restarts:
                raise StudyStoppedError(
                    f"worker.max_restarts={self.restarts - 1} dead workers were replaced and another died "
                    f"(exit code {process.exitcode}): see {self.handle.spec.folder / 'logs'}"
                )
            self._start(worker)

    def _failing(self) -> str:
        spec = self.handle.spec
        return (
            f"study {spec.name!r} stopped itself: max_failures={spec.max_failures} trials failed; see "
            f"`walkforge query sql=failures name={spec.name}`, mend the cause, then launch it again with a "
            "higher max_failures"
        )

    def _end_all(self) -> None:
        """Kill what still runs and give its trials back at no loss: it was we who ended them."""
        for process in self.processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(process.pid).kill()
            process.join()
        pids = {process.pid for process in self.processes.values()}
        with self.handle.engine.begin() as conn:
            for lease in leases.active(conn, self.handle.spec.name):
                if lease.pid in pids:
                    leases.abandon(conn, lease)
        self.processes.clear()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """First Ctrl-C or SIGTERM: finish the running windows; second: stop at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self._asked_to_stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1
        self.stop.set()
        if self.stops > 1:
            raise KeyboardInterrupt
        print(
            "\nstopping: the running windows are finished first; Ctrl-C again stops at once", file=sys.stderr
        )
