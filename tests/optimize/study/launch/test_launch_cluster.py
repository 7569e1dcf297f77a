"""Workers on a Ray cluster: two nodes on this machine, one of them removed; a stop; refusals."""

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
from optimize.study.context import StudyContext
from optimize.study.launch.cluster import RaySupervisor, check_node, spec_on_node
from optimize.study.shared_folder import mark_folder
from optimize.study.spec import WorkerSpec
from optimize.walkforward.files import read_returns
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
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for other processes of this machine
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
    """Return whether a process is a part of Ray that this test started."""
    return process.info["name"] in ("raylet", "gcs_server") and os.getpid() in parents(process)


def parents(process: psutil.Process) -> list[int]:
    try:
        return [parent.pid for parent in process.parents()]
    except psutil.NoSuchProcess:
        return []


def study(folder: Path, url: str, nodes: Nodes, steps: int = 1000, **changes: Any) -> StudyContext:
    worker = WorkerSpec(kind="ray", count=2, address=nodes.cluster.address, lease_s=10.0)
    agent = AgentSpec(
        total_timesteps=steps, n_envs=2, net="tiny", engine="stock", hyperparameters=PPO
    )  # 1000 take a second
    places = {"database": DatabaseSpec(url=url), "worker": worker, "agent": agent}
    context = opened(small_spec(folder, **{**places, **changes}))
    mark_folder(context)
    return context


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
    context = study(tmp_path, postgres, nodes, n_trials=4)
    asked: list[int] = []

    def stop_once() -> None:
        if not asked and len(leased(context.spec)) == 2:
            asked.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        RaySupervisor(context).run(stop_once)
    assert leased(context.spec) == {}  # given back, at no loss
    assert rows(context.spec, "SELECT DISTINCT losses FROM wf_leases") == [(0,)]
    assert rows(context.spec, STORED) >= [(2,)]  # those that ran
    assert set(states(context)) <= {"RUNNING", "COMPLETE", "PRUNED"}
    assert states(context).total() <= 3  # one may have been at its last window and claimed the next


@pytest.mark.ray
@pytest.mark.postgres
@pytest.mark.slow
def test_a_node_removed_in_mid_study_adds_no_trial_and_costs_none(
    tmp_path: Path, postgres: str, nodes: Nodes
) -> None:
    context = study(tmp_path, postgres, nodes, steps=8000, n_trials=4)
    workers: set[int] = set()
    sampled: list[int] = []

    def look() -> None:
        running = leased(context.spec)
        workers.update(running.values())
        sampled.append(sum(states(context)[state] for state in ("COMPLETE", "PRUNED", "RUNNING")))
        if nodes.second is not None and rows(context.spec, STORED) > [(0,)]:
            there = {process.pid for process in nodes.on_second()}
            if there & {pid for (pid,) in rows(context.spec, IN_FIRST_WINDOW)}:
                nodes.remove_second()

    RaySupervisor(context).run(look)
    assert nodes.second is None
    found = states(context)
    assert (found["COMPLETE"] + found["PRUNED"], found.total()) == (4, 4)
    assert max(sampled) == 4
    assert rows(context.spec, "SELECT COUNT(*) FROM wf_leases") == [(0,)]
    lost = rows(context.spec, "SELECT trial_number FROM wf_runs WHERE state = 'LOST'")
    assert len(lost) == 1
    assert run_of(context, lost[0][0]).attempt == 2
    assert len(workers) >= 2
    assert not [pid for pid in workers if lives(pid)]
    recount(context)


def recount(context: StudyContext) -> None:
    """Compare best_models with the scores of the session returns in the Parquet files."""
    best = rows(context.spec, "SELECT trial_number, score FROM best_models")
    assert len(best) == states(context)["COMPLETE"] > 0
    year = ground_of(context, context.spec).market.sessions_per_year
    for number, score in best:
        with context.engine.connect() as conn:
            windows = windows_of(conn, run_of(context, number).run_uuid)
        assert [row.window for row in windows] == [0, 1]
        paths = [context.spec.folder / (row.returns_path or "") for row in windows]
        returns = np.concatenate([read_returns(path)[1].returns for path in paths])
        assert sharpe_ratio(returns, year) == pytest.approx(score, rel=1e-9)


@pytest.mark.slow  # it imports Ray
def test_too_many_lost_workers_stop_the_study_unless_trials_finish(tmp_path: Path) -> None:
    supervisor = RaySupervisor(opened(ray_spec(tmp_path, max_restarts=1)))
    supervisor._schedule_restart(0, RuntimeError("the node is gone\nand more"))
    assert list(supervisor.due) == [0]
    play(supervisor.context, 1)
    supervisor._schedule_restart(0, RuntimeError("the node is gone"))
    with pytest.raises(
        StudyStoppedError, match=r"max_restarts=1 lost .*\(RuntimeError: the node is gone\): see"
    ):
        supervisor._schedule_restart(1, RuntimeError("the node is gone"))


def test_a_worker_there_has_what_ray_set_aside_and_whole_paths(tmp_path: Path) -> None:
    spec = ray_spec(tmp_path, count=8, cpus_per_worker=2.0, gpus_per_worker=0.25, threads=0)
    there = spec_on_node(dataclasses.replace(spec, output_dir="studies"))
    worker = there.worker
    assert (worker.kind, worker.count, worker.devices, worker.threads) == ("local", 1, "auto", 2)
    assert worker.memory_fraction == 0.25
    assert there.output_dir == str(tmp_path / "studies")
    plain = spec_on_node(ray_spec(tmp_path)).worker
    assert (plain.devices, plain.memory_fraction, plain.threads) == ("cpu", None, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda context: (context.spec.folder / "shared.json").unlink(),
            "this machine does not see the folder",
        ),
        (lambda context: None, None),
    ],
)
def test_a_node_that_would_scatter_its_files_is_refused(
    tmp_path: Path, change: Callable[[StudyContext], None], words: str | None
) -> None:
    context = opened(small_spec(tmp_path))
    mark_folder(context)
    change(context)
    if words is None:
        check_node(context)
    else:
        with pytest.raises(BadInputError, match=f"on node .*: output_dir=.*: {words}"):
            check_node(context)
