"""What people read of a study, at 1,000 and 10,000 trials, on SQLite and PostgreSQL, in CPU-seconds.

Databases are filled through the functions that a worker uses: trials of eight parameters, four reports and
four windows; a tenth is pruned, a quarter repeats the parameters of another. Each verb is measured in this
process (the median of three) and as a whole process with its start; a server's share is counted with it.
Targets: each under 5 CPU-seconds in this process, and at ten times the trials at most 12 times as much. It
ends with one JSON line. `--quick` takes 200 and 2,000 trials.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # this is a script

import numpy as np  # noqa: E402
import optuna  # noqa: E402
import psutil  # noqa: E402
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402
from sqlalchemy import Connection, Engine  # noqa: E402

from optimize.cli.status import study_status  # noqa: E402
from optimize.database import DatabaseSpec, open_engine  # noqa: E402
from optimize.results.leases import acquire, release  # noqa: E402
from optimize.results.queries import leaderboard, run_query  # noqa: E402
from optimize.results.records import Outcome, RunRecord, StudyRecord, WindowRecord, save_study  # noqa: E402
from optimize.results.runs import finish_run, load_run, save_window, start_run  # noqa: E402
from optimize.results.tables import create_tables  # noqa: E402
from optimize.results.views import create_views  # noqa: E402
from optimize.search.storage import load_or_create_study, open_storage  # noqa: E402
from optimize.study.doctor.examination import treat  # noqa: E402
from optimize.study.spec import StudySpec, resolve, to_plain  # noqa: E402

NAME = "records"
WINDOWS, BATCH = 4, 200
LIMIT_CPU_S, LIMIT_GROWTH = 5.0, 12.0
DAY = date(2024, 1, 2)
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "agent.net": CategoricalDistribution(["tiny", "small", "medium", "large"]),
    "feature.indicators": CategoricalDistribution(["returns", "trend", "all"]),
    **{f"agent.rate_{k}": FloatDistribution(1e-6, 1.0, log=True) for k in range(6)},
}
Verb = Callable[[Engine, str, Path], object]


def parameters_of(number: int) -> dict[str, Any]:
    """Return the parameters of a trial: every second set comes twice."""
    drawn = np.random.default_rng(number - (number % 4 == 3))
    values: dict[str, Any] = {
        "agent.net": ["tiny", "small", "medium", "large"][int(drawn.integers(4))],
        "feature.indicators": ["returns", "trend", "all"][int(drawn.integers(3))],
    }
    return values | {f"agent.rate_{k}": float(10 ** drawn.uniform(-6, 0)) for k in range(6)}


def fill(url: str, output_dir: Path, trials: int) -> None:
    """Write a finished study, as its workers would, but for the training."""
    spec = resolve(StudySpec(name=NAME, n_trials=trials, output_dir=str(output_dir)))
    plain = to_plain(spec)
    engine, storage = open_engine(url), open_storage(url)
    create_tables(engine)
    study = load_or_create_study(storage, NAME)
    create_views(engine)
    record = StudyRecord(NAME, "single", trials, 0, 3, plain, {}, "", plain["score"], "", "", {})
    with engine.begin() as conn:
        save_study(conn, record)
    for first in range(0, trials, BATCH):
        numbers = range(first, min(first + BATCH, trials))
        with engine.begin() as conn:
            uuids = [_run(conn, number, plain, output_dir / NAME) for number in numbers]
        for number, uuid in zip(numbers, uuids, strict=True):
            study.add_trial(_trial(number, uuid))
    storage.engine.dispose()
    engine.dispose()


def _run(conn: Connection, number: int, plain: dict[str, Any], folder: Path) -> str:
    lease = acquire(conn, NAME, number, worker=0, lease_s=60.0, now=time.time())
    parameters = parameters_of(number)
    run = RunRecord(lease.run_uuid, NAME, number, parameters, plain, [0, number], {}, "")
    start_run(conn, lease, run)
    for window in range(WINDOWS):
        path = (
            Path("trials")
            / f"{number:04d}_{lease.run_uuid[:8]}"
            / "windows"
            / f"{window}"
            / "returns.parquet"
        )
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"PAR1 PAR1")
        dates, numbers = (DAY,) * 4, (0.5,) * 10
        save_window(conn, lease, WindowRecord(run.run_uuid, window, 0, *dates, 400, 100, *numbers, str(path)))
    finish_run(conn, lease, _outcome(number))
    release(conn, lease)
    return lease.run_uuid


def _outcome(number: int) -> Outcome:
    if number % 10 == 9:
        return Outcome("PRUNED", 1.0, reason="pruner: below the median after window 1")
    score = float(np.random.default_rng([1, number]).normal())
    return Outcome("COMPLETE", 1.0, score=score, standard_error=0.5, metrics={"exposure": 0.5})


def _trial(number: int, run_uuid: str) -> optuna.trial.FrozenTrial:
    outcome = _outcome(number)
    return create_trial(
        state=TrialState[outcome.state],
        value=outcome.score,
        params=parameters_of(number),
        distributions=DISTRIBUTIONS,
        intermediate_values={step: 0.5 for step in range(WINDOWS)},
        user_attrs={"run_uuid": run_uuid, "repetition": 0, "feasible": True},
    )


def _selection(engine: Engine, url: str, folder: Path) -> object:
    with engine.connect() as conn:
        return [load_run(conn, row.run_uuid or "") for row in leaderboard(engine, NAME, 3)]


def _all_rows(view: str) -> Verb:
    def read(engine: Engine, url: str, folder: Path) -> object:
        with engine.connect() as conn:
            return conn.exec_driver_sql(f"SELECT * FROM {view} WHERE study_name = '{NAME}'").all()

    return read


VERBS: dict[str, Verb] = {
    "leaderboard": lambda engine, url, folder: leaderboard(engine, NAME, 10),
    "query best_models": lambda engine, url, folder: run_query(engine, "best_models", {"name": NAME}),
    "query windows_of": lambda engine, url, folder: run_query(engine, "windows_of", {"name": NAME}),
    "best_models, all rows": _all_rows("best_models"),
    "trial_windows, all rows": _all_rows("trial_windows"),
    "export's selection": _selection,
    "status": lambda engine, url, folder: study_status(engine, NAME),
    "doctor": lambda engine, url, folder: list(treat(DatabaseSpec(url=url), str(folder), NAME, False)),
}
COMMANDS = {
    "leaderboard": ["leaderboard", f"name={NAME}"],
    "query best_models": ["query", "sql=best_models", f"name={NAME}"],
    "query windows_of": ["query", "sql=windows_of", f"name={NAME}"],
    "status": ["status", f"name={NAME}"],
    "doctor": ["doctor", f"name={NAME}"],
}


class Clock:
    """CPU time of this process, of the processes it ended, and of a database server."""

    def __init__(self, server: psutil.Process | None) -> None:
        self._server = server

    def now(self) -> float:
        """Return the seconds of processor time used so far."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = time.process_time() + ended.ru_utime + ended.ru_stime
        if self._server is None:
            return used
        for process in (self._server, *self._server.children(recursive=True)):
            try:
                spent = process.cpu_times()
            except psutil.NoSuchProcess:  # it ended, and its parent has its time
                continue
            used += spent.user + spent.system + spent.children_user + spent.children_system
        return used


def measure(url: str, folder: Path, clock: Clock) -> dict[str, dict[str, float]]:
    """Return the CPU-seconds of every verb, in this process and as a whole process."""
    found: dict[str, dict[str, float]] = {}
    engine = open_engine(url, read_only=True)
    for name, verb in VERBS.items():
        spent = []
        for _ in range(3):
            before = clock.now()
            assert verb(engine, url, folder)
            spent.append(clock.now() - before)
        found[name] = {"in_process": statistics.median(spent)}
        if name in COMMANDS:
            command = [sys.executable, "-m", "optimize", *COMMANDS[name], f"database.url={url}"]
            command += [f"output_dir={folder}"] * (name == "doctor")
            before = clock.now()
            subprocess.run(command, cwd=folder, check=False, capture_output=True)
            found[name]["whole_process"] = clock.now() - before
        print(
            f"  {name}: " + ", ".join(f"{key} {value:.2f} s" for key, value in found[name].items()),
            flush=True,
        )
    engine.dispose()
    return found


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[tuple[Callable[[int], str], psutil.Process | None]]:
    """Yield what gives the URL of a new database for so many trials, and the server, where there is one."""
    if kind == "sqlite":
        yield lambda trials: f"sqlite:///{folder / f'{trials}.db'}", None
        return
    from tests.postgres import find_binaries, run_server  # it needs an installed server

    binaries = find_binaries()
    if binaries is None:
        sys.exit("no PostgreSQL server is installed (apt-get install postgresql)")
    with run_server(binaries) as server:

        def create(trials: int) -> str:
            server.psql("postgres", "-c", f"CREATE DATABASE records_{trials}")
            return server.url(f"records_{trials}")

        listening = next(c.pid for c in psutil.net_connections() if c.laddr and c.laddr.port == server.port)
        yield create, psutil.Process(listening)


def main() -> None:
    """Fill, measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 and 2,000 trials")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one database")
    parser.add_argument("--trials", type=int, help="the smaller number; the larger is ten times that")
    given = parser.parse_args()
    few = given.trials or (200 if given.quick else 1000)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    detail: dict[str, dict[str, Any]] = {}
    for kind in [given.only] if given.only else ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory() as name, databases(kind, Path(name)) as (create, server):
            for trials in (few, 10 * few):
                folder, url = Path(name) / f"studies_{trials}", create(trials)
                print(f"{kind}, {trials} trials: writing them", flush=True)
                fill(url, folder, trials)
                detail.setdefault(kind, {})[str(trials)] = measure(url, folder, Clock(server))
    print(json.dumps(summary(few, detail)))


def summary(few: int, detail: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what was measured and whether the targets are met."""
    most, growth = 0.0, 0.0
    for sizes in detail.values():
        small, large = sizes[str(few)], sizes[str(10 * few)]
        for verb, found in large.items():
            most = max(most, found["in_process"])
            # What takes no time at the smaller size is compared with the shortest that the clock can tell.
            growth = max(growth, found["in_process"] / max(small[verb]["in_process"], 0.01))
    reached = most <= LIMIT_CPU_S and growth <= LIMIT_GROWTH
    return {
        "trials": [few, 10 * few],
        "most_cpu_s": most,
        "growth": growth,
        "reached": reached,
        "detail": detail,
    }


if __name__ == "__main__":
    main()
