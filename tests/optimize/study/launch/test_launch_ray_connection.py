"""Reach a Ray cluster, or refuse it before the study takes its name."""

import dataclasses
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from optimize.errors import BadInputError
from optimize.study.launch.cluster import RaySupervisor, preflight_on_cluster
from optimize.study.launch.ray_connection import check_nodes, ray_connection
from optimize.study.launch.run import run_study
from tests.optimize.study.databases import close_studies
from tests.optimize.study.studies import opened, ray_spec


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    close_studies()


def fake(name: str, **resources: float) -> dict[str, Any]:
    return {"NodeManagerHostname": name, "Alive": True, "Resources": {"CPU": 4.0} | resources}


@pytest.mark.parametrize(
    ("alive", "changes", "words"),
    [
        ([fake("far")], {}, r"worker=ray: the cluster has 2 hosts \(.*far.*SQLite.*use database=postgresql"),
        ([fake("HERE", CPU=0.0)], {}, r"cpus_per_worker=1 .* no node of the Ray cluster .*at most 0 CPU"),
        ([], {}, "no node of the Ray cluster has that much"),
        ([fake("HERE")], {"gpus_per_worker": 0.5}, "gpus_per_worker=0.5: no node .*at most 4 CPU, 0 GPU"),
        (
            [fake("HERE", GPU=1.0)],
            {"gpus_per_worker": 0.5},
            "would hold GPUs that agent.device=cpu never uses",
        ),
    ],
)
def test_a_cluster_that_cannot_run_the_study_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    alive: list[dict[str, Any]],
    changes: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "HERE")
    spec = ray_spec(tmp_path, **changes)
    with pytest.raises(BadInputError, match=words):
        check_nodes(spec, alive)


def test_a_gpu_is_asked_of_ray_where_the_agent_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "HERE")
    spec = ray_spec(tmp_path)
    wanting = dataclasses.replace(spec, agent=dataclasses.replace(spec.agent, device="cuda"))
    with pytest.raises(BadInputError, match=r"agent\.device=cuda needs worker\.gpus_per_worker above 0"):
        check_nodes(wanting, [fake("HERE")])


def test_no_cluster_and_no_ray_are_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(
            BadInputError,
            match=r"database=postgresql.*worker\.address=127\.0\.0\.1:1: no Ray cluster answers",
        ) as caught,
        ray_connection(ray_spec(tmp_path, address="127.0.0.1:1")),
    ):
        pass
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(BadInputError, match=r"pip install .* -e '\.\[ray\]'"),
        ray_connection(ray_spec(tmp_path)),
    ):
        pass


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (None, "Could not find any running Ray instance"),
        ("127.0.0.1:1", "Connection refused"),  # Ray itself would try for minutes
    ],
)
def test_a_launch_without_a_cluster_names_the_database_first_and_leaves_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, words: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", named or "")
    if named is None:  # no cluster is found, even if one runs on this machine
        monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
        monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda folder: None)
    spec = ray_spec(tmp_path)
    said = io.StringIO()
    with pytest.raises(BadInputError, match=f"^worker=ray needs database=postgresql.*{words}") as caught:
        run_study(spec, Console(file=said, width=200))
    assert "worker.address=local" in str(caught.value)
    assert said.getvalue() == "connecting to the Ray cluster (worker.address=auto)\n"
    assert not list(tmp_path.iterdir())


def test_a_launch_connects_once_and_says_what_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = FakeRay()
    monkeypatch.setattr("optimize.study.launch.ray_connection.load_ray", lambda: ray)
    monkeypatch.setattr("socket.gethostname", lambda: "HERE")
    spec = ray_spec(tmp_path, address="local")
    said: list[str] = []
    with ray_connection(spec, said.append), ray_connection(spec, said.append):
        assert ray.starts == ["local"]
    assert (ray.starts, ray.ends) == (["local"], 1)
    assert said == ["starting a Ray cluster on this machine"]

    monkeypatch.setattr("optimize.study.launch.cluster.NEWS_S", 0.0)
    ray.pending = 2
    preflight_on_cluster(spec, said.append)
    assert said[2].startswith("the preflight runs on a node of the cluster: a node must have 1 CPU free")
    assert [line.rpartition(" for ")[0] for line in said[3:5]] == 2 * [
        "the preflight has run, or waited for a node,"
    ]
    assert said[5:] == ["[STAGE ok] Training"]

    supervisor = RaySupervisor(opened(spec))
    for _ in range(2):
        supervisor._report_waiting()
    assert capsys.readouterr().err.count("no worker has a trial yet: a node must have 1 CPU free") == 1


class FakeRay:
    """A Ray that runs one task, which `pending` looks find unfinished."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.ends = 0
        self.pending = 0

    def is_initialized(self) -> bool:
        return len(self.starts) > self.ends

    def init(self, address: str, configure_logging: bool) -> None:
        self.starts.append(address)

    def shutdown(self) -> None:
        self.ends += 1

    def nodes(self) -> list[dict[str, Any]]:
        return [fake("HERE")]

    def remote(self, **room: object) -> Callable[..., Any]:
        return lambda function: SimpleNamespace(remote=lambda *arguments: "task")

    def wait(self, tasks: list[str], timeout: float) -> tuple[list[str], list[str]]:
        self.pending -= 1
        return ([], tasks) if self.pending >= 0 else (tasks, [])

    def get(self, task: str) -> list[str]:
        return ["[STAGE ok] Training"]
