"""Workers that join a study from another machine: the stored spec, and what they are refused for."""

import dataclasses
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from optimize.database import DatabaseSpec
from optimize.errors import BadInputError, StudyStoppedError
from optimize.results.records import StudyRecord, load_study, set_cap
from optimize.results.tables import STUDIES
from optimize.study import join
from optimize.study.admission import Here, spec_here
from optimize.study.claims.control import StoppedByActionError, ask
from optimize.study.handle import Handle
from optimize.study.join import join_study
from optimize.study.pages.figured import DRAWN
from optimize.study.place import PROBE, find_folder, mark_folder
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.versions import package_differences, versions
from tests.optimize.study.databases import Small
from tests.optimize.study.processes import PATIENCE_S
from tests.optimize.study.studies import claimed, opened, play, rows, small_spec, states

ONE = WorkerSpec(count=1)


def launched(spec: StudySpec) -> Handle:
    """Open a study as a launch that passed its checks left it."""
    handle = opened(spec)
    spec.folder.mkdir(parents=True, exist_ok=True)
    mark_folder(handle)
    return handle


def here(handle: Handle, **changes: Any) -> Here:
    return Here(**{"database": handle.spec.database, "worker": ONE, "wait_s": 0.0, **changes})


def record_of(handle: Handle) -> StudyRecord:
    with handle.engine.connect() as conn:
        record = load_study(conn, handle.spec.name)
    assert record is not None
    return record


def change_record(handle: Handle, **values: Any) -> None:
    with handle.engine.begin() as conn:
        conn.execute(STUDIES.update().values(**values))


def joined(handle: Handle, name: str = "small", **changes: Any) -> tuple[str, str]:
    heard = io.StringIO()
    said = join_study(name, here(handle, **changes), Console(file=heard, width=500))
    return said, heard.getvalue()


def test_the_spec_is_the_stored_one_and_the_places_are_this_machines(small: Small) -> None:
    spec = small(n_trials=3, seed=11)
    handle = launched(spec)
    with handle.engine.begin() as conn:
        set_cap(conn, "small", 5)
    mine = WorkerSpec(count=7, lease_s=9.0)
    found = spec_here(record_of(handle), "elsewhere", here(handle, worker=mine, data_path="copy.parquet"))
    assert (found.n_trials, found.seed, found.output_dir) == (5, 11, "elsewhere")
    assert (found.data.path, found.worker.count, found.worker.lease_s) == ("copy.parquet", 7, 9.0)
    assert found.database.url == spec.database.url  # with its password, which is not stored
    same = dataclasses.replace(
        found, n_trials=3, output_dir=spec.output_dir, data=spec.data, worker=spec.worker
    )
    assert same == spec


@pytest.mark.slow
def test_workers_join_and_bring_the_study_to_its_cap(small: Small, database_url: str) -> None:
    handle = launched(small(n_trials=3))
    play(handle, 1)
    said, heard = joined(handle, worker=WorkerSpec(count=2))
    assert said == "study small is at its cap"
    assert "small: 2 workers on " in heard
    assert states(handle) == {"COMPLETE": 3}
    shown = rows(handle.spec, "SELECT value_json FROM study_user_attributes WHERE key = :key", key=DRAWN)
    assert shown == [("3",)]  # the figures are those of all trials
    assert joined(handle)[0] == "study small is at its cap"  # and nothing is run
    assert states(handle) == {"COMPLETE": 3}


def test_other_data_and_other_packages_are_refused_in_one_line(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = launched(small())
    stored = record_of(handle)
    change_record(handle, versions={**stored.versions, "torch": "1.0", "cpu": "another one"})
    with pytest.raises(
        BadInputError, match=r"other packages \(torch 1\.0 there, .* here\).*versions=ignore"
    ) as no:
        joined(handle)
    assert "\n" not in str(no.value)
    assert "another one" not in str(no.value)
    change_record(handle, data_fingerprint="0" * 64)
    with pytest.raises(BadInputError, match=r"other data \(fingerprint 000000000000 there.*data\.path") as no:
        joined(handle, same_versions=False)
    assert "\n" not in str(no.value)
    with pytest.raises(BadInputError, match="holds no such study"):
        joined(handle, "smal")
    assert not rows(handle.spec, "SELECT * FROM wf_runs")


def test_packages_and_the_minor_version_of_python_count() -> None:
    now = versions()
    assert not package_differences(now, {**now, "cpu": "x", "python": now["python"] + "1"})
    assert package_differences(now, {**now, "python": "3.0.1"})[0].startswith("python 3.")
    assert package_differences(now, {**now, "numpy": "0"})[0].startswith("numpy ")


def test_a_machine_that_does_not_see_the_folder_is_refused(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = launched(small())
    shared = tmp_path / "shared"
    with pytest.raises(BadInputError, match=r"output_dir=.*does not see the folder of study 'small'.*shared"):
        joined(handle, output_dir=str(tmp_path / "empty"))
    (tmp_path / "studies").rename(shared)
    with pytest.raises(BadInputError, match="does not see the folder"):
        joined(handle)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "small").mkdir()
    (tmp_path / "here" / "small" / PROBE).write_text('{"token": "of another study of this name"}')
    with pytest.raises(BadInputError, match="does not see the folder"):
        joined(handle, output_dir=str(tmp_path / "here"))
    with handle.engine.connect() as conn:
        assert find_folder(conn, "small", str(shared), "studies") == str(shared)


def test_a_folder_is_found_by_its_absolute_path_from_another_directory(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = launched(small(output_dir="studies"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with handle.engine.connect() as conn:
        assert find_folder(conn, "small", None, "studies") == str(tmp_path / "studies")


def test_a_launch_marks_its_folder_once_and_anew_where_it_is_gone(small: Small) -> None:
    handle = launched(small())
    probe = handle.spec.folder / PROBE
    token = json.loads(probe.read_text())["token"]
    mark_folder(handle)
    assert json.loads(probe.read_text())["token"] == token
    probe.unlink()
    mark_folder(handle)
    assert json.loads(probe.read_text())["token"] != token
    with handle.engine.connect() as conn:
        assert find_folder(conn, "small", None, handle.spec.output_dir) == handle.spec.output_dir


def test_a_second_launch_from_a_machine_without_the_folder_is_refused(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = launched(small())
    monkeypatch.setattr(socket, "gethostname", lambda: "north")
    claimed(handle)
    monkeypatch.setattr(socket, "gethostname", lambda: "south")
    (handle.spec.folder / PROBE).unlink()
    with pytest.raises(
        BadInputError, match="host north works on study 'small' in a folder that this machine"
    ):
        mark_folder(handle)


def test_a_study_that_is_not_ready_is_waited_for(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = opened(small())
    with pytest.raises(StudyStoppedError, match=r"not ready for workers within wait_s=0 seconds: launch it"):
        joined(handle)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        handle.spec.folder.mkdir(parents=True, exist_ok=True)
        mark_folder(handle)
        ask(handle.engine, "small", "stop")

    monkeypatch.setattr("optimize.study.join.time.sleep", sleep)
    with pytest.raises(StoppedByActionError):  # a stopped study is joined by nobody
        joined(handle, wait_s=60.0)
    assert len(waits) == 1


def test_the_next_phase_is_waited_for(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small()
    two = dataclasses.replace(spec.phase, kind="two")
    first = launched(dataclasses.replace(spec, name="small.timeframe", n_trials=1, phase=two))
    play(first)
    worked: list[str] = []

    def work(record: StudyRecord, output_dir: str, place: Here, console: Console) -> None:
        worked.append(record.study_name)

    monkeypatch.setattr(join, "_work", work)
    monkeypatch.setattr(
        "optimize.study.join.time.sleep",
        lambda _: launched(dataclasses.replace(spec, name="small.model", phase=two)),
    )
    said, heard = joined(first, wait_s=60.0)
    assert worked == ["small.timeframe", "small.model"]
    assert "small.model is not ready for workers yet" in heard
    assert said == "study small is at its cap"


@pytest.mark.slow
def test_an_array_of_jobs_from_a_shell_loop_joins_one_study(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=5)
    handle = launched(spec)
    play(handle, 1)
    loop = (
        "for SLURM_ARRAY_TASK_ID in 0 1 2; do export SLURM_ARRAY_TASK_ID; "
        f"{sys.executable} -m optimize worker name=small database.url={spec.database.url} worker.count=1 "
        f'> {tmp_path}/job_$SLURM_ARRAY_TASK_ID.txt 2>&1 & pids="$pids $!"; done; '
        "for pid in $pids; do wait $pid || exit 1; done"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ran = subprocess.run(["bash", "-c", loop], cwd=elsewhere, timeout=PATIENCE_S, env=os.environ, check=False)
    said = [(tmp_path / f"job_{job}.txt").read_text() for job in range(3)]
    assert ran.returncode == 0, said
    assert all("study small is at its cap" in each for each in said)
    assert states(handle) == {"COMPLETE": 5}
    assert not list(elsewhere.glob("studies/*"))
    assert rows(spec, "SELECT COUNT(*) FROM wf_runs WHERE state = 'COMPLETE'") == [(5,)]
    assert not rows(spec, "SELECT * FROM wf_leases")


def test_a_spec_of_another_version_is_refused(small: Small) -> None:
    handle = launched(small())
    change_record(handle, spec={**record_of(handle).spec, "moon": "full"})
    with pytest.raises(BadInputError, match="moon"):
        joined(handle)
    assert DatabaseSpec().url
