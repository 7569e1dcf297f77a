"""Display a running study: a live view on a terminal, otherwise one line for each finished trial."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.live import Live

from optimize.database import DBAPIError
from optimize.report.format import format_score
from optimize.results.launches import EndedRun, ended_since, living, living_leases, time_left
from optimize.results.processes import this_host
from optimize.results.states import COUNTED, RunState
from optimize.study.context import StudyContext
from optimize.study.workers.live import Total, WorkerRow, view
from optimize.study.workers.supervisor import WorkerProcess

REFRESH_S = 0.5
OVERLAP = timedelta(minutes=10)  # read again at each refresh: clocks of other machines may be behind
RunningProcesses = Callable[[], Sequence[WorkerProcess]]
OnRunEnd = Callable[[EndedRun, Total], None]


@dataclass
class StudyProgress:
    """Progress of one study: its ended trials and its workers."""

    context: StudyContext
    cap: int
    console: Console
    live: Live | None = None
    processes: RunningProcesses = tuple
    windows: int = 0  # windows of a trial; 0: not known
    on_run_end: OnRunEnd = lambda run, total: None  # called with each run that ends from now on
    runs: dict[int, EndedRun] = field(default_factory=dict)  # latest run by trial number
    recent: dict[str, EndedRun] = field(default_factory=dict)  # runs within the overlap, already counted
    workers: int = 1  # current workers of the study on all machines
    looked_at: float = 0.0

    def show(self) -> None:
        """Refresh the display, at most every REFRESH_S seconds."""
        if time.monotonic() - self.looked_at < REFRESH_S:
            return
        self.looked_at = time.monotonic()
        self.refresh()

    def refresh(self) -> None:
        """Read the newly ended runs and display them; skip while the database cannot be reached."""
        try:
            new = self.read()
            self.workers = self._count_workers()
            for run in new:
                self.count(run)  # one by one, so that each line has the progress at that run
                self.on_run_end(run, self.total())
                if self.live is None:
                    self.console.print(self._line(run), highlight=False, soft_wrap=True, markup=False)
            if self.live is not None:
                shown = view(self.total(), self._rows(), self.console.size)
                self.live.update(shown, refresh=True)
        except DBAPIError:
            return

    def read(self) -> list[EndedRun]:
        """Return the runs that ended since the last call."""
        newest = max((run.finished_at for run in self.recent.values()), default=None)
        since = None if newest is None else newest - OVERLAP
        with self.context.engine.connect() as conn:
            found = ended_since(conn, self.context.spec.name, since)
        new = [run for run in found if run.run_uuid not in self.recent]
        self.recent = {run.run_uuid: run for run in found}
        return new

    def _count_workers(self) -> int:
        """Return the number of workers: those of this launch and those that run a trial elsewhere."""
        with self.context.engine.connect() as conn:
            held = {(lease.host, lease.pid) for lease in living_leases(conn, self.context.spec.name)}
        return max(1, len(held | {(this_host(), process.pid) for process in self.processes()}))

    def count(self, run: EndedRun) -> None:
        """Store a run as the latest of its trial, unless a later attempt is known."""
        before = self.runs.get(run.trial_number)
        if before is None or run.attempt >= before.attempt:
            self.runs[run.trial_number] = run

    def total(self) -> Total:
        """Return the progress of the study."""
        ended = self.runs.values()
        ranked = [run for run in ended if run.state == RunState.COMPLETE and run.gate is None]
        scores = [run.score for run in ranked if run.score is not None]
        done = self.counted()
        took = [run.seconds for run in ended if run.state in COUNTED and run.seconds is not None]
        return Total(
            name=self.context.spec.name,
            done=done,
            cap=self.cap,
            best=max(scores, default=None),
            failed=sum(run.state == RunState.FAIL for run in ended),
            left_s=time_left(self.cap - done, statistics.fmean(took) if took else None, self.workers),
        )

    def counted(self) -> int:
        """Return the number of trials that count toward the cap."""
        return sum(run.state in COUNTED for run in self.runs.values())

    def _rows(self) -> list[WorkerRow]:
        """Return a row for each worker of this launch."""
        running_processes = sorted(self.processes(), key=lambda process: process.slot.worker)
        if not running_processes:
            return []
        with self.context.engine.connect() as conn:
            runs = living(conn, self.context.spec.name)
        mine = {run.pid: run for run in runs if run.host == this_host()}
        rows = []
        for process in running_processes:
            run, device = mine.get(process.pid), process.slot.device
            window = 0 if run is None else 1 + run.windows // self.context.spec.score.repeats
            if self.windows:
                window = min(window, self.windows)
            rows.append(
                WorkerRow(
                    worker=process.slot.worker,
                    device="cpu" if device is None else f"gpu {device.index}",
                    trial=None if run is None else run.trial_number,
                    window="" if run is None else f"{window}/{self.windows}" if self.windows else str(window),
                    score=None if run is None else run.score,
                    seconds=process.seconds,
                    resident_mb=process.resident_mb,
                )
            )
        return rows

    def _line(self, run: EndedRun) -> str:
        total = self.total()
        if run.score is not None:
            blocked = "" if run.gate is None else f", not ranked: gate.{run.gate} blocks it"
            result = f"score {format_score(run.score)}{blocked}"
        elif run.failure_kind is not None:
            second = f", try {run.attempt}" if run.attempt > 1 else ""
            again = ", tried once more" if run.state == RunState.RETRIED else second
            result = f"{run.failure_kind}: {(run.failure_message or '').partition(chr(10))[0]}{again}"
        else:
            result = run.reason or ""
        far = ", ".join(filter(None, (f"{total.done}/{total.cap}", total.words, total.left)))
        return (
            f"{total.name}: trial {run.trial_number} {run.state} {result} ({run.seconds or 0:.1f} s) [{far}]"
        )


@contextmanager
def progress(
    context: StudyContext,
    cap: int,
    console: Console,
    *,
    processes: RunningProcesses = tuple,
    windows: int = 0,
    on_run_end: OnRunEnd = lambda run, total: None,
) -> Iterator[StudyProgress]:
    """Yield the progress of a study; trials of earlier launches are counted but not listed."""
    shown = StudyProgress(context, cap, console, processes=processes, windows=windows, on_run_end=on_run_end)
    for run in shown.read():
        shown.count(run)
    if not console.is_terminal:
        yield shown
        return
    with Live(view(shown.total(), [], console.size), console=console, auto_refresh=False) as live:
        shown.live = live
        yield shown
