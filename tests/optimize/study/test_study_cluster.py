"""Workers on a Ray cluster: two nodes on this machine, one of them removed; a stop; what is refused."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from optimize.agents.spec import AgentSpec
from optimize.database import DatabaseSpec
from optimize.errors import BadInputError, StudyStoppedError
from optimize.evaluate.metrics import sharpe_ratio
from optimize.results.runs import windows_of
from optimize.study.files import read_returns
from optimize.study.handle import Handle
from optimize.study.place import mark_folder
from optimize.study.spec import WorkerSpec
from optimize.study.workers.cluster import RayCrew, spec_there, vet
from tests.optimize.study.databases import close_studies
from tests.optimize.study.processes import leased, lives
from tests.optimize.study.studies import (
    PPO,
    ground_of,
    opened,
    play,
    ray_spec,
    rows,
    run_of,
    small_spec,
    states,
)

HUNDRED_MB = 100 * 2**20
IN_FIRST_WINDOW = (
    "SELECT pid FROM wf_leases WHERE renewed_at > 0 AND NOT EXISTS "
    "(SELECT 1 FROM wf_windows WHERE wf_windows.run_uuid = wf_leases.run_uuid)"
)
STORED = "SELECT COUNT(*) FROM wf_windows"


@dataclass
class Nodes:
    """A cluster of two nodes with one CPU each."""

    cluster: Any
    second: Any

    def on_second(self) -> list[psutil.Process]:
        """Return the processes of the second node."""
        raylet = psutil.Process(self.second.all_processes["raylet"][0].process.pid)
        return [raylet, *raylet.children(recursive=True)]

    def remove_second(self) -> None:
        """Take a node away as a power cut does, with all its processes at once."""
        for process in self.on_second():
            process.kill()
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for whatever else runs here
        yield from two_nodes()


def two_nodes() -> Iterator[Nodes]:
    from ray import cluster_utils

    size = {"num_cpus": 1, "object_store_memory": HUNDRED_MB}
    head = {**size, "include_dashboard": False}
    cluster: Any = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        yield Nodes(cluster, cluster.add_node(**size))
    finally:
        cluster.shutdown()
        left = [process.info for process in psutil.process_iter(["name", "cmdline"]) if is_ours(process)]
        assert not left


def is_ours(process: psutil.Process) -> bool:
    """Tell whether a process is a part of Ray that this test started."""
    return process.info["name"] in ("raylet", "gcs_server") and os.getpid() in parents(process)


def parents(process: psutil.Process) -> list[int]:
    try:
        return [parent.pid for parent in process.parents()]
    except psutil.NoSuchProcess:
        return []


def study(folder: Path, url: str, nodes: Nodes, **changes: Any) -> Handle:
    worker = WorkerSpec(kind="ray", count=2, address=nodes.cluster.address, lease_s=10.0)
    agent = AgentSpec(
        total_timesteps=1000, n_envs=2, net="tiny", engine="stock", hyperparameters=PPO
    )  # a second a window
    places = {"database": DatabaseSpec(url=url), "worker": worker, "agent": agent}
    handle = opened(small_spec(folder, **{**places, **changes}))
    mark_folder(handle)
    return handle


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    close_studies()


@pytest.mark.ray
@pytest.mark.postgres
@pytest.mark.slow
def test_ctrl_c_finishes_the_running_windows_on_every_node_and_gives_the_trials_back(
    tmp_path: Path, postgres: str, nodes: Nodes
) -> None:
    handle = study(tmp_path, postgres, nodes, n_trials=4)
    asked: list[int] = []

    def stop_once() -> None:
        if not asked and len(leased(handle.spec)) == 2:
            asked.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        RayCrew(handle).run(stop_once)
    assert leased(handle.spec) == {}  # given back, at no loss
    assert rows(handle.spec, "SELECT DISTINCT losses FROM wf_leases") == [(0,)]
    assert rows(handle.spec, STORED) >= [(2,)]  # those that ran
    assert set(states(handle)) <= {"RUNNING", "COMPLETE", "PRUNED"}
    assert states(handle).total() <= 3  # one may have been at its last window and claimed the next


@pytest.mark.ray
@pytest.mark.postgres
@pytest.mark.slow
def test_a_node_removed_in_mid_study_adds_no_trial_and_costs_none(
    tmp_path: Path, postgres: str, nodes: Nodes
) -> None:
    handle = study(tmp_path, postgres, nodes, n_trials=5)
    workers: set[int] = set()
    sampled: list[int] = []

    def look() -> None:
        running = leased(handle.spec)
        workers.update(running.values())
        sampled.append(sum(states(handle)[state] for state in ("COMPLETE", "PRUNED", "RUNNING")))
        if nodes.second is not None and rows(handle.spec, STORED) > [(0,)]:
            there = {process.pid for process in nodes.on_second()}
            if there & {pid for (pid,) in rows(handle.spec, IN_FIRST_WINDOW)}:
                nodes.remove_second()

    RayCrew(handle).run(look)
    assert nodes.second is None
    found = states(handle)
    assert (found["COMPLETE"] + found["PRUNED"], found.total()) == (5, 5)
    assert max(sampled) == 5
    assert rows(handle.spec, "SELECT COUNT(*) FROM wf_leases") == [(0,)]
    lost = rows(handle.spec, "SELECT trial_number FROM wf_runs WHERE state = 'LOST'")
    assert len(lost) == 1
    assert run_of(handle, lost[0][0]).attempt == 2
    assert len(workers) >= 2
    assert not [pid for pid in workers if lives(pid)]
    recount(handle)


def recount(handle: Handle) -> None:
    """Compare best_models with what the session returns in the Parquet files come to."""
    best = rows(handle.spec, "SELECT trial_number, score FROM best_models")
    assert len(best) == states(handle)["COMPLETE"] > 0
    year = ground_of(handle, handle.spec).market.sessions_per_year
    for number, score in best:
        with handle.engine.connect() as conn:
            windows = windows_of(conn, run_of(handle, number).run_uuid)
        assert [row.window for row in windows] == [0, 1]
        paths = [handle.spec.folder / (row.returns_path or "") for row in windows]
        returns = np.concatenate([read_returns(path)[1].returns for path in paths])
        assert sharpe_ratio(returns, year) == pytest.approx(score, rel=1e-9)


def test_too_many_lost_workers_stop_the_study_unless_trials_finish(tmp_path: Path) -> None:
    crew = RayCrew(opened(ray_spec(tmp_path, max_restarts=1)))
    crew._bury(0, RuntimeError("the node is gone\nand more"))
    assert list(crew.due) == [0]
    play(crew.handle, 1)
    crew._bury(0, RuntimeError("the node is gone"))
    with pytest.raises(
        StudyStoppedError, match=r"max_restarts=1 lost .*\(RuntimeError: the node is gone\): see"
    ):
        crew._bury(1, RuntimeError("the node is gone"))


def test_a_worker_there_has_what_ray_set_aside_and_whole_paths(tmp_path: Path) -> None:
    spec = ray_spec(tmp_path, count=8, cpus_per_worker=2.0, gpus_per_worker=0.25, threads=0)
    there = spec_there(dataclasses.replace(spec, output_dir="studies"))
    worker = there.worker
    assert (worker.kind, worker.count, worker.devices, worker.threads) == ("local", 1, "auto", 2)
    assert worker.memory_fraction == 0.25
    assert there.output_dir == str(tmp_path / "studies")
    plain = spec_there(ray_spec(tmp_path)).worker
    assert (plain.devices, plain.memory_fraction, plain.threads) == ("cpu", None, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda handle: (handle.spec.folder / "shared.json").unlink(),
            "this machine does not see the folder",
        ),
        (lambda handle: None, None),
    ],
)
def test_a_node_that_would_scatter_its_files_is_refused(
    tmp_path: Path, change: Callable[[Handle], None], words: str | None
) -> None:
    handle = opened(small_spec(tmp_path))
    mark_folder(handle)
    change(handle)
    if words is None:
        vet(handle)
    else:
        with pytest.raises(BadInputError, match=f"on node .*: output_dir=.*: {words}"):
            vet(handle)
