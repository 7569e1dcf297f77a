"""How often a whole study on noise ends in a discovery; ends with one JSON line.

Every study runs as a user would run it: search, finalists on fresh seeds, export with the default gates, and
the holdout of an exported bundle. Its market is a random walk with realistic noise, so that each discovery is
false. One line a study is kept in `results/null_studies.jsonl`; a run that was stopped goes on after it.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # this is a script

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks.discovery_markets import make_bars  # noqa: E402
from optimize import compose, run_study  # noqa: E402
from optimize.atomic import append  # noqa: E402
from optimize.bundles.export import export_best  # noqa: E402
from optimize.bundles.gated_rows import gated_rows  # noqa: E402
from optimize.bundles.holdout import measure_holdout  # noqa: E402
from optimize.cli.composition import compose_jobs  # noqa: E402
from optimize.database import Engine, open_engine  # noqa: E402
from optimize.errors import WalkforgeError  # noqa: E402
from optimize.report.luck import refresh_luck  # noqa: E402
from optimize.report.selection import selection_now  # noqa: E402
from optimize.results.luck import load_luck, load_luck_sets  # noqa: E402
from optimize.results.queries import best_models  # noqa: E402
from optimize.results.records import load_study  # noqa: E402
from optimize.results.states import LuckVerdict  # noqa: E402
from optimize.study.finalists.run import FinalistSettings, run_finalists  # noqa: E402

LINES = FOLDER / "results" / "null_studies.jsonl"
STUDIES, QUICK = 100, 3
BARS = 8760  # a year of hours
NAME = "noise"
WORDS = (
    f"name={NAME}", "n_trials=12", "worker.count=1", "preflight=false", "data=file", "data.path=bars.parquet",
    "cost=fx", "session=crypto", "feature.indicators=[returns,time_of_day]", "window.count=3",
    "agent.total_timesteps=4096",
)  # fmt: skip
FINALISTS, SEEDS = 3, 3


def run_one(seed: int) -> dict[str, Any]:
    """Run one study on noise through the whole pipeline; return how it ended."""
    with own_folder():
        make_bars(0.0, BARS, seed).to_parquet("bars.parquet")
        return {"seed": seed, **whole_study([*WORDS, f"seed={seed}"], FINALISTS, SEEDS)}


def whole_study(words: Sequence[str], top_n: int, seeds: int) -> dict[str, Any]:
    """Run the study `noise` of these words in the current folder, its finalists and its export."""
    spec = compose("study", words)
    with Path("study.log").open("w", encoding="utf-8") as log:
        run_study(spec, Console(file=log))
    engine = open_engine(spec.database.url)
    try:
        settings = FinalistSettings(NAME, top_n, seeds, database=spec.database, worker=spec.worker)
        ranked = best_models(engine, NAME, 1)  # none where a gate blocks every trial
        finalists = run_finalists(settings, _silent).finalists if ranked else ()
        first = finalists[0] if finalists else None
        exported = _export(engine)  # measures the luck anew, now that the finalists are tries too
        return {
            **_verdict(engine),
            "fresh": None if first is None else first.fresh_score,
            "lower_bound": None if first is None else first.lower_bound,
            **exported,
        }
    finally:
        engine.dispose()


@contextmanager
def own_folder() -> Iterator[None]:
    """Work in a temporary folder, which has a database of its own: studies on noise share no tries."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _silent(line: str) -> None:
    """Drop a line of progress."""


def _export(engine: Engine) -> dict[str, Any]:
    """Export the best trial with the default gates, and open its holdout; return the outcome.

    Only a refusal by a gate counts as one: any other error of the export ends the benchmark.
    """
    (job,) = compose_jobs("export", [f"name={NAME}"])
    refresh_luck(engine, NAME)
    try:
        rows = gated_rows(engine, NAME, 1, job.config, _silent)
    except WalkforgeError as refusal:
        return {"exported": False, "refusal": str(refusal), "holdout": None}
    if not rows:
        return {"exported": False, "refusal": "no trial has a score", "holdout": None}
    (bundle,) = export_best(engine, "studies", NAME, 1, _silent, gates=job.config)
    return {"exported": True, "refusal": None, "holdout": measure_holdout(engine, bundle.folder).score}


def _verdict(engine: Engine) -> dict[str, Any]:
    """Return the best score of the search, its luck, and the selection walk-forward."""
    best = best_models(engine, NAME, 1)
    with engine.connect() as conn:
        luck, record = load_luck(conn, NAME), load_study(conn, NAME)
        sets = load_luck_sets(conn, NAME)
        year = best[0].sessions_per_year if best else None
        selection = None if record is None or year is None else selection_now(conn, record, year)
    own = next((each for each in sets if best and each.run_uuid == best[0].run_uuid), None)
    return {
        "score": best[0].score if best else None,
        "found": luck is not None and luck.verdict == LuckVerdict.FOUND,
        "found_against_hold": luck is not None and luck.verdict_buy_and_hold == LuckVerdict.FOUND,
        "p_flat": None if luck is None else luck.p_flat,
        "p_hold": None if luck is None else luck.p_buy_and_hold,
        "deflated": None if own is None else own.deflated_sharpe_ratio,
        "sessions": None if luck is None else luck.n_sessions,
        "tries": None if luck is None else luck.n_tries,
        "selection": None if selection is None else selection.sharpe,
    }


def kept(path: Path) -> list[dict[str, Any]]:
    """Return the stored studies."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summary(studies: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many studies ended in each kind of discovery, and the mean scores along the way."""
    steps = ("score", "selection", "fresh", "holdout")
    return {
        "studies": len(studies),
        "exported": sum(each["exported"] for each in studies),
        "found": sum(each["found"] for each in studies),
        "exported_and_found": sum(each["exported"] and each["found"] for each in studies),
        "fresh_above_zero": sum((each["lower_bound"] or 0.0) > 0 for each in studies),
        "means": {
            step: round(float(np.mean(known)), 2)
            for step in steps
            if (known := [each[step] for each in studies if each[step] is not None])
        },
        "sessions": round(float(np.mean([each["sessions"] or 0 for each in studies]))),
    }


def run_missing(path: Path, workers: int) -> None:
    """Run the studies that are missing, in so many processes, and keep each when it ends."""
    done = {each["seed"] for each in kept(path)}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(run_one, seed) for seed in range(STUDIES) if seed not in done]
        for ended in as_completed(running):
            study = ended.result()
            append(path, (json.dumps(study) + "\n").encode())
            print(f"the study of seed {study['seed']} has ended", flush=True)


def main() -> None:
    """Run the studies that are missing, and count how they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} studies, kept nowhere")
    parser.add_argument("--count", action="store_true", help="run nothing: count those that are stored")
    parser.add_argument("--workers", type=int, default=1, help="studies that run at a time")
    asked = parser.parse_args()
    if not asked.quick and not asked.count:
        run_missing(LINES, asked.workers)
    studies = [run_one(seed) for seed in range(QUICK)] if asked.quick else kept(LINES)
    print(json.dumps(summary(studies)))


if __name__ == "__main__":
    main()
