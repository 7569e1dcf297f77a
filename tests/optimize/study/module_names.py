"""A worker that writes the names of its modules; it imports nothing that a worker does not."""

import sys
from pathlib import Path

from optimize.study.spec import StudySpec
from optimize.study.workers.process import WorkerSlot, work


def list_modules(folder: Path, spec: StudySpec, slot: WorkerSlot) -> None:
    """Work as a worker does, then write the names of all modules that its process has loaded."""
    try:
        work(spec, slot)
    finally:
        (folder / "modules.txt").write_text("\n".join(sorted(sys.modules)))
