"""Workers that join a study from another machine: the stored spec, and reasons for a refusal."""

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
from optimize.study.context import StudyContext
from optimize.study.control import StoppedByActionError, request_action
from optimize.study.dashboard.attach_missing import DRAWN
from optimize.study.launch import join
from optimize.study.launch.join import join_study
from optimize.study.shared_folder import PROBE, find_folder, mark_folder
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.workers.machine_compatibility import MachineSettings, spec_on_machine
from optimize.walkforward.versions import package_differences, versions
from tests.optimize.study.databases import Small
from tests.optimize.study.forks import start_verb
from tests.optimize.study.processes import PATIENCE_S, said
from tests.optimize.study.studies import claimed, opened, play, rows, small_spec, states

ONE = WorkerSpec(count=1)


def launched(spec: StudySpec) -> StudyContext:
    """Open a study as a launch that passed its checks left it."""
    context = opened(spec)
    spec.folder.mkdir(parents=True, exist_ok=True)
    mark_folder(context)
    return context


def machine(context: StudyContext, **changes: Any) -> MachineSettings:
    return MachineSettings(**{"database": context.spec.database, "worker": ONE, "wait_s": 0.0, **changes})


def record_of(context: StudyContext) -> StudyRecord:
    with context.engine.connect() as conn:
        record = load_study(conn, context.spec.name)
    assert record is not None
    return record


def change_record(context: StudyContext, **values: Any) -> None:
    with context.engine.begin() as conn:
        conn.execute(STUDIES.update().values(**values))


def joined(context: StudyContext, name: str = "small", **changes: Any) -> tuple[str, str]:
    heard = io.StringIO()
    ended = join_study(name, machine(context, **changes), Console(file=heard, width=500))
    return ended, heard.getvalue()


def test_the_spec_is_the_stored_one_and_the_places_are_this_machines(small: Small) -> None:
    spec = small(n_trials=3, seed=11)
    context = launched(spec)
    with context.engine.begin() as conn:
        set_cap(conn, "small", 5)
    mine = WorkerSpec(count=7, lease_s=9.0)
    found = spec_on_machine(
        record_of(context), "elsewhere", machine(context, worker=mine, data_path="copy.parquet")
    )
    assert (found.n_trials, found.seed, found.output_dir) == (5, 11, "elsewhere")
    assert (found.data.path, found.worker.count, found.worker.lease_s) == ("copy.parquet", 7, 9.0)
    assert found.database.url == spec.database.url  # with its password, which is not stored
    same = dataclasses.replace(
        found, n_trials=3, output_dir=spec.output_dir, data=spec.data, worker=spec.worker
    )
    assert same == spec


@pytest.mark.usefixtures("forked_workers")
def test_workers_join_and_bring_the_study_to_its_cap(small: Small) -> None:
    context = launched(small(n_trials=3))
    play(context, 1)
    ended, heard = joined(context, worker=WorkerSpec(count=2))
    assert ended == "study small is at its cap"
    assert "small: 2 workers on " in heard
    assert states(context) == {"COMPLETE": 3}
    shown = rows(context.spec, "SELECT value_json FROM study_user_attributes WHERE key = :key", key=DRAWN)
    assert shown == [("3",)]  # the figures are those of all trials
    assert joined(context)[0] == "study small is at its cap"  # and nothing is run
    assert states(context) == {"COMPLETE": 3}


def test_other_data_and_other_packages_are_refused_in_one_line(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = launched(small())
    stored = record_of(context)
    change_record(context, versions={**stored.versions, "torch": "1.0", "cpu": "another one"})
    with pytest.raises(
        BadInputError, match=r"other packages \(torch 1\.0 there, .* here\).*versions=ignore"
    ) as no:
        joined(context)
    assert "\n" not in str(no.value)
    assert "another one" not in str(no.value)
    change_record(context, data_fingerprint="0" * 64)
    with pytest.raises(BadInputError, match=r"other data \(fingerprint 000000000000 there.*data\.path") as no:
        joined(context, same_versions=False)
    assert "\n" not in str(no.value)
    with pytest.raises(BadInputError, match="holds no such study"):
        joined(context, "smal")
    assert not rows(context.spec, "SELECT * FROM wf_runs")


def test_packages_and_the_minor_version_of_python_count() -> None:
    now = versions()
    assert not package_differences(now, {**now, "cpu": "x", "python": now["python"] + "1"})
    assert package_differences(now, {**now, "python": "3.0.1"})[0].startswith("python 3.")
    assert package_differences(now, {**now, "numpy": "0"})[0].startswith("numpy ")


def test_a_machine_that_does_not_see_the_folder_is_refused(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = launched(small())
    shared = tmp_path / "shared"
    with pytest.raises(BadInputError, match=r"output_dir=.*does not see the folder of study 'small'.*shared"):
        joined(context, output_dir=str(tmp_path / "empty"))
    (tmp_path / "studies").rename(shared)
    with pytest.raises(BadInputError, match="does not see the folder"):
        joined(context)
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "small").mkdir()
    (tmp_path / "machine" / "small" / PROBE).write_text('{"token": "of another study of this name"}')
    with pytest.raises(BadInputError, match="does not see the folder"):
        joined(context, output_dir=str(tmp_path / "machine"))
    with context.engine.connect() as conn:
        assert find_folder(conn, "small", str(shared), "studies") == str(shared)


def test_a_folder_is_found_by_its_absolute_path_from_another_directory(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = launched(small(output_dir="studies"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with context.engine.connect() as conn:
        assert find_folder(conn, "small", None, "studies") == str(tmp_path / "studies")


def test_a_launch_marks_its_folder_once_and_anew_where_it_is_gone(small: Small) -> None:
    context = launched(small())
    probe = context.spec.folder / PROBE
    token = json.loads(probe.read_text())["token"]
    mark_folder(context)
    assert json.loads(probe.read_text())["token"] == token
    probe.unlink()
    mark_folder(context)
    assert json.loads(probe.read_text())["token"] != token
    with context.engine.connect() as conn:
        assert find_folder(conn, "small", None, context.spec.output_dir) == context.spec.output_dir


def test_a_second_launch_from_a_machine_without_the_folder_is_refused(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = launched(small())
    monkeypatch.setattr(socket, "gethostname", lambda: "north")
    claimed(context)
    monkeypatch.setattr(socket, "gethostname", lambda: "south")
    (context.spec.folder / PROBE).unlink()
    with pytest.raises(
        BadInputError, match="host north works on study 'small' in a folder that this machine"
    ):
        mark_folder(context)


def test_a_study_that_is_not_ready_is_waited_for(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(small())
    with pytest.raises(StudyStoppedError, match=r"not ready for workers within wait_s=0 seconds: launch it"):
        joined(context)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        context.spec.folder.mkdir(parents=True, exist_ok=True)
        mark_folder(context)
        request_action(context.engine, "small", "stop")

    monkeypatch.setattr("optimize.study.launch.join.time.sleep", sleep)
    with pytest.raises(StoppedByActionError):  # a stopped study is joined by nobody
        joined(context, wait_s=60.0)
    assert len(waits) == 1


def test_the_next_phase_is_waited_for(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small()
    two = dataclasses.replace(spec.phase, kind="two")
    first = launched(dataclasses.replace(spec, name="small.timeframe", n_trials=1, phase=two))
    play(first)
    worked: list[str] = []

    def work(record: StudyRecord, output_dir: str, place: MachineSettings, console: Console) -> None:
        worked.append(record.study_name)

    monkeypatch.setattr(join, "_work", work)
    monkeypatch.setattr(
        "optimize.study.launch.join.time.sleep",
        lambda _: launched(dataclasses.replace(spec, name="small.model", phase=two)),
    )
    ended, heard = joined(first, wait_s=60.0)
    assert worked == ["small.timeframe", "small.model"]
    assert "small.model is not ready for workers yet" in heard
    assert ended == "study small is at its cap"


@pytest.mark.slow
def test_jobs_of_an_array_join_one_study(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=3)
    context = launched(spec)
    play(context, 1)
    job = ("worker", "name=small", f"database.url={spec.database.url}", "worker.count=1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    forked = start_verb(elsewhere, *job)  # the second job is as the first, and need not import all anew
    command = [sys.executable, "-m", "optimize", *job]
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": "1"}
    ran = subprocess.run(
        command,
        cwd=elsewhere,
        timeout=PATIENCE_S,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    forked.join()
    assert (ran.returncode, forked.exitcode) == (0, 0), ran.stdout + ran.stderr + said(elsewhere)
    assert "study small is at its cap" in ran.stdout
    assert "study small is at its cap" in said(elsewhere)
    assert states(context) == {"COMPLETE": 3}
    assert not list(elsewhere.glob("studies/*"))
    assert rows(spec, "SELECT COUNT(*) FROM wf_runs WHERE state = 'COMPLETE'") == [(3,)]
    assert not rows(spec, "SELECT * FROM wf_leases")


def test_a_spec_of_another_version_is_refused(small: Small) -> None:
    context = launched(small())
    change_record(context, spec={**record_of(context).spec, "moon": "full"})
    with pytest.raises(BadInputError, match="moon"):
        joined(context)
    assert DatabaseSpec().url
