"""Signals to a supervisor with a worker in training, and output that nobody reads any more."""

import io
import os
import signal
import subprocess
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil
import pytest

from optimize.study.workers.signals import LastingStream, StopRequests, lasting_output
from optimize.study.workers.supervisor import Supervisor
from tests.conftest import REPOSITORY
from tests.optimize.study.crashes import training
from tests.optimize.study.processes import leased, until
from tests.optimize.study.studies import opened, rows, small_spec

UNGUARDED = """
import multiprocessing, os, sys
from optimize.spawning import main_left_out
print("the script runs")
process = multiprocessing.get_context("spawn").Process(target=os.getpid)
with main_left_out():
    process.start()
process.join()
sys.exit(process.exitcode)
"""


def test_ctrl_z_stops_the_workers_too_and_they_go_on_together(tmp_path: Path) -> None:
    with training(tmp_path) as study:
        (pid,) = leased(study.spec).values()
        worker = psutil.Process(pid)
        study.signal(signal.SIGTSTP)
        os.waitpid(study.supervisor.pid or 0, os.WUNTRACED)
        until(lambda: worker.status() == psutil.STATUS_STOPPED, "the worker to stand still")
        study.signal(signal.SIGCONT)
        study.go_on()
        study.supervisor.join()
        assert study.supervisor.exitcode == 0
    assert rows(study.spec, "SELECT state, COUNT(*) FROM wf_runs GROUP BY 1") == [("COMPLETE", 1)]


def test_a_terminal_that_closes_finishes_the_running_window_however_often_it_says_so(tmp_path: Path) -> None:
    with training(tmp_path) as study:
        for _ in range(3):
            study.signal(signal.SIGHUP)
        study.go_on()
        study.supervisor.join()
        assert study.supervisor.exitcode == 1
    assert rows(study.spec, "SELECT COUNT(*) FROM wf_windows") == [(1,)]
    assert rows(study.spec, "SELECT losses, renewed_at FROM wf_leases") == [(0, 0.0)]


def test_the_second_request_stops_at_once_and_a_third_interrupts_no_cleanup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    finished: list[str] = []
    stops = StopRequests(lambda: finished.append("asked"))
    stops.answer(signal.SIGTERM, None)
    assert (stops.count, finished) == (1, ["asked"])
    message = "stopping: the running windows are finished first; Ctrl-C again stops at once"
    assert capsys.readouterr().err.strip() == message
    with pytest.raises(KeyboardInterrupt):
        stops.answer(signal.SIGINT, None)
    stops.answer(signal.SIGINT, None)
    assert (finished, capsys.readouterr().err) == (["asked"], "")


def test_sighups_of_a_closing_terminal_count_once_and_after_ctrl_c_not_at_all() -> None:
    for first in (signal.SIGHUP, signal.SIGINT):
        stops = StopRequests(lambda: None)
        for number in (first, signal.SIGHUP, signal.SIGHUP):
            stops.answer(number, None)
        assert stops.count == 1
        with pytest.raises(KeyboardInterrupt):
            stops.answer(signal.SIGTERM, None)


@pytest.mark.parametrize(
    ("error", "method"),
    [
        (FileNotFoundError(2, "No such file or directory"), "spawn"),  # a cleaner removed the socket
        (ConnectionRefusedError(111, "Connection refused"), "spawn"),
        (EOFError(), "forkserver"),  # it died: the next start begins another
        (OSError(24, "Too many open files"), "forkserver"),
    ],
)
def test_a_worker_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, method: str
) -> None:
    def start(process: ForkServerProcess) -> None:
        raise error

    monkeypatch.setattr(ForkServerProcess, "start", start)
    supervisor = Supervisor(opened(small_spec(tmp_path)))
    supervisor._start(0)
    assert supervisor.starter.get_start_method() == method
    assert list(supervisor.due) == [0]
    assert (supervisor.processes, supervisor.restarts) == ({}, 1)


@pytest.mark.parametrize("form", ["file", "stdin", "-c"])
def test_a_worker_imports_nothing_of_the_script_that_starts_it(tmp_path: Path, form: str) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    arguments = {"file": [str(tmp_path / "script.py")], "stdin": ["-"], "-c": ["-c", UNGUARDED]}[form]
    done = subprocess.run(
        [sys.executable, *arguments],
        input=UNGUARDED if form == "stdin" else None,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "the script runs\n", "")


class Gone(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_output_that_nobody_reads_is_dropped() -> None:
    stream = LastingStream(Gone())
    assert stream.write("three") == 5
    stream.flush()
    closed = io.StringIO()
    closed.close()
    assert LastingStream(closed).write("on") == 2


def test_a_closed_pipe_is_no_end_of_a_long_command(tmp_path: Path) -> None:
    code = (
        "from optimize.study.workers.signals import lasting_output\n"
        "with lasting_output():\n"
        "    for _ in range(100_000):\n"
        "        print('line')\n"
        f"open({str(tmp_path / 'reached')!r}, 'w').close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert (tmp_path / "reached").exists()


def test_output_is_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with lasting_output():
        print("kept")
    assert sys.stdout is before
    assert capsys.readouterr().out == "kept\n"
