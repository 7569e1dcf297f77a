"""The linear probe on random walks, gross of costs, where its mean must be zero; ends with one JSON line.

Every walk is traded without costs by the probe of two kinds of inputs: those of the defaults, and columns at
several lags. Its noise is Student's t, alone or with volatility that clusters and has a season. Each result
is kept in `results/probe_noise.jsonl`, so that a run that was stopped goes on.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # this is a script

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy.stats import norm  # noqa: E402

from benchmarks.battery_markets import BARS, Place, frame_of, words_of  # noqa: E402
from benchmarks.battery_rows import Row, keep_row, mean_and_error, measured, read_rows  # noqa: E402
from benchmarks.battery_specs import settings_id, settings_of  # noqa: E402
from benchmarks.discovery_markets import make_bars  # noqa: E402
from benchmarks.probe_noise_table import noise_table  # noqa: E402
from optimize import compose  # noqa: E402
from optimize.agents.threads import limit_threads  # noqa: E402
from optimize.walkforward.markets import build_windowed_market  # noqa: E402
from optimize.walkforward.probe import evaluate_probe  # noqa: E402

RAW = FOLDER / "results" / "probe_noise.jsonl"
WALKS = 200  # of each kind of noise
QUICK_WALKS, QUICK_BARS = 3, 3000
ALL = "both"  # name of the row over both kinds of inputs
INPUTS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "columns": ("feature.forecast=none", "feature.forecast_alone=false", "feature.lookback=4"),
}
NOISE: dict[str, Callable[[int, int], pd.DataFrame]] = {
    "heavy tails": lambda number, bars: frame_of(place_of(number).planted(bars), 0),
    "clusters and season": lambda number, bars: make_bars(0.0, bars, number),
}


@dataclass(frozen=True)
class NoiseJob:
    """The probe of some inputs on one random walk."""

    noise: str
    number: int
    inputs: str
    settings_id: str
    bars: int

    @property
    def key(self) -> tuple[Any, ...]:
        """Return the identity of its row."""
        return self.settings_id, self.noise, self.number, self.bars


def place_of(number: int) -> Place:
    """Return the market of the battery that has this number and nothing to find."""
    return Place("noise", 0, number)


def probe_walk(job: NoiseJob) -> Row:
    """Fit and trade the probe on the windows of one walk, without costs; 0 where it never trades."""
    limit_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.parquet"
        NOISE[job.noise](job.number, job.bars).to_parquet(path)
        words = [*words_of(place_of(job.number), str(path)), "name=noise", "cost=zero", *INPUTS[job.inputs]]
        spec = compose("walk-forward", words)
        windowed = build_windowed_market(spec, None)
    began = time.process_time()
    found = evaluate_probe(spec, windowed)
    spent = time.process_time() - began
    return {
        "key": list(job.key),
        "inputs": job.inputs,
        "settings_id": job.settings_id,
        "sharpe": round(found.baseline.sharpe or 0.0, 4),
        "flat": sum(choice is None or choice.band is None for choice in found.choices),
        "windows": len(found.choices),
        "cpu_s": round(spent, 3),
    }


def jobs_of(walks: int, bars: int, raw: Path) -> list[NoiseJob]:
    """Return every probe of every walk, in an order in which all cells grow alike."""
    ids = {name: settings_id(settings_of("walk-forward", words), raw) for name, words in INPUTS.items()}
    return [
        NoiseJob(noise, number, inputs, ids[inputs], bars)
        for number in range(walks)
        for noise in NOISE
        for inputs in INPUTS
    ]


def summed_up(jobs: Sequence[NoiseJob], rows: Mapping[tuple[Any, ...], Row]) -> dict[str, Any]:
    """Return the mean gross Sharpe ratio with its error, by noise and inputs and over all walks."""
    known = [(job, rows[job.key]) for job in jobs if job.key in rows]
    cells = list(_cells(known))
    walks: dict[tuple[str, int], list[float]] = {}
    for job, row in known:
        walks.setdefault((job.noise, job.number), []).append(row["sharpe"])
    whole = [float(np.mean(each)) for each in walks.values() if len(each) == len(INPUTS)]
    if len(whole) > 1:
        cells.append({"noise": "all", "inputs": ALL, **_against_zero(whole)})
    return {
        "probes": len(known),
        "asked": len(jobs),
        "bars": jobs[0].bars,
        "cells": cells,
        "cpu_s": round(sum(row["cpu_s"] for _, row in known), 1),
    }


def _cells(known: Sequence[tuple[NoiseJob, Row]]) -> Iterator[dict[str, Any]]:
    """Yield the figures of every kind of noise and inputs that has two walks or more."""
    for noise in NOISE:
        for inputs in INPUTS:
            own = [row for job, row in known if (job.noise, job.inputs) == (noise, inputs)]
            if len(own) > 1:
                flat = sum(row["flat"] for row in own) / sum(row["windows"] for row in own)
                yield {
                    "noise": noise,
                    "inputs": inputs,
                    **_against_zero([row["sharpe"] for row in own]),
                    "flat": round(flat, 3),
                }


def _against_zero(sharpes: Sequence[float]) -> dict[str, Any]:
    """Return the mean with its standard error, and the chance of a mean as far from zero by luck alone."""
    mean, error = mean_and_error(sharpes)
    z = mean / error if error else 0.0
    return {
        "walks": len(sharpes),
        "mean": mean,
        "error": error,
        "deviation": round(float(np.std(sharpes, ddof=1)), 3),
        "p_value": round(float(2 * norm.sf(abs(z))), 3),
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_WALKS} short walks, none is kept")
    parser.add_argument("--walks", type=int, default=WALKS, help="of each kind of noise")
    parser.add_argument("--bars", type=int, default=BARS, help="of a walk")
    parser.add_argument("--workers", type=int, default=1, help="probes that run at a time")
    parser.add_argument("--raw", type=Path, default=RAW, help="file of the results that are kept")
    parser.add_argument("--count", action="store_true", help="run nothing: sum up those that are stored")
    return parser.parse_args()


def probed(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure the missing probes, keep each when it ends, and return the summary of all."""
    jobs = jobs_of(asked.walks, asked.bars, asked.raw)
    rows = {tuple(row["key"]): row for row in read_rows(asked.raw) if "key" in row}
    missing = [] if asked.count else [job for job in jobs if job.key not in rows]
    for count, row in enumerate(measured(missing, probe_walk, asked.workers), start=1):
        keep_row(asked.raw, row)
        rows[tuple(row["key"])] = row
        if count % 50 == 0 or count == len(missing):
            print(f"{count} of {len(missing)} missing probes measured", flush=True)
    return summed_up(jobs, rows)


def main() -> None:
    """Measure the probes that are missing and sum up."""
    asked, started = arguments(), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        if asked.quick:
            asked.walks, asked.bars, asked.raw = QUICK_WALKS, QUICK_BARS, Path(scratch) / RAW.name
        result = probed(asked)
    print(noise_table(result))
    print(json.dumps(result | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
