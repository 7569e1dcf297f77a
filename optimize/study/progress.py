"""What a running study shows: a bar on a terminal, one plain line a finished trial otherwise."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from sqlalchemy import text

from optimize.results.records import RunRecord
from optimize.results.runs import complete_but_untold
from optimize.study.handle import Handle

REFRESH_S = 0.5


@dataclass
class StudyProgress:
    """The trials of one study as they end."""

    handle: Handle
    cap: int
    console: Console
    bar: Progress | None
    task: TaskID | None
    seen: set[str] = field(default_factory=set)
    runs: dict[int, RunRecord] = field(default_factory=dict)
    looked_at: float = 0.0
    finished_rows: int = -1

    def show(self) -> None:
        """Look for trials that ended since the last look and show them."""
        if time.monotonic() - self.looked_at < REFRESH_S:
            return
        self.looked_at = time.monotonic()
        self.refresh()

    def refresh(self) -> None:
        """Read the runs that ended and show what is new."""
        name = self.handle.spec.name
        with self.handle.engine.connect() as conn:
            count = text("SELECT COUNT(*) FROM wf_runs WHERE study_name = :name AND finished_at IS NOT NULL")
            rows = conn.execute(count, {"name": name}).scalar_one()
            if rows == self.finished_rows:
                return
            self.finished_rows = rows
            finished = complete_but_untold(conn, name)
        self.runs = {run.trial_number: run for run in finished}
        for run in finished:
            if run.run_uuid not in self.seen:
                self.seen.add(run.run_uuid)
                if self.bar is None:
                    self.console.print(self._line(run), highlight=False, soft_wrap=True)
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=self._counted(), best=self._best())

    def _counted(self) -> int:
        return sum(run.state in ("COMPLETE", "PRUNED") for run in self.runs.values())

    def _best(self) -> str:
        scores = [
            run.score for run in self.runs.values() if run.state == "COMPLETE" and run.score is not None
        ]
        failed = sum(run.state == "FAIL" for run in self.runs.values())
        best = f"best {max(scores):+.2f}" if scores else "no score yet"
        return f"{best}, {failed} failed" if failed else best

    def _line(self, run: RunRecord) -> str:
        result = (
            f"score {run.score:+.3f}" if run.score is not None else run.reason or run.failure_message or ""
        )
        done = f"{self._counted()}/{self.cap}"
        return (
            f"{self.handle.spec.name}: trial {run.trial_number} {run.state} {result} "
            f"({run.seconds or 0:.1f} s) [{done}, {self._best()}]"
        )


@contextmanager
def progress(handle: Handle, cap: int, console: Console) -> Iterator[StudyProgress]:
    """Yield the progress of a study; trials of earlier launches are counted and not listed again."""
    with handle.engine.connect() as conn:
        earlier = complete_but_untold(conn, handle.spec.name)
    seen = {run.run_uuid for run in earlier}
    runs = {run.trial_number: run for run in earlier}
    if not console.is_terminal:
        yield StudyProgress(handle, cap, console, None, None, seen, runs)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("trials  {task.fields[best]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(handle.spec.name, total=cap, best="starting workers")
        yield StudyProgress(handle, cap, console, bar, task, seen, runs)
