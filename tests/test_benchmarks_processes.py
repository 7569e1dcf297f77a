import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processes import cpu_seconds

BUSY = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


@pytest.mark.timeout(60)
def test_a_child_that_stays_is_not_waited_for(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as staying:
        assert cpu_seconds([sys.executable, "-c", BUSY], tmp_path) > 0.25
        assert staying.poll() is None
        staying.communicate(b"\n")


@pytest.mark.timeout(60)
def test_a_child_that_outlives_its_parent_counts(tmp_path: Path) -> None:
    leaves = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {BUSY!r}])"
    assert cpu_seconds([sys.executable, "-c", leaves], tmp_path) > 0.25
