"""The supervisor of one study: start, restart, limit and stop its worker processes."""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from types import FrameType

from optuna.exceptions import StorageInternalError

from optimize import clock
from optimize.database import DBAPIError
from optimize.errors import StudyStoppedError, WalkforgeError
from optimize.results import leases
from optimize.results.leases import Lease
from optimize.results.processes import identity, this_host
from optimize.results.states import RunState
from optimize.spawning import main_left_out
from optimize.study.context import StudyContext
from optimize.study.failures.stops import stop_message
from optimize.study.spec import StudySpec
from optimize.study.trials.claim import fail_claimed
from optimize.study.workers.gpus import (
    devices_of,
    least_used_device,
    memory_fraction,
    threads_of,
    usable_cores,
    worker_environment,
)
from optimize.study.workers.limits import LimitExceeded, Usage, exceeded_limit, is_stopped, resident_mb
from optimize.study.workers.process import (
    EXIT_DONE,
    EXIT_FAILING,
    EXIT_LEFT,
    EXIT_SHORT,
    PRELOAD,
    WorkerSlot,
    work,
)
from optimize.study.workers.restarts import count_finished, delay_s
from optimize.study.workers.signals import STOP_SIGNALS, StopRequests, signals_answered, signals_held
from optimize.walkforward.files import make_folder

POLL_S = 0.2
FORKSERVER_DIED = 255  # exit code that multiprocessing reports for children that still live
AWAY = (DBAPIError, StorageInternalError, WalkforgeError)  # the database, a lock or the trial is gone
USAGE_INTERVAL_S = 0.5  # interval at which the usage of workers is measured
ALONE_S = 1.0  # deaths within this time have a common cause, which is no trial's fault


@dataclass
class WorkerProcess:
    """A worker process and its latest usage."""

    child: ForkServerProcess | SpawnProcess
    slot: WorkerSlot
    resident_mb: float = 0.0
    stopped_s: float = 0.0

    @property
    def pid(self) -> int:
        """Return the id of the process, which is also the id of its process group."""
        return self.child.pid or 0

    @property
    def seconds(self) -> float | None:
        """Return the run time of its trial, None between two trials."""
        since = self.slot.since.value
        return time.monotonic() - since if since else None


@dataclass(frozen=True)
class Death:
    """A worker that died, and the time at which its death was noticed."""

    pid: int
    at: float  # monotonic time
    blamed: bool  # whether its trial may be the cause, if it died alone


@dataclass
class Supervisor:
    """Start, restart and stop the worker processes of one study; leave no orphan."""

    context: StudyContext
    target: Callable[[StudySpec, WorkerSlot], None] = work  # function that a worker process runs
    first: int = 0  # number of the first worker; on a cluster each supervisor has another one
    restarts: int = 0  # dead workers replaced since a trial finished
    processes: dict[int, WorkerProcess] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)  # time at which a dead worker is replaced
    deaths: list[Death] = field(default_factory=list)  # not yet attributed to a trial or to a common cause

    def __post_init__(self) -> None:
        self.devices = devices_of(self.context.spec)
        # A process that uses a GPU cannot be forked from one that may have initialized CUDA.
        self.starter: SpawnContext | ForkServerContext
        if self.devices:
            self.starter = multiprocessing.get_context("spawn")
        else:
            self.starter = multiprocessing.get_context("forkserver")
        self.stop = self.starter.RawValue("b", 0)
        self.stops = StopRequests(self._finish_windows)
        launch = f"{clock.now():%Y%m%dT%H%M%S}_{socket.gethostname()}_{os.getpid()}"
        self.logs = self.context.spec.folder / "logs" / launch
        self._identity = identity()
        self._finished = 0
        self._looked_at = time.monotonic()

    def run(self, show: Callable[[], None]) -> None:
        """Run workers until the study is at its cap; raise StudyStoppedError or KeyboardInterrupt."""
        make_folder(self.logs)  # without it each worker would die before its log exists
        if isinstance(self.starter, ForkServerContext):
            self.starter.set_forkserver_preload(PRELOAD)
        self._finished = count_finished(self.context, self._finished)
        stops = dict.fromkeys(STOP_SIGNALS, self.stops.answer)
        with signals_answered({**stops, signal.SIGTSTP: self._suspend}):
            try:
                for worker in range(self.context.spec.worker.count):
                    self._start(self.first + worker)
                while self.processes or self.due:
                    wait([process.child.sentinel for process in self.processes.values()], timeout=POLL_S)
                    self._collect()
                    self._count_losses()
                    self._replace()
                    self._enforce_limits()
                    show()
            finally:
                self._end_all()
                show()
        if self.stops.count:
            raise KeyboardInterrupt

    def running_processes(self) -> list[WorkerProcess]:
        """Return the workers that run now."""
        return list(self.processes.values())

    def _start(self, worker: int) -> None:
        spec = self.context.spec
        load = Counter(p.slot.device.index for p in self.processes.values() if p.slot.device is not None)
        slot = WorkerSlot(
            worker=worker,
            log=self.logs / f"worker_{worker}.log",
            stop=self.stop,
            since=self.starter.RawValue("d", 0.0),
            begun=self.starter.RawValue("L", 0),
            device=least_used_device(self.devices, load),
            memory_fraction=memory_fraction(spec.worker),
            threads=threads_of(spec.worker, usable_cores()),
            supervisor=self._identity,
        )
        child = self.starter.Process(target=self.target, args=(spec, slot), name=f"worker_{worker}")
        try:
            with worker_environment(slot.device, slot.threads), signals_held(), main_left_out():
                child.start()
                self.processes[worker] = WorkerProcess(child, slot)
        except (OSError, EOFError) as error:
            self._schedule_restart([worker], self._why_not_started(error))

    def _why_not_started(self, error: Exception) -> str:
        """Return why a worker could not start; without the forkserver's socket the next ones are spawned.

        A cleaner of temporary files may remove the socket. The next start replaces a dead forkserver.
        """
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            print(
                "the socket from which workers are started is gone (does something clear "
                f"{tempfile.gettempdir()}?): each new worker now takes seconds longer to start",
                file=sys.stderr,
            )
            self.starter = multiprocessing.get_context("spawn")
        return f"it could not be started: {str(error) or 'its forkserver died'}"

    def _collect(self) -> None:
        """Handle workers that ended: finished, stopped by failures, asked to leave, or dead."""
        dead: dict[int, int] = {}  # exit code by worker
        for worker, process in list(self.processes.items()):
            code = process.child.exitcode
            if code is None:
                continue
            _end_group(process)  # its children, or the worker itself if only its forkserver died
            del self.processes[worker]
            if code == EXIT_FAILING:
                raise StudyStoppedError(stop_message(self.context))
            if code == EXIT_LEFT:
                self.due[worker] = 0.0
            elif code != EXIT_DONE:
                dead[worker] = code
                blamed = code not in (FORKSERVER_DIED, EXIT_SHORT)
                self.deaths.append(Death(process.pid, time.monotonic(), blamed))
        if dead:
            self._schedule_restart(list(dead), f"exit code {next(iter(dead.values()))}")

    def _count_losses(self) -> None:
        """Return the trials of dead workers to the queue; count a loss only if one worker died alone."""
        if not self.deaths or time.monotonic() - self.deaths[0].at < ALONE_S:
            return
        judged, self.deaths = self.deaths, []
        counts = len(judged) == 1 and judged[0].blamed
        with contextlib.suppress(*AWAY):  # the leases expire and no loss is counted
            for lease in self._leases_of({death.pid for death in judged}):
                with self.context.engine.begin() as conn:
                    if counts:
                        leases.count_loss(conn, lease)
                    else:
                        leases.abandon(conn, lease, "its worker was lost")

    def _schedule_restart(self, dead: Sequence[int], why: str) -> None:
        """Schedule the restart of dead workers; raise after too many restarts without a finished trial.

        Workers that died together, such as with their forkserver, count as one.
        """
        finished = count_finished(self.context, self._finished)
        if finished > self._finished:
            self._finished, self.restarts = finished, 0
        self.restarts += 1
        if self.restarts > self.context.spec.worker.max_restarts and not self.stops.count:
            raise StudyStoppedError(
                f"worker.max_restarts={self.restarts - 1} dead workers were replaced and another died before "
                f"any trial finished ({why}): see {self.logs}"
            )
        if not self.stops.count:
            self.due |= dict.fromkeys(dead, time.monotonic() + delay_s(self.restarts))

    def _replace(self) -> None:
        if self.stops.count:
            self.due.clear()
        if self.deaths:  # attributed first, so that the new worker gets the trial of the dead one
            return
        for worker, due in list(self.due.items()):
            if time.monotonic() >= due:
                del self.due[worker]
                self._start(worker)

    def _enforce_limits(self) -> None:
        """Kill every worker that exceeds its limits."""
        now = time.monotonic()
        if now - self._looked_at < USAGE_INTERVAL_S:
            return
        # After a stop of the supervisor itself (Ctrl-Z) the elapsed time would be too long.
        elapsed_s, self._looked_at = min(now - self._looked_at, 2 * USAGE_INTERVAL_S), now
        resident = resident_mb({process.pid for process in self.processes.values()})
        for worker, process in list(self.processes.items()):
            since = process.slot.since.value
            process.resident_mb = resident[process.pid]
            process.stopped_s = process.stopped_s + elapsed_s if is_stopped(process.pid) else 0.0
            usage = Usage(now - since if since else None, process.resident_mb, process.stopped_s)
            found = exceeded_limit(self.context.spec.worker, usage)
            if found is not None:
                self._kill_over_limit(worker, process, since, found)

    def _kill_over_limit(
        self, worker: int, process: WorkerProcess, since: float, found: LimitExceeded
    ) -> None:
        """Kill a worker that exceeded a limit, fail its trial and schedule the restart."""
        _end_group(process)
        del self.processes[worker]
        self.due[worker] = 0.0
        told = f"worker {worker} (pid {process.pid}) is killed: {found.message}"
        # Between measurement and kill the worker may have started another trial, which must not fail.
        blame = found.kind if process.slot.since.value == since else None
        try:
            for lease in self._leases_of({process.pid}):
                if blame is None:
                    self._abandon(lease)
                    told += f"; trial {lease.trial_number} is given back"
                else:
                    run = fail_claimed(self.context, lease, blame, found.message)
                    what = (
                        "is tried once more"
                        if run.state == RunState.RETRIED
                        else "fails: this was its second try"
                    )
                    told += f"; trial {lease.trial_number} {what}"
        except AWAY as error:  # another worker takes the trial over once its lease expires
            told += f"; its trial could not be failed: {error}"
        print(told, file=sys.stderr)
        if not process.slot.begun.value and not process.stopped_s:
            raise StudyStoppedError(
                f"{found.message} before the first trial: set worker.max_memory_mb to "
                f"{1.5 * process.resident_mb:.0f} or more"
            )

    def _end_all(self) -> None:
        """Kill the running workers and return their trials to the queue without counting a loss."""
        for process in self.processes.values():
            _end_group(process)
        pids = {process.pid for process in self.processes.values()} | {death.pid for death in self.deaths}
        self.processes.clear()
        self.deaths.clear()
        self.due.clear()
        try:
            for lease in self._leases_of(pids):
                self._abandon(lease)
        except DBAPIError as error:  # the next launch finds them
            print(f"the trials could not be given back: {error}", file=sys.stderr)

    def _leases_of(self, pids: set[int]) -> list[Lease]:
        with self.context.engine.connect() as conn:
            active = leases.active(conn, self.context.spec.name)
        return [lease for lease in active if lease.pid in pids and lease.host == this_host()]

    def _abandon(self, lease: Lease) -> None:
        with self.context.engine.begin() as conn:
            leases.abandon(conn, lease)

    def _finish_windows(self) -> None:
        """Let each worker finish its running window and exit."""
        self.stop.value = 1

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Suspend the workers with this process (Ctrl-Z) and resume them with it; the time is not counted."""
        began = time.monotonic()
        for process in self.processes.values():
            _signal_group(process, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # returns once this process is continued
        stood_s = time.monotonic() - began
        for process in self.processes.values():
            if process.slot.since.value:
                process.slot.since.value += stood_s
            _signal_group(process, signal.SIGCONT)


def _signal_group(process: WorkerProcess, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _end_group(process: WorkerProcess) -> None:
    """Kill a worker and its process group, and wait for its end."""
    _signal_group(process, signal.SIGKILL)
    if process.child.exitcode in (None, FORKSERVER_DIED):  # it may not have a group yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    process.child.join()
