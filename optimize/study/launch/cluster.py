"""`worker=ray`: the workers of a study as tasks of a Ray cluster.

Each task is a supervisor with one worker process on the node that Ray chose, so that a trial is held to the
same limits as on this machine. The trials, the leases and the cap lie in the database, which every node must
reach.
"""

import dataclasses
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimize.database import DBAPIError, database_path, is_sqlite
from optimize.errors import BadInputError, StudyStoppedError, WalkforgeError, message_of
from optimize.results import leases
from optimize.results.records import load_study
from optimize.study.context import StudyContext, cache_dir, open_study
from optimize.study.launch.code_equivalence import check_code
from optimize.study.launch.markets import build_markets
from optimize.study.launch.preflight import preflight
from optimize.study.launch.ray_connection import load_ray, ray_connection
from optimize.study.shared_folder import find_folder
from optimize.study.spec import StudySpec
from optimize.study.workers.machine_compatibility import MachineSettings, refuse_data, refuse_versions
from optimize.study.workers.restarts import count_finished, delay_s
from optimize.study.workers.signals import StopRequests, signals_answered
from optimize.study.workers.supervisor import POLL_S, Supervisor

NEWS_S = 30.0  # without a claimed trial before the reason is printed
REST_S = 5.0  # for the other workers to end, once one found no trial left
WORD_S = 1.0  # between two signals to a worker: signals that come together are merged
LEAVE_S = 20.0  # for a worker to end after the order to stop at once, before Ray kills it


@dataclass
class RaySupervisor:
    """Start the workers of one study on a Ray cluster, replace lost ones and stop them in order."""

    context: StudyContext
    restarts: int = 0  # dead workers replaced since a trial finished
    tasks: dict[int, Any] = field(default_factory=dict)  # Ray's task of each worker
    due: dict[int, float] = field(default_factory=dict)  # time at which a dead worker is replaced
    ended_at: float = 0.0  # time at which the first worker ended because no trial is left

    def __post_init__(self) -> None:
        self.stops = StopRequests(self._finish_windows)
        self._finished = 0
        self._began = time.monotonic()
        self._waits = True  # no worker has claimed a trial and no message was printed

    def running_processes(self) -> tuple[()]:
        """Return the worker processes of this machine: none, as the nodes run them all."""
        return ()

    def run(self, show: Callable[[], None]) -> None:
        """Run workers until the study is at its cap; raise StudyStoppedError or KeyboardInterrupt."""
        spec = self.context.spec
        self._finished, self._began = count_finished(self.context, self._finished), time.monotonic()
        with ray_connection(spec) as ray, signals_answered(self.stops.answer):
            try:
                self.due = dict.fromkeys(range(spec.worker.count), 0.0)
                while self.tasks or self.due:
                    self._start_due(ray)
                    ended, _ = ray.wait(list(self.tasks.values()), timeout=POLL_S) if self.tasks else ([], [])
                    for worker in [worker for worker, task in self.tasks.items() if task in ended]:
                        self._collect(ray, worker)
                    self._cancel_waiting(ray)
                    self._report_waiting()
                    show()
            finally:
                self._end_all(ray)
                show()
        if self.stops.count:
            raise KeyboardInterrupt

    def _start_due(self, ray: Any) -> None:
        if self.stops.count:
            self.due.clear()
        for worker in [worker for worker, due in self.due.items() if time.monotonic() >= due]:
            del self.due[worker]
            spec = spec_on_node(self.context.spec)
            self.tasks[worker] = _remote(ray, self.context.spec, run_on_node).remote(spec, worker)
        if not self.tasks and self.due:
            time.sleep(POLL_S)

    def _collect(self, ray: Any, worker: int) -> None:
        """Handle a worker that ended: finished, failed with an error of Walkforge, or lost."""
        task = self.tasks.pop(worker)
        try:
            ray.get(task)
        except ray.exceptions.TaskCancelledError:
            return
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, WalkforgeError):
                raise error.cause from error
            self._schedule_restart(worker, error)
        except ray.exceptions.RayError as error:
            self._schedule_restart(worker, error)
        else:  # the study is at its cap or stopped: the others end by themselves
            self.due.clear()
            self.ended_at = self.ended_at or time.monotonic()

    def _cancel_waiting(self, ray: Any) -> None:
        """Cancel the workers that still wait for a node, or start, when no trial runs any more."""
        if not self.ended_at or time.monotonic() - self.ended_at < REST_S:
            return
        self.ended_at = time.monotonic()
        if not self._trials_run():
            for task in self.tasks.values():
                ray.cancel(task, force=True)
            self.tasks.clear()

    def _report_waiting(self) -> None:
        """Print once that no worker has claimed a trial for NEWS_S: Ray may wait for a node for ever."""
        if not self._waits or time.monotonic() - self._began < NEWS_S:
            return
        self._waits = False
        if not self._trials_run() and count_finished(self.context, self._finished) == self._finished:
            print(f"no worker has a trial yet: {required_resources(self.context.spec)}", file=sys.stderr)

    def _trials_run(self) -> bool:
        try:
            with self.context.engine.connect() as conn:
                return bool(leases.active(conn, self.context.spec.name))
        except DBAPIError:  # the database cannot be reached: assume that trials run
            return True

    def _schedule_restart(self, worker: int, error: Exception) -> None:
        """Schedule the restart of a lost worker; raise after too many restarts without a finished trial."""
        finished = count_finished(self.context, self._finished)
        if finished > self._finished:
            self._finished, self.restarts = finished, 0
        self.restarts += 1
        why = f"{type(error).__name__}: {message_of(error)}"
        print(f"worker {worker} is lost: {why}", file=sys.stderr)
        if self.restarts > self.context.spec.worker.max_restarts and not self.stops.count:
            raise StudyStoppedError(
                f"worker.max_restarts={self.restarts - 1} lost workers were replaced and another was lost "
                f"before any trial finished ({why}): see {self.context.spec.folder / 'logs'}"
            )
        self.due[worker] = time.monotonic() + delay_s(self.restarts)

    def _finish_windows(self) -> None:
        """Let the supervisor of each worker finish the running window: it receives this as Ctrl-C."""
        for task in self.tasks.values():
            load_ray().cancel(task, force=False)

    def _end_all(self, ray: Any) -> None:
        """Stop the running workers, so that they give their trials back; kill those that do not end."""
        rest = list(self.tasks.values())
        self.tasks.clear()
        self.due.clear()
        if not rest:
            return
        for _ in range(1 if self.stops.count else 2):  # two signals in all: finish the window, stop at once
            for task in rest:
                ray.cancel(task, force=False)
            time.sleep(WORD_S)
        ray.wait(rest, num_returns=len(rest), timeout=LEAVE_S)
        for task in rest:
            ray.cancel(task, force=True)


def run_on_node(spec: StudySpec, worker: int) -> None:
    """Run one worker with its limits on this node until the study is at its cap."""
    # Child processes would import the main script, which is Ray's, and Ray with it.
    vars(sys.modules["__main__"]).pop("__file__", None)
    context = open_study(spec)
    try:
        check_node(context)
        Supervisor(context, first=worker).run(lambda: None)
    finally:
        context.close()


def check_node(context: StudyContext) -> None:
    """Refuse a node that would compute other results or that cannot reach the study's folder."""
    spec = context.spec
    try:
        with context.engine.connect() as conn:
            record = load_study(conn, spec.name)
            find_folder(conn, spec.name, spec.output_dir, spec.output_dir)
        if record is not None:
            refuse_versions(record, MachineSettings(database=spec.database))
            refuse_data(record, next(iter(build_markets(spec, context.space).values())))
            check_code(context, print, launch=False)
    except BadInputError as error:
        raise BadInputError(f"on node {socket.gethostname()}: {error}") from None


def preflight_on_cluster(spec: StudySpec, echo: Callable[[str], None]) -> None:
    """Run every stage of a trial on a node, with the resources of a worker."""
    with ray_connection(spec, echo) as ray:
        echo(f"the preflight runs on a node of the cluster: {required_resources(spec)}")
        task, began = _remote(ray, spec, _preflight_on_node).remote(spec_on_node(spec)), time.monotonic()
        while not ray.wait([task], timeout=NEWS_S)[0]:
            echo(f"the preflight has run, or waited for a node, for {time.monotonic() - began:.0f} s")
        try:
            lines = ray.get(task)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, WalkforgeError):
                raise error.cause from error
            raise
    for line in lines:
        echo(line)


def _preflight_on_node(spec: StudySpec) -> list[str]:
    lines: list[str] = []
    preflight(spec, cache_dir(spec), lines.append)
    return lines


def required_resources(spec: StudySpec) -> str:
    """Return the resources that a worker waits for before it can start, and the command that shows them."""
    worker = spec.worker
    gpus = f" and {worker.gpus_per_worker:g} GPU" if worker.gpus_per_worker else ""
    free = f"a node must have {worker.cpus_per_worker:g} CPU{gpus} free"
    return f"{free}, and its first start of Walkforge takes a while (`ray status` shows the nodes)"


def spec_on_node(spec: StudySpec) -> StudySpec:
    """Return the study as one worker on a node runs it: with its resources from Ray, and absolute paths."""
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
    """Return a function as a Ray task that runs in a process of its own and is never retried by Ray."""
    worker = spec.worker
    room = {"num_cpus": worker.cpus_per_worker, "num_gpus": worker.gpus_per_worker}
    return ray.remote(**room, max_retries=0, max_calls=1)(function)
