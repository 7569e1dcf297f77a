"""What a download shows on a terminal and elsewhere."""

import os
import pty
import select
import subprocess
import sys

import pytest

from optimize.data.progress import meter
from tests.conftest import REPOSITORY

DRAWN = """
from optimize.data.progress import meter
with meter("SPY 1h", print) as shown:
    shown.advance(0.5, 1234)
    shown.say("a line")
    shown.advance(1.0, 2468)
"""


def test_plain_lines_come_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("optimize.data.progress.time.monotonic", lambda: now[0])
    said: list[str] = []
    with meter("SPY 1h", said.append) as shown:
        for second, done in ((1, 0.1), (9, 0.2), (11, 0.3), (12, 0.4), (22, 0.5)):
            now[0] = 100.0 + second
            shown.advance(done, int(10_000 * done))
    assert said == ["SPY 1h: 30%, 3,000 bars", "SPY 1h: 50%, 5,000 bars"]
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
    assert "100%" in text
