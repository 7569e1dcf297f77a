"""What people read of a study, at 1,000 and 10,000 trials, on SQLite and PostgreSQL, in CPU-seconds.

Databases hold the rows that workers leave: trials of eight parameters, four reports, four windows and a year
of session returns; a tenth is pruned, a quarter repeats the parameters of another, and luck was measured
after the launch. Each verb is measured in this process (the median of three) and as a whole process with its
start; a server's share is counted with it. Targets: each under 5 CPU-seconds in this process, and at ten
times the trials at most 12 times as much. It ends with one JSON line. `--quick` takes 200 and 2,000 trials.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
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
from optuna.distributions import (  # noqa: E402
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial  # noqa: E402
from sqlalchemy import Engine, insert  # noqa: E402

from benchmarks.stored_trials import insert_trials  # noqa: E402
from envs.plain import to_plain  # noqa: E402
from envs.types import FloatArray  # noqa: E402
from optimize import clock  # noqa: E402
from optimize.cli.status import study_status  # noqa: E402
from optimize.database import DatabaseSpec, open_engine  # noqa: E402
from optimize.doctor.examination import treat  # noqa: E402
from optimize.evaluate.captions import BUY_AND_HOLD  # noqa: E402
from optimize.report.luck import luck_now, measure_luck, refresh_luck, with_luck  # noqa: E402
from optimize.results.creation import create_tables  # noqa: E402
from optimize.results.queries import best_models, run_query  # noqa: E402
from optimize.results.records import (  # noqa: E402
    BaselineRecord,
    RunRecord,
    StudyRecord,
    WindowRecord,
    load_study,
    save_baselines,
    save_study,
)
from optimize.results.returns import save_sessions  # noqa: E402
from optimize.results.rows import values_of  # noqa: E402
from optimize.results.runs import load_run, parameter_set  # noqa: E402
from optimize.results.states import RunState, TryKind  # noqa: E402
from optimize.results.tables import RUNS, SESSION_RETURNS, TRIED_RUNS, WINDOWS  # noqa: E402
from optimize.results.tries import Try  # noqa: E402
from optimize.results.views import create_views  # noqa: E402
from optimize.search.storage import load_or_create_study, open_storage  # noqa: E402
from optimize.study.spec import StudySpec, resolve  # noqa: E402

NAME = "records"
N_WINDOWS, BATCH = 4, 200
SESSIONS = 63  # of each window, so that a trial has a year of them
LIMIT_CPU_S, LIMIT_GROWTH = 5.0, 12.0
DAY = date(2024, 1, 2)
DAYS = np.datetime64(DAY) + np.arange(N_WINDOWS * SESSIONS).reshape(N_WINDOWS, SESSIONS)
LAST = date(2024, 12, 31)
YEAR = 252.0
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
    """Write a finished study: the rows that its workers would have left, many by one statement."""
    plain = to_plain(resolve(StudySpec(name=NAME, n_trials=trials, output_dir=str(output_dir))))
    engine, storage = open_engine(url), open_storage(url)
    create_tables(engine)
    load_or_create_study(storage, NAME)
    study_id = storage.get_study_id_from_name(NAME)
    create_views(engine)
    storage.engine.dispose()
    with engine.begin() as conn:
        save_study(conn, StudyRecord(NAME, "single", trials, 0, 3, plain, {}, "", plain["score"], "", "", {}))
        save_sessions(conn, NAME, dict(enumerate(DAYS)))
        hold = {"sessions": DAYS.astype(str).tolist(), "returns": _returns(10**9).tolist()}
        baseline = BaselineRecord(NAME, "None", BUY_AND_HOLD, 0.5, 0.5, 0.1, 0.0, 1.0, hold)
        save_baselines(conn, [baseline])
    for first in range(0, trials, BATCH):
        numbers = range(first, min(first + BATCH, trials))
        runs = [_run(number, plain) for number in numbers]
        windows = [window for run in runs for window in _windows(run, output_dir / NAME)]
        sets = [{"parameter_set": parameter_set(run.parameters)} for run in runs]
        with engine.begin() as conn:
            conn.execute(
                insert(RUNS), [values_of(run) | of_set for run, of_set in zip(runs, sets, strict=True)]
            )
            conn.execute(insert(WINDOWS), [values_of(window) for window in windows])
            conn.execute(insert(SESSION_RETURNS), [row for run in runs for row in _stored_returns(run)])
            conn.execute(insert(TRIED_RUNS), [values_of(_try_of(run)) for run in runs])
            insert_trials(conn, study_id, [_optuna_trial(run) for run in runs], first)
    engine.dispose()


def _run(number: int, plain: dict[str, Any]) -> RunRecord:
    pruned = number % 10 == 9
    score = None if pruned else float(np.random.default_rng([1, number]).normal())
    return RunRecord(
        str(uuid.UUID(int=number << 96)), NAME, number, parameters_of(number), plain, [0, number], {}, "",
        state=RunState.PRUNED if pruned else RunState.COMPLETE, score=score, standard_error=0.5, seconds=1.0,
        reason="pruner: below the median after window 1" if pruned else None,
        metrics={"exposure": 0.5, "sessions_per_year": YEAR}, finished_at=clock.now(),
    )  # fmt: skip


def _windows(run: RunRecord, folder: Path) -> Iterator[WindowRecord]:
    place = Path("trials") / f"{run.trial_number:04d}_{run.run_uuid[:8]}"
    (folder / place).mkdir(parents=True)
    for window in range(N_WINDOWS):
        path = place / f"{window}.parquet"
        (folder / path).write_bytes(b"PAR1 PAR1")
        yield WindowRecord(run.run_uuid, window, 0, *(DAY,) * 4, 400, 100, *(0.5,) * 10, str(path))


def _returns(number: int) -> FloatArray:
    """Return the session returns of a trial by window."""
    return np.random.default_rng([2, number]).normal(0, 0.01, (N_WINDOWS, SESSIONS))


def _stored_returns(run: RunRecord) -> Iterator[dict[str, Any]]:
    windows = 2 if run.state == RunState.PRUNED else N_WINDOWS
    for window, returns in enumerate(_returns(run.trial_number)[:windows]):
        yield {"run_uuid": run.run_uuid, "window": window, "repeat": 0, "returns": returns.tolist()}


def _try_of(run: RunRecord) -> Try:
    return Try(run.run_uuid, TryKind.TRIAL, NAME, ["EURUSD"], DAY, LAST, run.trial_number)


def _optuna_trial(run: RunRecord) -> FrozenTrial:
    return create_trial(
        state=TrialState[run.state],
        value=run.score,
        params=dict(run.parameters),
        distributions=DISTRIBUTIONS,
        user_attrs={"run_uuid": run.run_uuid, "repetition": 0, "feasible": True},
        intermediate_values=dict.fromkeys(range(N_WINDOWS), 0.5),
    )


def _selection(engine: Engine, url: str, folder: Path) -> object:
    with engine.connect() as conn:
        return [load_run(conn, row.run_uuid or "") for row in best_models(engine, NAME, 3)]


def _all_rows(view: str) -> Verb:
    def read(engine: Engine, url: str, folder: Path) -> object:
        with engine.connect() as conn:
            return conn.exec_driver_sql(f"SELECT * FROM {view} WHERE study_name = '{NAME}'").all()

    return read


def _board(engine: Engine, url: str, folder: Path) -> object:
    """Read a leaderboard with its luck, which is fresh."""
    rows = best_models(engine, NAME, 10)
    with engine.connect() as conn:
        record = load_study(conn, NAME)
        assert record is not None
        found = luck_now(conn, url, record, None)
    assert found is not None
    return with_luck(rows, found.sets)


def _measured_luck(engine: Engine, url: str, folder: Path) -> object:
    with engine.connect() as conn:
        record = load_study(conn, NAME)
        assert record is not None
        return measure_luck(conn, record, YEAR)


VERBS: dict[str, Verb] = {
    "leaderboard": _board,
    "luck, measured anew": _measured_luck,
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


class Spent:
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


def measure(url: str, folder: Path, spent_by: Spent) -> dict[str, dict[str, float]]:
    """Return the CPU-seconds of every verb, in this process and as a whole process."""
    found: dict[str, dict[str, float]] = {}
    engine = open_engine(url, read_only=True)
    for name, verb in VERBS.items():
        spent = []
        for _ in range(3):
            before = spent_by.now()
            assert verb(engine, url, folder)
            spent.append(spent_by.now() - before)
        found[name] = {"in_process": statistics.median(spent)}
        if name in COMMANDS:
            command = [sys.executable, "-m", "optimize", *COMMANDS[name], f"database.url={url}"]
            command += [f"output_dir={folder}"] * (name == "doctor")
            before = spent_by.now()
            subprocess.run(command, cwd=folder, check=False, capture_output=True)
            found[name]["whole_process"] = spent_by.now() - before
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
                writing = open_engine(url)
                refresh_luck(writing, NAME)
                writing.dispose()
                detail.setdefault(kind, {})[str(trials)] = measure(url, folder, Spent(server))
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
