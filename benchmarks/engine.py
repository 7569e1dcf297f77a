"""What the study engine adds to a trial, beside plain Optuna; and 16 workers on one SQLite file.

A trial here trains nothing: it reports two windows and scores. "claim" is all that happens before a trial can
start, under the lock: reap, count, propose, take the lease, store the run. "whole" goes on to its record, its
note and its telling. Plain Optuna asks, suggests, reports twice and tells, on SQLite and in memory. Ends with
one JSON line.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from optimize.database import open_engine
from optimize.search.samplers import make_sampler
from optimize.search.space import parse_space
from optimize.search.spec import SamplerSpec
from optimize.search.storage import load_or_create_study, open_storage
from optimize.study.control import NoTrial
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import perform

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

from benchmarks.stored_trials import insert_trials
from benchmarks.trivial import (
    SPACE,
    engine_study,
    engine_trial,
    fill_engine,
    plain_trial,
    random_trials,
    trivial_trials,
)

BEGIN_S = 300.0  # in which all workers of a crowd are there
TARGET_MS = 60.0  # of a claim above an ask of Optuna's sampler in memory: a tenth of a small trial


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    finished: tuple[int, ...] = (1_000, 5_000, 10_000)  # trials that have finished before
    rounds: int = 40
    workers: int = 16
    trials: int = 1_000  # of the crowd


QUICK = Size((200,), 8, 16, 64)
TINY = Size((4,), 2, 2, 4)


def main() -> None:
    """Measure, print a table, end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few finished trials and a small crowd's study")
    parser.add_argument("--tiny", action="store_true", help="see that it runs")
    options = parser.parse_args()
    size = TINY if options.tiny else QUICK if options.quick else Size()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    overheads = {}
    for finished in size.finished:
        with tempfile.TemporaryDirectory() as folder:
            overheads[finished] = overhead(Path(folder), finished, size.rounds)
        for name, milliseconds in overheads[finished].items():
            print(f"{finished:>6} finished trials  {name:<24} {milliseconds:7.1f} ms", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        crowds = crowd(Path(folder), size)
    for name, figures in crowds.items():
        print(f"{size.workers} workers on one SQLite file, {name}: {figures}", flush=True)
    result = {
        "overhead_ms": overheads,
        "crowd": crowds,
        "target_ms": TARGET_MS,
        "reached": all(each["claim above memory"] <= TARGET_MS for each in overheads.values()),
        "exact": crowds["engine"]["counted"] == size.trials,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps(result))


def overhead(folder: Path, finished: int, rounds: int) -> dict[str, float]:
    """Return medians in milliseconds, one trial of each contender after the other in every round."""
    context, windowed = engine_study(folder, 10**6)
    trivial_trials()
    space, past = context.space, random_trials(context.space, finished)
    fill_engine(context, windowed, past)
    tpe = optuna.samplers.TPESampler(seed=0)
    storage, engine = open_storage(plain_url(folder)), open_engine(plain_url(folder))
    on_disk = load_or_create_study(storage, "plain", sampler=tpe)
    with engine.begin() as conn:
        insert_trials(conn, storage.get_study_id_from_name("plain"), past)
    engine.dispose()
    in_memory = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    in_memory.add_trials(past)
    contenders: dict[str, Callable[[], tuple[float, float]]] = {
        "engine": lambda: engine_trial(context, windowed),
        "optuna on SQLite": lambda: plain_trial(on_disk, space),
        "optuna in memory": lambda: plain_trial(in_memory, space),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            measured = run()
            if number:  # the first reads all finished trials once
                times[name].append(measured)
    asks = {name: 1e3 * statistics.median(ask for ask, _ in rows) for name, rows in times.items()}
    wholes = {name: 1e3 * statistics.median(whole for _, whole in rows) for name, rows in times.items()}
    context.close()
    return {
        "engine claim": asks["engine"],
        "optuna ask on SQLite": asks["optuna on SQLite"],
        "optuna ask in memory": asks["optuna in memory"],
        "claim above memory": asks["engine"] - asks["optuna in memory"],
        "engine whole": wholes["engine"],
        "optuna whole on SQLite": wholes["optuna on SQLite"],
        "optuna whole in memory": wholes["optuna in memory"],
    }


def crowd(folder: Path, size: Size) -> dict[str, dict[str, Any]]:
    """Let many processes work on one file: on a study of the engine, then on one of plain Optuna."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["optimize.study.workers.process", "optuna.storages"])
    context, _ = engine_study(folder, size.trials)
    load_or_create_study(open_storage(plain_url(folder)), "plain")
    results = {}
    for name, work in (("engine", work_engine), ("optuna", work_plain)):
        errors = forkserver.SimpleQueue()
        barrier = forkserver.Barrier(size.workers + 1)
        given = (folder, size.trials, barrier, errors)
        workers = [forkserver.Process(target=work, args=given) for _ in range(size.workers)]
        for worker in workers:
            worker.start()
        barrier.wait(BEGIN_S)
        started = time.perf_counter()
        for worker in workers:
            worker.join()
        seconds = time.perf_counter() - started
        counted = count(context.study if name == "engine" else load_plain(folder))
        results[name] = {
            "counted": counted,
            "cap": size.trials,
            "seconds": round(seconds, 1),
            "ms_per_trial": round(1e3 * seconds / counted, 1),
            "errors": sorted(set(drain(errors))),
        }
    context.close()
    return results


def work_engine(folder: Path, n_trials: int, barrier: Any, errors: Any) -> None:
    """Run trials of the engine's study until its cap."""
    with reported(errors, barrier):
        trivial_trials()
        context, windowed = engine_study(folder, n_trials)
        barrier.wait(BEGIN_S)
        while (found := claim(context, 0, lambda _: windowed)) is not NoTrial.FULL:
            if isinstance(found, Claim):
                perform(context, found, lambda: False)
            elif found in (NoTrial.WAIT, NoTrial.SHORT):
                time.sleep(0.05)
            else:  # nothing would ever change it
                raise RuntimeError(f"there is no trial to run: {found.value}")


def work_plain(folder: Path, n_trials: int, barrier: Any, errors: Any) -> None:
    """Run trials of plain Optuna until their number is reached, as its own callback counts."""
    with reported(errors, barrier):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study, space = load_plain(folder), parse_space(SPACE)
        barrier.wait(BEGIN_S)
        while count(study) < n_trials:
            plain_trial(study, space)


def load_plain(folder: Path) -> optuna.Study:
    """Return the study of plain Optuna, with the engine's sampler."""
    sampler = make_sampler(SamplerSpec(), 0, parse_space(SPACE))
    return load_or_create_study(open_storage(plain_url(folder)), "plain", sampler=sampler)


def plain_url(folder: Path) -> str:
    """Return the address of plain Optuna's file."""
    return f"sqlite:///{folder / 'plain.db'}"


def count(study: optuna.Study) -> int:
    """Return how many trials are done."""
    done = (TrialState.COMPLETE, TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=done))


@contextmanager
def reported(errors: Any, barrier: Any) -> Iterator[None]:
    """Send the error of a process that fails to the one that waits for it, at the barrier too."""
    try:
        yield
    except BaseException:
        barrier.abort()  # else all others wait BEGIN_S for this process
        errors.put(traceback.format_exc().strip().splitlines()[-1])
        raise


def drain(errors: Any) -> Iterator[str]:
    """Yield what processes said before they failed."""
    while not errors.empty():
        yield errors.get()


if __name__ == "__main__":
    main()
