"""What a running study shows: a live view on a terminal, one plain line a finished trial otherwise."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from sqlalchemy.exc import DBAPIError

from optimize.results.processes import this_host
from optimize.results.progress import EndedRun, ended_since, living, living_leases, time_left
from optimize.results.records import RETRIED
from optimize.study.handle import Handle
from optimize.study.workers.live import Row, Total, view
from optimize.study.workers.supervisor import Member

REFRESH_S = 0.5
OVERLAP = timedelta(minutes=10)  # read again at each look: clocks of other machines may be behind
COUNTED = ("COMPLETE", "PRUNED")  # in the cap
Crew = Callable[[], Sequence[Member]]
Heard = Callable[[EndedRun, Total], None]


@dataclass
class StudyProgress:
    """The trials of one study as they end, and its workers as they go."""

    handle: Handle
    cap: int
    console: Console
    live: Live | None = None
    crew: Crew = tuple
    windows: int = 0  # of a trial; 0: not known
    heard: Heard = lambda run, total: None  # told of each run that ends from now on
    runs: dict[int, EndedRun] = field(default_factory=dict)  # the last of each trial
    recent: dict[str, EndedRun] = field(default_factory=dict)  # seen, and within the overlap
    workers: int = 1  # that work on the study now, on any machine
    looked_at: float = 0.0

    def show(self) -> None:
        """Look for what is new, at most every REFRESH_S seconds, and show it."""
        if time.monotonic() - self.looked_at < REFRESH_S:
            return
        self.looked_at = time.monotonic()
        self.refresh()

    def refresh(self) -> None:
        """Read what is new and show it; a database that is away shows nothing new."""
        try:
            new = self.read()
            self.workers = self._count_workers()
            for run in new:
                self.count(run)  # one by one: each line says how far the study was then
                self.heard(run, self.total())
                if self.live is None:
                    self.console.print(self._line(run), highlight=False, soft_wrap=True, markup=False)
            if self.live is not None:
                shown = view(self.total(), self._rows(), self.console.size)
                self.live.update(shown, refresh=True)
        except DBAPIError:
            return

    def read(self) -> list[EndedRun]:
        """Return the runs that ended since the last look."""
        newest = max((run.finished_at for run in self.recent.values()), default=None)
        since = None if newest is None else newest - OVERLAP
        with self.handle.engine.connect() as conn:
            found = ended_since(conn, self.handle.spec.name, since)
        new = [run for run in found if run.run_uuid not in self.recent]
        self.recent = {run.run_uuid: run for run in found}
        return new

    def _count_workers(self) -> int:
        """Return how many workers there are: those of this launch, and those that hold a trial elsewhere."""
        with self.handle.engine.connect() as conn:
            held = {(lease.host, lease.pid) for lease in living_leases(conn, self.handle.spec.name)}
        return max(1, len(held | {(this_host(), member.pid) for member in self.crew()}))

    def count(self, run: EndedRun) -> None:
        """Let a run stand for its trial, unless a later attempt does."""
        before = self.runs.get(run.trial_number)
        if before is None or run.attempt >= before.attempt:
            self.runs[run.trial_number] = run

    def total(self) -> Total:
        """Return how far the study is."""
        ended = self.runs.values()
        scores = [run.score for run in ended if run.state == "COMPLETE" and run.score is not None]
        done = self.counted()
        took = [run.seconds for run in ended if run.state in COUNTED and run.seconds is not None]
        return Total(
            name=self.handle.spec.name,
            done=done,
            cap=self.cap,
            best=max(scores, default=None),
            failed=sum(run.state == "FAIL" for run in ended),
            left_s=time_left(self.cap - done, statistics.fmean(took) if took else None, self.workers),
        )

    def counted(self) -> int:
        """Return how many trials count in the cap by now."""
        return sum(run.state in COUNTED for run in self.runs.values())

    def _rows(self) -> list[Row]:
        """Return what each worker of this launch does."""
        members = sorted(self.crew(), key=lambda member: member.seat.worker)
        if not members:
            return []
        with self.handle.engine.connect() as conn:
            runs = living(conn, self.handle.spec.name)
        mine = {run.pid: run for run in runs if run.host == this_host()}
        rows = []
        for member in members:
            run, device = mine.get(member.pid), member.seat.device
            window = 0 if run is None else 1 + run.windows // self.handle.spec.score.repeats
            if self.windows:
                window = min(window, self.windows)
            rows.append(
                Row(
                    worker=member.seat.worker,
                    device="cpu" if device is None else f"gpu {device.index}",
                    trial=None if run is None else run.trial_number,
                    window="" if run is None else f"{window}/{self.windows}" if self.windows else str(window),
                    score=None if run is None else run.score,
                    seconds=member.seconds,
                    resident_mb=member.resident_mb,
                )
            )
        return rows

    def _line(self, run: EndedRun) -> str:
        total = self.total()
        if run.score is not None:
            result = f"score {run.score:+.3f}"
        elif run.failure_kind is not None:
            second = f", try {run.attempt}" if run.attempt > 1 else ""
            again = ", tried once more" if run.state == RETRIED else second
            result = f"{run.failure_kind}: {(run.failure_message or '').partition(chr(10))[0]}{again}"
        else:
            result = run.reason or ""
        far = ", ".join(filter(None, (f"{total.done}/{total.cap}", total.words, total.left)))
        return (
            f"{total.name}: trial {run.trial_number} {run.state} {result} ({run.seconds or 0:.1f} s) [{far}]"
        )


@contextmanager
def progress(
    handle: Handle,
    cap: int,
    console: Console,
    *,
    crew: Crew = tuple,
    windows: int = 0,
    heard: Heard = lambda run, total: None,
) -> Iterator[StudyProgress]:
    """Yield the progress of a study; trials of earlier launches are counted and not listed again."""
    shown = StudyProgress(handle, cap, console, crew=crew, windows=windows, heard=heard)
    for run in shown.read():
        shown.count(run)
    if not console.is_terminal:
        yield shown
        return
    with Live(view(shown.total(), [], console.size), console=console, auto_refresh=False) as live:
        shown.live = live
        yield shown
