"""A download under way: pages appended to a file, so that a killed one goes on where it stopped."""

import glob
import os
from pathlib import Path

import numpy as np

from envs.types import FloatArray, IntArray

ROW = np.dtype([("timestamp", "<i8"), ("ohlcv", "<f8", 5)])


class Partial:
    """The rows of one span that were downloaded so far; its start is in the name of its file."""

    def __init__(self, path: Path, start_ns: int) -> None:
        self.path = path
        self.start_ns = start_ns
        self._pages = [_whole_rows(path, start_ns)]
        self.rows = len(self._pages[0])

    @property
    def timestamp(self) -> IntArray:
        """Return the stamps (R,) in UTC nanoseconds."""
        stamps: IntArray = np.concatenate(self._pages)["timestamp"].astype(np.int64)
        return stamps

    @property
    def ohlcv(self) -> FloatArray:
        """Return the bars (R, 5)."""
        bars: FloatArray = np.concatenate(self._pages)["ohlcv"].astype(np.float64)
        return bars

    @property
    def last(self) -> tuple[IntArray, FloatArray]:
        """Return the stamp (1,) and bar (1, 5) of the last row, (0,) and (0, 5) where there is none."""
        rows = self._pages[-1][-1:]
        return rows["timestamp"].astype(np.int64), rows["ohlcv"].astype(np.float64)

    def append(self, timestamp: IntArray, ohlcv: FloatArray) -> None:
        """Add rows, at least one and all of them later than the last, and flush them to disk."""
        rows = np.empty(len(timestamp), dtype=ROW)
        rows["timestamp"], rows["ohlcv"] = timestamp, ohlcv
        with self.path.open("ab") as stream:
            stream.write(rows.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        self._pages.append(rows)
        self.rows += len(rows)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def open_partial(bars_path: Path, kind: str, latest_start_ns: int) -> Partial:
    """Open the rows of a span that starts no later than wanted, those of a killed run if there are any."""
    bars_path.parent.mkdir(parents=True, exist_ok=True)
    found = {int(path.suffixes[-2][1:]): path for path in _partials(bars_path, kind)}
    start_ns = max((ns for ns in found if ns <= latest_start_ns), default=latest_start_ns)
    for other in found.keys() - {start_ns}:  # of a shorter span, or older than the one that is used
        found[other].unlink()
    return Partial(bars_path.with_name(f"{bars_path.stem}.{kind}.{start_ns}.partial"), start_ns)


def remove_partials(bars_path: Path) -> None:
    """Delete what was left of any download of a file."""
    for path in _partials(bars_path, "*"):
        path.unlink()


def _partials(bars_path: Path, kind: str) -> list[Path]:
    """Return the rows that were left of downloads of a file."""
    pattern = f"{glob.escape(bars_path.stem)}.{kind}.*.partial"
    return [bars_path.parent / name for name in glob.glob(pattern, root_dir=bars_path.parent)]


def _whole_rows(path: Path, start_ns: int) -> "np.ndarray[tuple[int], np.dtype[np.void]]":
    """Read the rows of a file and cut off what a killed run or a crashed machine left of the last ones."""
    if not path.is_file():
        return np.empty(0, dtype=ROW)
    rows = np.fromfile(path, dtype=ROW)
    step = np.diff(rows["timestamp"], prepend=start_ns - 1)
    torn = np.flatnonzero(step <= 0)
    rows = rows[: torn[0]] if len(torn) else rows
    os.truncate(path, rows.nbytes)
    return rows
