"""Journal of a running download: pages are appended to a file, so that a killed download resumes there."""

import glob
import os
from pathlib import Path

import numpy as np

from envs.types import FloatArray, IntArray
from optimize.atomic import append

ROW = np.dtype([("timestamp", "<i8"), ("ohlcv", "<f8", 5)])


class Journal:
    """Rows of one span downloaded so far; the file's name contains the start of the span."""

    def __init__(self, path: Path, start_ns: int) -> None:
        self.path = path
        self.start_ns = start_ns
        self._pages = [_whole_rows(path, start_ns)]
        self.rows = len(self._pages[0])

    @property
    def timestamp(self) -> IntArray:
        """Return the bar starts (R,) in UTC nanoseconds."""
        stamps: IntArray = np.concatenate(self._pages)["timestamp"].astype(np.int64)
        return stamps

    @property
    def ohlcv(self) -> FloatArray:
        """Return the bars (R, 5)."""
        bars: FloatArray = np.concatenate(self._pages)["ohlcv"].astype(np.float64)
        return bars

    @property
    def last(self) -> tuple[IntArray, FloatArray]:
        """Return start (1,) and bar (1, 5) of the last row; empty arrays if there is none."""
        rows = self._pages[-1][-1:]
        return rows["timestamp"].astype(np.int64), rows["ohlcv"].astype(np.float64)

    def append(self, timestamp: IntArray, ohlcv: FloatArray) -> None:
        """Append rows and flush them to disk; there must be at least one, all later than the last."""
        rows = np.empty(len(timestamp), dtype=ROW)
        rows["timestamp"], rows["ohlcv"] = timestamp, ohlcv
        append(self.path, rows.tobytes())
        self._pages.append(rows)
        self.rows += len(rows)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def open_journal(bars_path: Path, kind: str, latest_start_ns: int) -> Journal:
    """Open the journal of a span that starts at or before latest_start_ns, resuming that of a killed run."""
    bars_path.parent.mkdir(parents=True, exist_ok=True)
    found = {int(path.suffixes[-2][1:]): path for path in _partials(bars_path, kind)}
    start_ns = max((ns for ns in found if ns <= latest_start_ns), default=latest_start_ns)
    for other in found.keys() - {start_ns}:  # a shorter span, or older than the one in use
        found[other].unlink()
    return Journal(bars_path.with_name(f"{bars_path.stem}.{kind}.{start_ns}.partial"), start_ns)


def remove_journals(bars_path: Path) -> None:
    """Delete all journals of a file."""
    for path in _partials(bars_path, "*"):
        path.unlink()


def _partials(bars_path: Path, kind: str) -> list[Path]:
    """Return the journals of a file."""
    pattern = f"{glob.escape(bars_path.stem)}.{kind}.*.partial"
    return [bars_path.parent / name for name in glob.glob(pattern, root_dir=bars_path.parent)]


def _whole_rows(path: Path, start_ns: int) -> "np.ndarray[tuple[int], np.dtype[np.void]]":
    """Read the rows of a journal; truncate it after the last row that a killed run wrote completely."""
    if not path.is_file():
        return np.empty(0, dtype=ROW)
    rows = np.fromfile(path, dtype=ROW)
    step = np.diff(rows["timestamp"], prepend=start_ns - 1)
    torn = np.flatnonzero(step <= 0)
    rows = rows[: torn[0]] if len(torn) else rows
    os.truncate(path, rows.nbytes)
    return rows
