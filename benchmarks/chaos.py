"""A study under fire: workers and supervisors killed with -9, the disk full once; ends with one JSON line.

Afterwards every record is checked against every other and against the Parquet files. `--database both` asks
SQLite and a PostgreSQL server that the benchmark starts (its binaries must be installed).
"""

import argparse
import json
import math
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import psutil
import psycopg
from sqlalchemy import text

from optimize.database import open_engine

REPOSITORY = Path(__file__).resolve().parents[1]
NAME = "chaos"
SESSIONS_PER_YEAR = 365.25  # the synthetic market never closes
WINDOWS = 3
STATE_POLL_S = 0.1
MAX_LAUNCHES = 20
TINY_FILE = 4096  # bytes that a file may have while the disk is "full"
OVERRIDES = (
    f"name={NAME}", "preflight=false", "max_failures=100000", "worker.max_restarts=100000",
    "worker.lease_s=10", "data=synthetic", "data.synthetic.bars=1440", "env.rebalance_band=0",
    "feature.lookback=2", "feature.indicators=[returns]", "agent.n_envs=2", "agent.net=tiny",
    "agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=1", "agent.total_timesteps=64",
    f"window.count={WINDOWS}", "window.train_ratio=2", "window.min_train_bars=20", "score.min_periods=2",
    "score.min_trades=0", "score.min_volatility=0", "pruner=none", "sampler=random", "~space.agent",
    "+space.agent.learning_rate={low:1e-4,high:1e-2,log:true}",
)  # fmt: skip


@dataclass(frozen=True)
class Storm:
    """How hard a study is hit."""

    workers: int
    cap: int
    kill_every_s: float  # at least, between two workers killed; a window is finished in between
    disk_full_s: float
    seed: int = 0


@dataclass
class Toll:
    """What it cost."""

    workers_killed: int = 0
    supervisors_killed: int = 0
    disk_full: int = 0
    launches: int = 0
    seconds: float = 0.0


class Launch(Protocol):
    """A running `walkforge study`, as subprocess.Popen has it."""

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        ...

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        ...

    def wait(self) -> int:
        """Return the exit code once it has ended."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...


class Study:
    """One study as its database, its folder and its processes show it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.said = folder / "said.txt"

    def arguments(self, storm: Storm) -> tuple[str, ...]:
        """Return the arguments of `walkforge`."""
        places = (f"database.url={self.url}", f"n_trials={storm.cap}", f"worker.count={storm.workers}")
        return ("study", *OVERRIDES, *places)

    def launch(self, storm: Storm) -> Launch:
        """Start `walkforge study`, in a session of its own."""
        command = [sys.executable, "-m", "optimize", *self.arguments(storm)]
        with self.said.open("ab") as said:
            return subprocess.Popen(
                command, cwd=self.folder, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
            )

    def table(self, sql: str) -> pd.DataFrame:
        """Read the database as a stranger would; empty while there is none."""
        engine = open_engine(self.url)
        try:
            with engine.connect() as conn:
                return pd.read_sql_query(text(sql), conn)
        finally:
            engine.dispose()

    def counted(self) -> int:
        """Return the trials that have ended and count."""
        return self._count("SELECT COUNT(*) AS n FROM wf_runs WHERE state IN ('COMPLETE', 'PRUNED')")

    def windows(self) -> int:
        """Return the windows that were finished, each counted once however often its trial was taken over."""
        finished = 'SELECT DISTINCT trial_number, w."window", repeat FROM wf_windows w JOIN wf_runs r'
        return self._count(f"SELECT COUNT(*) AS n FROM ({finished} ON r.run_uuid = w.run_uuid) AS each_one")

    def _count(self, sql: str) -> int:
        try:
            return int(self.table(sql).n[0])
        except Exception as error:  # the first launch has not made its tables yet
            if "wf_" in str(error):
                return 0
            raise


def rage(study: Study, storm: Storm) -> Toll:
    """Run the study to its cap while workers die every moment, two supervisors die, and the disk fills."""
    chance, toll, started = random.Random(storm.seed), Toll(), time.monotonic()
    supervisor_deaths = [storm.cap // 4, storm.cap // 2]
    disk_fills_at = 3 * storm.cap // 4
    seen = 0  # windows at the last kill: a machine that is slow is not hit before it got anywhere
    while toll.launches < MAX_LAUNCHES:
        toll.launches += 1
        process = study.launch(storm)
        next_kill = time.monotonic() + storm.kill_every_s
        while process.poll() is None:
            time.sleep(STATE_POLL_S)
            if time.monotonic() < next_kill or (windows := study.windows()) == seen:
                continue
            seen = windows
            next_kill = time.monotonic() + storm.kill_every_s
            done = study.counted()
            if supervisor_deaths and done >= supervisor_deaths[0]:
                supervisor_deaths.pop(0)
                process.kill()
                toll.supervisors_killed += 1
            elif done >= disk_fills_at and not toll.disk_full:
                toll.disk_full += 1
                fill_disk(process.pid, storm.disk_full_s)
            elif done:
                toll.workers_killed += kill_one(process.pid, chance)
        if process.wait() == 0:
            break
    toll.seconds = round(time.monotonic() - started, 1)
    return toll


def kill_one(supervisor: int, chance: random.Random) -> int:
    """Kill a random worker, whether it runs a trial or waits for one; return how many were killed, 1 or 0."""
    with suppress(psutil.NoSuchProcess, IndexError):
        started = psutil.Process(supervisor).children(recursive=True)
        chance.choice([process for process in started if is_worker(process)]).kill()
        return 1
    return 0


def is_worker(process: psutil.Process) -> bool:
    """Return whether a process leads a process group, as each worker does and no forkserver."""
    try:
        return bool(os.getpgid(process.pid) == process.pid)
    except ProcessLookupError:
        return False


def fill_disk(supervisor: int, seconds: float) -> None:
    """Let no process of the study write past the start of any file for a while, as on a full disk."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    deadline = time.monotonic() + seconds
    limited: set[int] = set()
    with suppress(psutil.NoSuchProcess):
        while time.monotonic() < deadline:
            root = psutil.Process(supervisor)
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.rlimit(psutil.RLIMIT_FSIZE, (TINY_FILE, resource.RLIM_INFINITY))
                    limited.add(process.pid)
            time.sleep(STATE_POLL_S)
    for pid in limited:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, unlimited)


def check(study: Study, storm: Storm) -> dict[str, int]:
    """Compare all records with each other and with the Parquet files; raise AssertionError if one is off."""
    trials = study.table("SELECT number, state FROM trials")
    runs = study.table(
        "SELECT trial_number, attempt, run_uuid, state, parameters_json FROM wf_runs "
        "ORDER BY trial_number, attempt"
    )
    windows = study.table("SELECT * FROM wf_windows")
    ended = runs[runs.state.isin(["COMPLETE", "PRUNED"])]
    told = trials[trials.state.isin(["COMPLETE", "PRUNED"])]
    assert len(told) == storm.cap, f"{len(told)} counted trials, not {storm.cap}"
    assert set(trials.state) <= {"COMPLETE", "PRUNED", "FAIL"}, set(trials.state)
    assert set(runs.state) <= {"COMPLETE", "PRUNED", "FAIL", "LOST", "RETRIED"}, set(runs.state)
    assert study.table("SELECT * FROM wf_leases").empty, "a lease is left"
    assert not ended.trial_number.duplicated().any(), "a trial was counted twice"
    assert set(ended.trial_number) == set(told.number), "records and trials differ"
    kept = check_windows(runs, ended, windows)
    check_scores(study, ended, windows)
    return {
        "counted": len(told),
        "failed": int((trials.state == "FAIL").sum()),
        "runs_lost": int((runs.state == "LOST").sum()),
        "windows_taken_over": kept,
    }


def check_windows(runs: pd.DataFrame, ended: pd.DataFrame, windows: pd.DataFrame) -> int:
    """Prove that what a lost run had finished is in its trial's last run, unchanged; return how many such."""
    same = ["window", "repeat", "seconds", "sharpe", "total_return"]
    of_run = {
        uuid: set(group[same].itertuples(index=False, name=None))
        for uuid, group in windows.groupby("run_uuid")
    }
    kept: set[object] = set()
    for number, run_uuid in zip(ended.trial_number.tolist(), ended.run_uuid.tolist(), strict=True):
        last = of_run.get(run_uuid, set())
        assert len(last) == WINDOWS, f"trial {number} ended with {len(last)} of {WINDOWS} windows"
        lost = runs[(runs.trial_number == number) & (runs.state.isin(["LOST", "RETRIED"]))]
        for uuid in lost.run_uuid:
            finished = of_run.get(uuid, set())
            assert finished <= last, f"trial {number} ran a finished window again"
            kept |= {(number, *window) for window in finished}
    return len(kept)


def check_scores(study: Study, ended: pd.DataFrame, windows: pd.DataFrame) -> None:
    """Prove that best_models has the trials that no gate blocks, at the score of their Parquet files."""
    paths = windows.sort_values("window").groupby("run_uuid").returns_path.apply(list)
    recount: dict[int, float] = {}
    complete = ended[ended.state == "COMPLETE"]
    for number, uuid in zip(complete.trial_number.tolist(), complete.run_uuid.tolist(), strict=True):
        files = [study.folder / "studies" / NAME / path for path in paths[uuid]]
        returns = np.concatenate([pd.read_parquet(path)["return"] for path in files])
        recount[number] = float(returns.mean() / returns.std(ddof=1) * math.sqrt(SESSIONS_PER_YEAR))
    best = study.table("SELECT trial_number, score FROM best_models ORDER BY score DESC, trial_number")
    gated = study.table("SELECT trial_number FROM gated_trials").trial_number
    assert set(gated) < set(complete.trial_number), "every trial is blocked, or one that did not complete"
    passed = complete[~complete.trial_number.isin(gated)]
    assert set(best.trial_number) <= set(passed.trial_number), "best_models has a blocked trial"
    assert len(best) == passed.parameters_json.nunique(), "best_models lacks trials"
    for number, score in zip(best.trial_number.tolist(), best.score.tolist(), strict=True):
        assert math.isclose(score, recount[number], rel_tol=1e-9), f"trial {number}"
    ranked = sorted(best.trial_number, key=lambda number: (-recount[number], number))
    assert ranked == list(best.trial_number), "best_models is in another order"


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a new database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'chaos.db'}"
        return
    sys.path.insert(0, str(REPOSITORY))  # this is a script
    from tests.postgres import find_binaries, run_server

    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("--database postgresql needs a server: apt-get install postgresql")
    with run_server(binaries) as server:
        with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
            conn.execute("CREATE DATABASE chaos")
        yield server.url("chaos")


def measure(kind: str, storm: Storm) -> dict[str, object]:
    """Run one study through the storm on one database and check it."""
    with tempfile.TemporaryDirectory() as place, database(kind, Path(place)) as url:
        study = Study(Path(place), url)
        toll = rage(study, storm)
        try:
            found = check(study, storm)
        except AssertionError:
            print("\n".join(study.said.read_text().splitlines()[-20:]), file=sys.stderr)
            raise
    print(f"{kind}: {found} after {asdict(toll)}", flush=True)
    return {**asdict(toll), **found}


def main() -> None:
    """Run the storm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 workers and 12 trials")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    asked = parser.parse_args()
    full = Storm(workers=8, cap=200, kill_every_s=1.0, disk_full_s=5.0)
    storm = Storm(workers=3, cap=12, kill_every_s=2.0, disk_full_s=2.0) if asked.quick else full
    kinds = ("sqlite", "postgresql") if asked.database == "both" else (asked.database,)
    results = {kind: measure(kind, storm) for kind in kinds}
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    print(json.dumps({"storm": asdict(storm), "databases": results, **machine}))


if __name__ == "__main__":
    main()
