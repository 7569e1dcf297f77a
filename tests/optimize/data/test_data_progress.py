"""A download shows a bar on a terminal, and plain lines elsewhere."""

import os
import pty
import select
import subprocess
import sys

import pytest

from optimize.data.download.progress import meter
from tests.conftest import REPOSITORY

DRAWN = """
from optimize.data.download.progress import meter
with meter("alpaca", print) as shown:
    shown.begin("SPY 1h")
    shown.advance(0.5, 1234)
    shown.say("a line")
    shown.wait("alpaca: waiting 30 s [429]")
    shown.advance(1.0, 2468)
"""


def test_plain_lines_come_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("optimize.data.download.progress.time.monotonic", lambda: now[0])
    said: list[str] = []
    with meter("alpaca", said.append) as shown:
        shown.begin("SPY 1h")
        for second, done in ((1, 0.1), (9, 0.2), (11, 0.3), (12, 0.4), (22, 0.5)):
            now[0] = 100.0 + second
            shown.advance(done, int(10_000 * done))
        shown.wait("alpaca: waiting 30 s")
    assert said == ["SPY 1h: 30%, 3,000 bars", "SPY 1h: 50%, 5,000 bars", "alpaca: waiting 30 s"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_a_bar() -> None:
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", DRAWN], stdout=writer, stderr=writer, env=environment
    ) as done:
        os.close(writer)
        shown = b""
        while select.select([reader], [], [], 30)[0]:
            try:
                shown += os.read(reader, 4096)
            except OSError:  # the other end was closed
                break
    os.close(reader)
    assert done.returncode == 0
    text = shown.decode()
    assert "SPY 1h" in text
    assert "2,468 bars" in text
    assert "a line" in text
    assert "waiting 30 s [429]" in text, "a wait is shown in the bar, in its own words"
    assert "waiting" not in text.rpartition("2,468 bars")[2], "and is gone when bars come again"
    assert "100%" in text
