"""The supervisor: it owns the worker processes of one study, holds them to their limits, leaves no orphan."""

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
from sqlalchemy.exc import DBAPIError

from optimize import clock
from optimize.errors import StudyStoppedError, WalkforgeError
from optimize.results import leases
from optimize.results.leases import Lease
from optimize.results.processes import identity, this_host
from optimize.results.records import RETRIED
from optimize.study.claims.caps import fail_claimed
from optimize.study.claims.triage import why_stopped
from optimize.study.devices import (
    devices_of,
    environment_of,
    main_left_out,
    memory_fraction,
    place,
    threads_of,
    usable_cores,
)
from optimize.study.files import make_folder
from optimize.study.handle import Handle
from optimize.study.spec import StudySpec
from optimize.study.workers.limits import Breach, Sight, breach, is_stopped, resident_mb
from optimize.study.workers.process import (
    EXIT_DONE,
    EXIT_FAILING,
    EXIT_LEFT,
    EXIT_SHORT,
    PRELOAD,
    Seat,
    work,
)
from optimize.study.workers.restarts import count_finished, delay_s
from optimize.study.workers.signals import STOP_SIGNALS, signals_answered, signals_held

POLL_S = 0.2
FORKSERVER_DIED = 255  # what multiprocessing says of its children then, though they live
AWAY = (DBAPIError, StorageInternalError, WalkforgeError)  # the database is, or a lock, or the trial
LOOK_S = 0.5  # between two looks at what the workers use
ALONE_S = 1.0  # a worker died alone where no other one and not its supervisor died within so long


@dataclass
class Member:
    """A worker process and what was seen of it last."""

    process: ForkServerProcess | SpawnProcess
    seat: Seat
    resident_mb: float = 0.0
    stopped_s: float = 0.0

    @property
    def pid(self) -> int:
        """Return the id of the process, and of the group of what it starts."""
        return self.process.pid or 0

    @property
    def seconds(self) -> float | None:
        """Return how long its trial has run, None between two trials."""
        since = self.seat.since.value
        return time.monotonic() - since if since else None


@dataclass(frozen=True)
class Death:
    """A worker that died, and when that was seen."""

    pid: int
    at: float  # of the monotonic clock
    blamed: bool  # on its trial, where it died alone


@dataclass
class Supervisor:
    """Own the worker processes of one study: start, replace, stop in order, leave no orphan."""

    handle: Handle
    target: Callable[[StudySpec, Seat], None] = work  # what a worker process runs
    first: int = 0  # number of the first worker: on a cluster each machine has some of a study's
    restarts: int = 0  # dead workers replaced since a trial finished
    stops: int = 0  # how often a stop was asked for
    crew: dict[int, Member] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)  # when a dead worker is replaced
    deaths: list[Death] = field(default_factory=list)  # of which it is not decided yet what they mean

    def __post_init__(self) -> None:
        self.devices = devices_of(self.handle.spec)
        # A process that is to use a GPU cannot be forked from one that may have touched it.
        self.context: SpawnContext | ForkServerContext
        if self.devices:
            self.context = multiprocessing.get_context("spawn")
        else:
            self.context = multiprocessing.get_context("forkserver")
        self.stop = self.context.RawValue("b", 0)
        launch = f"{clock.now():%Y%m%dT%H%M%S}_{socket.gethostname()}_{os.getpid()}"
        self.logs = self.handle.spec.folder / "logs" / launch
        self._identity = identity()
        self._finished = 0
        self._looked_at = time.monotonic()

    def run(self, show: Callable[[], None]) -> None:
        """Run workers until the study is at its cap; raise StudyStoppedError or KeyboardInterrupt."""
        make_folder(self.logs)  # else each worker dies of it, and no log says why
        if isinstance(self.context, ForkServerContext):
            self.context.set_forkserver_preload(PRELOAD)
        self._finished = count_finished(self.handle, self._finished)
        stops = dict.fromkeys(STOP_SIGNALS, self._asked_to_stop)
        with signals_answered({**stops, signal.SIGTSTP: self._stand_still}):
            try:
                for worker in range(self.handle.spec.worker.count):
                    self._start(self.first + worker)
                while self.crew or self.due:
                    wait([member.process.sentinel for member in self.crew.values()], timeout=POLL_S)
                    self._collect()
                    self._judge_deaths()
                    self._replace()
                    self._watch()
                    show()
            finally:
                self._end_all()
                show()
        if self.stops:
            raise KeyboardInterrupt

    def members(self) -> list[Member]:
        """Return the workers that run now."""
        return list(self.crew.values())

    def _start(self, worker: int) -> None:
        spec = self.handle.spec
        load = Counter(m.seat.device.index for m in self.crew.values() if m.seat.device is not None)
        seat = Seat(
            worker=worker,
            log=self.logs / f"worker_{worker}.log",
            stop=self.stop,
            since=self.context.RawValue("d", 0.0),
            begun=self.context.RawValue("L", 0),
            device=place(self.devices, load),
            memory_fraction=memory_fraction(spec.worker),
            threads=threads_of(spec.worker, usable_cores()),
            supervisor=self._identity,
        )
        process = self.context.Process(target=self.target, args=(spec, seat), name=f"worker_{worker}")
        try:
            with environment_of(seat.device, seat.threads), signals_held(), main_left_out():
                process.start()
                self.crew[worker] = Member(process, seat)
        except (OSError, EOFError) as error:
            self._bury([worker], self._why_not_started(error))

    def _why_not_started(self, error: Exception) -> str:
        """Say why a worker could not be started; without the forkserver's socket the next ones are spawned.

        A cleaner of temporary files may remove the socket. A dead forkserver is replaced by the next start.
        """
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            print(
                "the socket from which workers are started is gone (does something clear "
                f"{tempfile.gettempdir()}?): each new worker now takes seconds longer to start",
                file=sys.stderr,
            )
            self.context = multiprocessing.get_context("spawn")
        return f"it could not be started: {str(error) or 'its forkserver died'}"

    def _collect(self) -> None:
        """Look after workers that ended: done, failing, asked to leave, or dead."""
        dead: dict[int, int] = {}  # their exit codes
        for worker, member in list(self.crew.items()):
            code = member.process.exitcode
            if code is None:
                continue
            _end_group(member)  # what it left behind; itself, where only its forkserver died
            del self.crew[worker]
            if code == EXIT_FAILING:
                raise StudyStoppedError(why_stopped(self.handle))
            if code == EXIT_LEFT:
                self.due[worker] = 0.0
            elif code != EXIT_DONE:
                dead[worker] = code
                blamed = code not in (FORKSERVER_DIED, EXIT_SHORT)
                self.deaths.append(Death(member.pid, time.monotonic(), blamed))
        if dead:
            self._bury(list(dead), f"exit code {next(iter(dead.values()))}")

    def _judge_deaths(self) -> None:
        """Give the trials of dead workers back; it counts as a loss where one worker alone died of itself."""
        if not self.deaths or time.monotonic() - self.deaths[0].at < ALONE_S:
            return
        judged, self.deaths = self.deaths, []
        counts = len(judged) == 1 and judged[0].blamed
        with contextlib.suppress(*AWAY):  # the leases expire, and nothing counts
            for lease in self._leases_of({death.pid for death in judged}):
                with self.handle.engine.begin() as conn:
                    if counts:
                        leases.count_loss(conn, lease)
                    else:
                        leases.abandon(conn, lease, "its worker was lost")

    def _bury(self, dead: Sequence[int], why: str) -> None:
        """Have dead workers replaced, later each time, unless too many died and no trial finished.

        Those that died together had one cause, such as the death of their forkserver, and count as one.
        """
        finished = count_finished(self.handle, self._finished)
        if finished > self._finished:
            self._finished, self.restarts = finished, 0
        self.restarts += 1
        if self.restarts > self.handle.spec.worker.max_restarts and not self.stops:
            raise StudyStoppedError(
                f"worker.max_restarts={self.restarts - 1} dead workers were replaced and another died before "
                f"any trial finished ({why}): see {self.logs}"
            )
        if not self.stops:
            self.due |= dict.fromkeys(dead, time.monotonic() + delay_s(self.restarts))

    def _replace(self) -> None:
        if self.stops:
            self.due.clear()
        if self.deaths:  # judged first, so that the next worker takes up the trial of the dead one
            return
        for worker, due in list(self.due.items()):
            if time.monotonic() >= due:
                del self.due[worker]
                self._start(worker)

    def _watch(self) -> None:
        """Hold every worker to its limits."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        # A supervisor that was itself stopped (Ctrl-Z) has not seen the workers stand still for so long.
        elapsed_s, self._looked_at = min(now - self._looked_at, 2 * LOOK_S), now
        resident = resident_mb({member.pid for member in self.crew.values()})
        for worker, member in list(self.crew.items()):
            since = member.seat.since.value
            member.resident_mb = resident[member.pid]
            member.stopped_s = member.stopped_s + elapsed_s if is_stopped(member.pid) else 0.0
            sight = Sight(now - since if since else None, member.resident_mb, member.stopped_s)
            found = breach(self.handle.spec.worker, sight)
            if found is not None:
                self._punish(worker, member, since, found)

    def _punish(self, worker: int, member: Member, since: float, found: Breach) -> None:
        """Kill a worker for what its trial does, fail that trial, and have the worker replaced."""
        _end_group(member)
        del self.crew[worker]
        self.due[worker] = 0.0
        told = f"worker {worker} (pid {member.pid}) is killed: {found.message}"
        # Between the look and the kill it may have gone on to another trial, which is not to blame.
        blame = found.kind if member.seat.since.value == since else None
        try:
            for lease in self._leases_of({member.pid}):
                if blame is None:
                    self._abandon(lease)
                    told += f"; trial {lease.trial_number} is given back"
                else:
                    run = fail_claimed(self.handle, lease, blame, found.message)
                    what = "is tried once more" if run.state == RETRIED else "fails: this was its second try"
                    told += f"; trial {lease.trial_number} {what}"
        except AWAY as error:  # the trial is, or was, taken over as a lost one
            told += f"; its trial could not be failed: {error}"
        print(told, file=sys.stderr)
        if not member.seat.begun.value and not member.stopped_s:
            raise StudyStoppedError(
                f"{found.message} before the first trial: set worker.max_memory_mb to "
                f"{1.5 * member.resident_mb:.0f} or more"
            )

    def _end_all(self) -> None:
        """Kill what still runs and give its trials back at no loss: it was we who ended them."""
        for member in self.crew.values():
            _end_group(member)
        pids = {member.pid for member in self.crew.values()} | {death.pid for death in self.deaths}
        self.crew.clear()
        self.deaths.clear()
        self.due.clear()
        try:
            for lease in self._leases_of(pids):
                self._abandon(lease)
        except DBAPIError as error:  # they are found lost at the next launch
            print(f"the trials could not be given back: {error}", file=sys.stderr)

    def _leases_of(self, pids: set[int]) -> list[Lease]:
        with self.handle.engine.connect() as conn:
            active = leases.active(conn, self.handle.spec.name)
        return [lease for lease in active if lease.pid in pids and lease.host == this_host()]

    def _abandon(self, lease: Lease) -> None:
        with self.handle.engine.begin() as conn:
            leases.abandon(conn, lease)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        """First Ctrl-C, SIGTERM or SIGHUP: finish the running windows; second: stop at once.

        A terminal that closes sends SIGHUP more than once, which is one wish.
        """
        if number == signal.SIGHUP and self.stops:
            return
        self.stops += 1
        self.stop.value = 1
        if self.stops == 2:  # a third must not disturb the clearing up
            raise KeyboardInterrupt
        if self.stops == 1:
            words = "the running windows are finished first; Ctrl-C again stops at once"
            print(f"\nstopping: {words}", file=sys.stderr)

    def _stand_still(self, number: int, frame: FrameType | None) -> None:
        """Stop the workers with this process (Ctrl-Z) and let them go on with it; no clock runs meanwhile."""
        began = time.monotonic()
        for member in self.crew.values():
            _signal_group(member, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # returns once this process is continued
        stood_s = time.monotonic() - began
        for member in self.crew.values():
            if member.seat.since.value:
                member.seat.since.value += stood_s
            _signal_group(member, signal.SIGCONT)


def _signal_group(member: Member, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(member.pid, number)


def _end_group(member: Member) -> None:
    """Kill a worker and whatever it started, and wait for its end."""
    _signal_group(member, signal.SIGKILL)
    if member.process.exitcode in (None, FORKSERVER_DIED):  # it may have no group yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGKILL)
    member.process.join()
