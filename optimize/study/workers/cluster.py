"""`worker=ray`: the workers of a study as tasks of a Ray cluster. Ray is imported here and in `nodes` alone.

Each task is a supervisor with one worker process on the node that Ray chose, so that a trial is held to the
same limits as on this machine. Trials, leases and the cap are the database's, which every node must reach.
"""

import dataclasses
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy.exc import DBAPIError

from optimize.database import database_path, is_sqlite
from optimize.errors import BadInputError, StudyStoppedError, WalkforgeError, message_of
from optimize.results import leases
from optimize.results.records import load_study
from optimize.study.admission import Here, refuse_data, refuse_versions
from optimize.study.equivalence import settle_code
from optimize.study.grounds import lay_grounds
from optimize.study.handle import Handle, cache_dir, open_study
from optimize.study.place import find_folder
from optimize.study.preflight import Say, preflight
from optimize.study.spec import StudySpec
from optimize.study.workers.nodes import connected, load_ray
from optimize.study.workers.restarts import count_finished, delay_s
from optimize.study.workers.signals import signals_answered
from optimize.study.workers.supervisor import (
    POLL_S,
    Supervisor,
)

NEWS_S = 30.0  # of silence until it is said what is waited for
REST_S = 5.0  # for the other workers to end, once one found nothing left to do
WORD_S = 1.0  # for a word to be heard: two at once are heard as one
LEAVE_S = 20.0  # for a worker that was told to stop at once, before Ray kills it


@dataclass
class RayCrew:
    """The workers of one study on a Ray cluster: started, replaced when they are lost, stopped in order."""

    handle: Handle
    restarts: int = 0  # dead workers replaced since a trial finished
    stops: int = 0  # how often a stop was asked for
    tasks: dict[int, Any] = field(default_factory=dict)  # what Ray knows each worker by
    due: dict[int, float] = field(default_factory=dict)  # when a dead worker is replaced
    ended_at: float = 0.0  # when the first worker ended because there is nothing left to do

    def __post_init__(self) -> None:
        self._finished = 0
        self._began = time.monotonic()
        self._waits = True  # no worker was seen with a trial, and nothing was said of it

    def members(self) -> tuple[()]:
        """Return the worker processes of this machine: they are the nodes', and Ray's page shows them."""
        return ()

    def run(self, show: Callable[[], None]) -> None:
        """Run workers until the study is at its cap; raise StudyStoppedError or KeyboardInterrupt."""
        spec = self.handle.spec
        self._finished, self._began = count_finished(self.handle, self._finished), time.monotonic()
        with connected(spec) as ray, signals_answered(self._asked_to_stop):
            try:
                self.due = dict.fromkeys(range(spec.worker.count), 0.0)
                while self.tasks or self.due:
                    self._start_due(ray)
                    ended, _ = ray.wait(list(self.tasks.values()), timeout=POLL_S) if self.tasks else ([], [])
                    for worker in [worker for worker, task in self.tasks.items() if task in ended]:
                        self._collect(ray, worker)
                    self._call_off(ray)
                    self._say_what_is_waited_for()
                    show()
            finally:
                self._end_all(ray)
                show()
        if self.stops:
            raise KeyboardInterrupt

    def _start_due(self, ray: Any) -> None:
        if self.stops:
            self.due.clear()
        for worker in [worker for worker, due in self.due.items() if time.monotonic() >= due]:
            del self.due[worker]
            spec = spec_there(self.handle.spec)
            self.tasks[worker] = _remote(ray, self.handle.spec, work_there).remote(spec, worker)
        if not self.tasks and self.due:
            time.sleep(POLL_S)

    def _collect(self, ray: Any, worker: int) -> None:
        """Look after a worker that ended: done, with something to say, or lost."""
        task = self.tasks.pop(worker)
        try:
            ray.get(task)
        except ray.exceptions.TaskCancelledError:
            return
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, WalkforgeError):
                raise error.cause from error
            self._bury(worker, error)
        except ray.exceptions.RayError as error:
            self._bury(worker, error)
        else:  # the study is at its cap or stopped: the others end by themselves
            self.due.clear()
            self.ended_at = self.ended_at or time.monotonic()

    def _call_off(self, ray: Any) -> None:
        """Call off the workers that still wait for room on a node, or start, when no trial runs any more."""
        if not self.ended_at or time.monotonic() - self.ended_at < REST_S:
            return
        self.ended_at = time.monotonic()
        if not self._trials_run():
            for task in self.tasks.values():
                ray.cancel(task, force=True)
            self.tasks.clear()

    def _say_what_is_waited_for(self) -> None:
        """Say so once, where no worker took a trial for a while: Ray itself may wait for room for ever."""
        if not self._waits or time.monotonic() - self._began < NEWS_S:
            return
        self._waits = False
        if not self._trials_run() and count_finished(self.handle, self._finished) == self._finished:
            print(f"no worker has a trial yet: {room_words(self.handle.spec)}", file=sys.stderr)

    def _trials_run(self) -> bool:
        try:
            with self.handle.engine.connect() as conn:
                return bool(leases.active(conn, self.handle.spec.name))
        except DBAPIError:  # the database is away, and so are those who could say
            return True

    def _bury(self, worker: int, error: Exception) -> None:
        """Have a lost worker replaced, later each time, unless too many were lost and no trial finished."""
        finished = count_finished(self.handle, self._finished)
        if finished > self._finished:
            self._finished, self.restarts = finished, 0
        self.restarts += 1
        why = f"{type(error).__name__}: {message_of(error)}"
        print(f"worker {worker} is lost: {why}", file=sys.stderr)
        if self.restarts > self.handle.spec.worker.max_restarts and not self.stops:
            raise StudyStoppedError(
                f"worker.max_restarts={self.restarts - 1} lost workers were replaced and another was lost "
                f"before any trial finished ({why}): see {self.handle.spec.folder / 'logs'}"
            )
        self.due[worker] = time.monotonic() + delay_s(self.restarts)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1
        if self.stops == 2:  # a third must not disturb the clearing up
            raise KeyboardInterrupt
        if self.stops == 1:
            words = "the running windows are finished first; Ctrl-C again stops at once"
            print(f"\nstopping: {words}", file=sys.stderr)
            for task in self.tasks.values():
                load_ray().cancel(task, force=False)  # is Ctrl-C to the supervisor there

    def _end_all(self, ray: Any) -> None:
        """End what still runs: its supervisors give their trials back, and what does not end is killed."""
        rest = list(self.tasks.values())
        self.tasks.clear()
        self.due.clear()
        if not rest:
            return
        for _ in range(1 if self.stops else 2):  # two words in all: finish the window, stop at once
            for task in rest:
                ray.cancel(task, force=False)
            time.sleep(WORD_S)
        ray.wait(rest, num_returns=len(rest), timeout=LEAVE_S)
        for task in rest:
            ray.cancel(task, force=True)


def work_there(spec: StudySpec, worker: int) -> None:
    """Run one worker on this node until the study is at its cap, held to its limits as on any machine."""
    # Child processes would import the script behind this one, which is Ray's, and Ray with it.
    vars(sys.modules["__main__"]).pop("__file__", None)
    handle = open_study(spec)
    try:
        vet(handle)
        Supervisor(handle, first=worker).run(lambda: None)
    finally:
        handle.close()


def vet(handle: Handle) -> None:
    """Refuse a node that would not measure the same, or that does not see the study's folder."""
    spec = handle.spec
    try:
        with handle.engine.connect() as conn:
            record = load_study(conn, spec.name)
            find_folder(conn, spec.name, spec.output_dir, spec.output_dir)
        if record is not None:
            refuse_versions(record, Here(database=spec.database))
            refuse_data(record, next(iter(lay_grounds(spec, handle.space).values())))
            settle_code(handle, print, launch=False)
    except BadInputError as error:
        raise BadInputError(f"on node {socket.gethostname()}: {error}") from None


def preflight_on_cluster(spec: StudySpec, say: Say) -> None:
    """Go through every stage of a trial on a node, with what a worker there may use."""
    with connected(spec, say) as ray:
        say(f"the preflight runs on a node of the cluster: {room_words(spec)}")
        task, began = _remote(ray, spec, _preflight_there).remote(spec_there(spec)), time.monotonic()
        while not ray.wait([task], timeout=NEWS_S)[0]:
            say(f"the preflight has run, or waited for a node, for {time.monotonic() - began:.0f} s")
        try:
            lines = ray.get(task)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, WalkforgeError):
                raise error.cause from error
            raise
    for line in lines:
        say(line)


def _preflight_there(spec: StudySpec) -> list[str]:
    lines: list[str] = []
    preflight(spec, cache_dir(spec), lines.append)
    return lines


def room_words(spec: StudySpec) -> str:
    """Say what a worker waits for before it can start, and where to look."""
    worker = spec.worker
    gpus = f" and {worker.gpus_per_worker:g} GPU" if worker.gpus_per_worker else ""
    free = f"a node must have {worker.cpus_per_worker:g} CPU{gpus} free"
    return f"{free}, and its first start of Walkforge takes a while (`ray status` shows the nodes)"


def spec_there(spec: StudySpec) -> StudySpec:
    """Return the study as one worker on a node runs it: with what Ray set aside for it, and whole paths."""
    asked = spec.worker
    share = asked.gpus_per_worker
    worker = dataclasses.replace(
        asked,
        kind="local",
        count=1,
        per_device=1,
        devices="auto" if share else "cpu",
        memory_fraction=asked.memory_fraction or share or None,
        threads=asked.threads or max(1, int(asked.cpus_per_worker)),
    )
    data = spec.data
    path = data.path and str(Path(data.path).expanduser().resolve())
    url = spec.database.url
    if is_sqlite(url):
        url = f"sqlite:///{database_path(url)}"
    return dataclasses.replace(
        spec,
        output_dir=str(Path(spec.output_dir).resolve()),
        data=dataclasses.replace(data, path=path, folder=str(Path(data.folder).resolve())),
        database=dataclasses.replace(spec.database, url=url),
        worker=worker,
    )


def _remote(ray: Any, spec: StudySpec, function: Callable[..., Any]) -> Any:
    """Return a function as a task that Ray itself never repeats, each in a process of its own."""
    worker = spec.worker
    room = {"num_cpus": worker.cpus_per_worker, "num_gpus": worker.gpus_per_worker}
    return ray.remote(**room, max_retries=0, max_calls=1)(function)
