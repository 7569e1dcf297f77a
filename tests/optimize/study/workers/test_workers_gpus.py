"""GPUs without a GPU: which ones a study may use, who gets which, and how a trial gets one to itself."""

import dataclasses
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from optimize.agents.spec import AgentSpec
from optimize.errors import BadInputError
from optimize.study.launch.markets import training_engine
from optimize.study.spec import WorkerSpec
from optimize.study.workers import gpus as devices
from optimize.study.workers.gpus import (
    VISIBLE,
    Device,
    cpu_quota,
    device_share,
    find_devices,
    least_used_device,
    memory_fraction,
    threads_of,
    usable_cores,
    visible_gpus,
    worker_environment,
)
from optimize.study.workers.supervisor import Supervisor
from tests.optimize.study.forks import FORK, forking
from tests.optimize.study.processes import PATIENCE_S
from tests.optimize.study.studies import opened, run_of, small_spec
from tests.optimize.study.trainers import FOREVER_S, report

TWO = ("0", "1")


@pytest.mark.parametrize(
    ("asked", "agent", "gpus", "expected"),
    [
        ("auto", "cpu", TWO, ()),
        ("cpu", "auto", TWO, ()),
        ("auto", "auto", (), ()),
        ("auto", "auto", TWO, (Device(0, "0"), Device(1, "1"))),
        ("auto", "cuda", TWO, (Device(0, "0"), Device(1, "1"))),
        ([1], "cuda", TWO, (Device(1, "1"),)),
        ([1, 0], "auto", ("GPU-a", "GPU-b"), (Device(1, "GPU-b"), Device(0, "GPU-a"))),
    ],
)
def test_the_gpus_of_a_study(
    asked: object, agent: str, gpus: tuple[str, ...], expected: tuple[Device, ...]
) -> None:
    assert find_devices(WorkerSpec(devices=asked), agent, gpus) == expected


@pytest.mark.parametrize(
    ("worker", "agent", "gpus", "words"),
    [
        (WorkerSpec(devices=[7]), "cuda", TWO, r"worker\.devices=\[7\]: there is no GPU 7, .*2 GPUs, from 0"),
        (WorkerSpec(devices=[0]), "cpu", (), r"no GPU 0, this machine has no GPU"),
        (WorkerSpec(devices=[0]), "cpu", TWO, r"agent\.device=cpu never uses"),
        (WorkerSpec(), "cuda", (), r"agent\.device=cuda: this machine has no GPU"),
        (WorkerSpec(devices="cpu"), "cuda", TWO, r"contradicts worker\.devices=cpu"),
        (WorkerSpec(), "cuda:1", TWO, r"write agent\.device=cuda worker\.devices=\[1\]"),
        (WorkerSpec(count=3), "cuda", TWO, r"worker\.count=3 does not fit on 2 GPUs .* lower it to 2"),
        (WorkerSpec(count=3, per_device=2), "auto", ("0",), r"fit on 1 GPU with worker\.per_device=2"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    worker: WorkerSpec, agent: str, gpus: tuple[str, ...], words: str
) -> None:
    with pytest.raises(BadInputError, match=words) as error:
        find_devices(worker, agent, gpus)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("asked", ["gpu", "0", 0, [], [0, 0], [-1], [0.5], [True], ["0"], None])
def test_worker_devices_are_auto_cpu_or_numbers(asked: object) -> None:
    with pytest.raises(BadInputError, match=r"worker\.devices=.* auto, cpu or a list"):
        WorkerSpec(devices=asked)


def test_a_worker_goes_to_the_gpu_with_the_fewest() -> None:
    three = tuple(Device(index, str(index)) for index in range(3))
    load: Counter[int] = Counter()
    order = []
    for _ in range(7):
        found = least_used_device(three, load)
        assert found is not None
        order.append(found.index)
        load[found.index] += 1
    assert order == [0, 1, 2, 0, 1, 2, 0]
    load[1] -= 1  # its worker died: the next one takes its place
    assert least_used_device(three, load) == three[1]
    assert least_used_device((), load) is None


def test_the_gpus_named_by_the_environment_are_the_ones_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)
    monkeypatch.delenv(VISIBLE, raising=False)
    assert visible_gpus() == ("0", "1")
    monkeypatch.setenv(VISIBLE, "3, GPU-b")
    assert visible_gpus() == ("3", "GPU-b")
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    assert visible_gpus() == ()


@pytest.mark.parametrize(("device", "engine"), [("cuda", "stock"), ("cpu", "compiled")])
def test_what_a_cluster_trains_on_is_not_told_by_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, engine: str
) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    spec = dataclasses.replace(
        small_spec(tmp_path), agent=AgentSpec(device=device), worker=WorkerSpec(kind="ray")
    )
    assert training_engine(spec)[0].startswith(f"ppo trains on the {engine} engine: ")


def test_shares_of_memory_and_cores() -> None:
    assert memory_fraction(WorkerSpec(per_device=4)) == 0.25
    assert memory_fraction(WorkerSpec(per_device=4, memory_fraction=0.2)) == 0.2
    assert threads_of(WorkerSpec(count=3), cores=16) == 1
    assert threads_of(WorkerSpec(count=3, threads=0), cores=16) == 5
    assert threads_of(WorkerSpec(count=8, threads=0), cores=2) == 1
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/job/step", {"job/step/cpu.max": "max 100000", "job/cpu.max": "150000 100000"}, 1.5),
        ("0::/of/the/host", {"cpu.max": "200000 100000"}, 2.0),  # a container sees the root alone
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {}, None),
        (
            "4:memory:/m\n3:cpu,cpuacct:/docker/x",
            {
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            "3:cpu,cpuacct:/",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "1"},
            None,
        ),
    ],
)
def test_a_share_of_cpu_time_is_read_from_the_control_groups(
    tmp_path: Path, own: str, files: dict[str, str], quota: float | None
) -> None:
    (tmp_path / "own").write_text(f"{own}\n")
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") == quota
    assert usable_cores(0.5) == 1
    assert usable_cores(1e6) == usable_cores(None if cpu_quota() is None else 1e6)


def test_a_worker_gets_no_key_of_a_provider_and_no_backend_of_a_notebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("ALPACA_API_KEY", "APCA_API_SECRET_KEY", "COINBASE_API_SECRET", "WALKFORGE_NOTIFY_URLS")
    for name in names:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    with worker_environment(None, 1):
        assert not set(names) & os.environ.keys()
        assert os.environ["MPLBACKEND"] == "agg"
    assert {os.environ[name] for name in names} == {"secret"}
    assert os.environ["MPLBACKEND"].startswith("module://")


def test_the_environment_is_given_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with worker_environment(Device(1, "GPU-b"), 3):
        assert (os.environ[VISIBLE], os.environ["OMP_NUM_THREADS"]) == ("GPU-b", "3")
    assert VISIBLE not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "7"
    with worker_environment(None, 1):
        assert os.environ[VISIBLE] == ""


def test_a_trial_alone_waits_for_the_others_and_keeps_new_ones_out(tmp_path: Path) -> None:
    gpu, log = Device(0, "MIG-a/1"), []
    leave = {name: threading.Event() for name in ("first", "second", "alone", "late")}
    inside = {name: threading.Event() for name in leave}
    waited = {name: threading.Event() for name in leave}

    def run(name: str, *, alone: bool = False) -> None:
        with device_share(tmp_path, gpu, alone=alone, waiting=waited[name].set):
            log.append(name)
            inside[name].set()
            assert leave[name].wait(20)
            log.append(f"{name} left")

    threads = [threading.Thread(target=run, args=(name,)) for name in ("first", "second", "late")]
    threads.insert(2, threading.Thread(target=run, args=("alone",), kwargs={"alone": True}))
    for thread, name in zip(threads, ("first", "second", "alone", "late"), strict=True):
        thread.start()
        event = inside if name in ("first", "second") else waited  # alone drains; late queues behind it
        assert event[name].wait(20)
    leave["first"].set()
    leave["second"].set()
    assert inside["alone"].wait(20)
    assert not inside["late"].is_set()
    leave["alone"].set()
    leave["late"].set()
    for thread in threads:
        thread.join(20)
    assert log.index("alone") > max(log.index("first left"), log.index("second left"))
    assert log.index("late") > log.index("alone left")


def test_whoever_waits_for_a_gpu_can_be_stopped(tmp_path: Path) -> None:
    gpu = Device(0, "0")

    def give_up() -> None:
        raise InterruptedError

    with (
        device_share(tmp_path, gpu, alone=True, waiting=give_up),
        pytest.raises(InterruptedError),
        device_share(tmp_path, gpu, alone=False, waiting=give_up),
    ):
        pass
    with (
        device_share(tmp_path, gpu, alone=False, waiting=give_up),
        device_share(tmp_path, gpu, alone=False, waiting=give_up),
    ):
        pass


def test_the_place_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    held = FORK.Event()

    def hold() -> None:
        with device_share(tmp_path, Device(0, "0"), alone=True, waiting=sys.exit):
            held.set()
            time.sleep(FOREVER_S)

    process = FORK.Process(target=hold)
    process.start()
    waits: list[bool] = []

    def kill_at_the_second_look() -> None:
        waits.append(True)
        if len(waits) == 2:
            process.kill()
            process.join()

    assert held.wait(PATIENCE_S)
    with device_share(tmp_path, Device(0, "0"), alone=False, waiting=kill_at_the_second_look):
        assert len(waits) >= 2


@pytest.mark.slow
def test_each_worker_starts_with_its_gpu_and_threads_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: ("4", "5"))
    worker = WorkerSpec(count=2, threads=3)
    agent = AgentSpec(total_timesteps=64, n_envs=2, net="tiny", device="auto")
    context = opened(small_spec(tmp_path, worker=worker, agent=agent))
    Supervisor(context, report).run(lambda: None)
    started = [path.read_text().splitlines() for path in (tmp_path / "studies").glob("environment_*")]
    # Read from the kernel: it was there before Python was, so before torch was imported.
    assert sorted(line for lines in started for line in lines if line.startswith(VISIBLE)) == [
        f"{VISIBLE}={gpu}" for gpu in ("4", "5")
    ]
    assert all("OMP_NUM_THREADS=3" in lines for lines in started)


@pytest.mark.slow
def test_a_worker_on_the_cpu_says_so_and_sees_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: TWO)
    agent = AgentSpec(total_timesteps=64, n_envs=2, net="tiny", device="auto")
    spec = small_spec(tmp_path, n_trials=1, worker=WorkerSpec(devices="cpu"), agent=agent)
    context = opened(spec)
    forking(context).run(lambda: None)
    versions = run_of(context, 0).versions
    assert (versions["device"], versions["threads"]) == ("cpu", "1")
