"""Stored results of the battery: a line of JSON each, appended when it is measured, and the pool of jobs."""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.battery_markets import BARS, FRESH_BARS
from optimize.atomic import append

FOLDER = Path(__file__).resolve().parent
SCRATCH = FOLDER.parent / "build" / "battery"  # bars and markets, which are made anew where they are missing
Row = dict[str, Any]
Job = TypeVar("Job")
Result = TypeVar("Result")


def add_sizes(parser: argparse.ArgumentParser, raw: Path) -> None:
    """Add the options on markets, processes and stored results, which both benchmarks of the battery have."""
    parser.add_argument("--markets", type=int, default=1, help="of each kind and strength")
    parser.add_argument("--bars", type=int, default=BARS, help="of a market")
    parser.add_argument("--fresh", type=int, default=FRESH_BARS, help="bars on which the truth is measured")
    parser.add_argument("--workers", type=int, default=1, help="jobs that run at a time")
    parser.add_argument("--raw", type=Path, default=raw, help="file of the results that are kept")
    parser.add_argument("--count", action="store_true", help="run nothing: sum up those that are stored")


def read_rows(path: Path) -> list[Row]:
    """Return the stored rows; a line that a killed process left half written is dropped."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def keep_row(path: Path, row: Row) -> None:
    """Append a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    append(path, (json.dumps(row) + "\n").encode())


def measured(jobs: Sequence[Job], measure: Callable[[Job], Result], workers: int) -> Iterator[Result]:
    """Yield the result of every job when it is ready, from so many processes; one works in this process."""
    if workers == 1 or len(jobs) < 2:
        yield from map(measure, jobs)
        return
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for ended in as_completed([pool.submit(measure, job) for job in jobs]):
            yield ended.result()


def mean_and_error(values: Iterable[float]) -> tuple[float, float | None]:
    """Return the mean of values and its standard error, None for a single one."""
    found = np.array(list(values), np.float64)
    error = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else None
    return round(float(found.mean()), 3), None if error is None else round(error, 3)
