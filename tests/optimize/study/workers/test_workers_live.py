"""The display of a running study: nothing cut on a narrow terminal, lines elsewhere, each trial once."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text
from sqlalchemy import event

from optimize.results.launches import ended_since
from optimize.study.spec import WorkerSpec
from optimize.study.workers.live import Total, WorkerRow, clock_time, view
from optimize.study.workers.progress import StudyProgress, progress
from tests.optimize.study.forks import forking, hold_windows
from tests.optimize.study.studies import change_windows, opened, play, small_spec, unchanged

TOTAL = Total("a_long_name_of_a_study_that_is.timeframe", 912, 1000, 123.456, 12, 71 * 3600 + 59 * 60 + 57)
ROWS = [WorkerRow(n, f"gpu {n % 8}", 1000 + n, "12/16", -12.3456, 86400.4, 123456.7) for n in range(40)]


def screen(width: int, height: int, total: Total = TOTAL, rows: list[WorkerRow] = ROWS) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, file=io.StringIO())
    console.print(view(total, rows, console.size))
    assert isinstance(console.file, io.StringIO)
    return Text.from_ansi(console.file.getvalue()).plain.splitlines()


@pytest.mark.parametrize("width", [60, 76, 80, 200])
def test_no_digit_is_cut_at_any_width(width: int) -> None:
    lines = screen(width, 24)
    shown = "\n".join(lines)
    assert max(map(len, lines)) <= width
    for words in ("912/1000", "best +123.46, 12 failed", "71:59:57 left"):
        assert words in shown
    row = next(line for line in lines if re.match(r"\s+7 ", line))
    assert row.split() == ["7", "gpu", "7", "1007", "12/16", "-12.35", "86400", "123457"]


def test_more_workers_than_lines_are_counted() -> None:
    lines = screen(80, 24)
    assert len(lines) < 24
    shown = sum(bool(re.match(r"\s+\d+ +gpu", line)) for line in lines)
    assert lines[-1] == f"and {40 - shown} workers more"


def test_what_is_not_known_is_a_dash_or_nothing() -> None:
    lines = screen(
        80, 24, Total("s", 0, 4, None, 0, None), [WorkerRow(0, "cpu", None, "", float("nan"), None, 1)]
    )
    assert "no score yet" in lines[0]
    assert "left" not in lines[0]
    assert lines[-1].split() == ["0", "cpu", "-", "-", "-", "-", "1"]
    assert Total("s", 4, 4, 1.0, 0, 0.0).left == ""


def test_time_left_is_rounded_up() -> None:
    assert [clock_time(s) for s in (0, 0.2, 61, 3599.5, 360000)] == [
        "0:00:00",
        "0:00:01",
        "0:01:01",
        "1:00:00",
        "100:00:00",
    ]


def plain() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_plain_lines_are_one_a_trial_and_none_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, console = opened(small_spec(tmp_path)), plain()
    play(context, limit=1)
    on_run_end: list[int] = []
    with progress(
        context, 4, console, on_run_end=lambda run, total: on_run_end.append(run.trial_number)
    ) as shown:
        assert said(console) == []  # trials of earlier launches are counted and not listed
        play(context, limit=2)
        shown.refresh()
        shown.refresh()
        assert [line.split(": ")[1].split(" score")[0] for line in said(console)] == [
            "trial 1 COMPLETE",
            "trial 2 COMPLETE",
        ]
        assert re.search(r"\[3/4, best [+-]\d+\.\d\d, 0:\d\d:\d\d left\]$", said(console)[-1])

        def broken(*_: object) -> None:
            raise RuntimeError("no [bold]luck[/bold]\nat all")

        change_windows(monkeypatch, unchanged)
        monkeypatch.setattr("optimize.walkforward.run.run_window", broken)
        play(context, limit=1)
        shown.refresh()
        assert "trial 3 FAIL bug: RuntimeError: no [bold]luck[/bold] (" in said(console)[-1]
        assert "1 failed" in said(console)[-1]
    assert on_run_end == [1, 2, 3]


def test_a_look_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(small_spec(tmp_path, n_trials=3))
    play(context)
    with context.engine.connect() as conn:
        runs = ended_since(conn, "small", None)
        newest = runs[-1].finished_at
        assert [run.trial_number for run in ended_since(conn, "small", newest)] == [2]
    monkeypatch.setattr("optimize.study.workers.progress.OVERLAP", newest - runs[1].finished_at)
    shown = StudyProgress(context, 3, plain())
    assert [run.trial_number for run in shown.read()] == [0, 1, 2]
    read: list[str] = []
    event.listen(context.engine, "before_cursor_execute", lambda *seen: read.append(str(seen[3])))
    assert shown.read() == []
    assert len(shown.recent) == 2  # the last two, within the overlap; the first is not read again
    assert len(read) == 1


def test_a_terminal_shows_each_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(small_spec(tmp_path, n_trials=2, worker=WorkerSpec(count=1)))
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    gate, frames, rows = tmp_path / "gate", list[str](), list[tuple[str, str]]()
    hold_windows(monkeypatch, gate, once=True)
    supervisor = forking(context)

    with progress(context, 2, console, processes=supervisor.running_processes, windows=2) as shown:

        def show() -> None:
            shown.refresh()
            assert isinstance(console.file, io.StringIO)
            frames.append(Text.from_ansi(console.file.getvalue()).plain)
            console.file.truncate(0)
            for trial, window in re.findall(r" 0 +cpu +(\d) +(\d)/2 ", frames[-1]):
                if (trial, window) not in rows:
                    rows.append((trial, window))
                    gate.touch()  # a window starts when a frame has shown it

        supervisor.run(show)
    assert any(re.search(r"worker +device +trial +window", frame) for frame in frames)
    assert rows == [("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")]
    assert re.search(r"small ━+ 2/2 best [+-]", frames[-1])
