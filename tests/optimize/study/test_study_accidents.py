"""Accidents of a machine during a study: changed clocks, folders and files, and killed processes."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from optimize.database import server_time
from optimize.errors import BadInputError
from optimize.results import leases
from optimize.study.control import NoTrial
from optimize.study.dashboard.attach_missing import DRAWN, attach_figures
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.trials import claim as caps
from optimize.study.trials.claim import claim
from optimize.study.workers.process import market_builder
from optimize.study.workers.supervisor import Supervisor
from optimize.walkforward.files import find_returns
from tests.optimize.study.crashes import launch_killed_at
from tests.optimize.study.databases import Small
from tests.optimize.study.forks import launch
from tests.optimize.study.studies import claimed, opened, rows, small_spec, states

HOUR_S = 3600.0


def solo(folder: Path) -> StudySpec:
    """Return a study of one worker and two trials."""
    return opened(small_spec(folder, n_trials=2, worker=WorkerSpec(count=1))).spec


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_no_jump_of_the_clock_takes_a_trial_from_a_living_worker(
    small: Small, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    context = opened(small(n_trials=1))
    held = claimed(context)
    real = server_time
    monkeypatch.setattr(caps, "server_time", lambda conn: real(conn) + jump_s)
    assert claim(context, 1, market_builder(context)) is NoTrial.WAIT
    with context.engine.connect() as conn:
        (lease,) = leases.active(conn, "small")
        assert (lease.run_uuid, lease.token) == (held.run.run_uuid, 1)
        assert not leases.is_future(lease, real(conn) + jump_s)


def test_a_lease_of_another_machine_that_died_before_the_clock_was_set_back_expires(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small(n_trials=1))
    held = claimed(context)
    monkeypatch.setattr(leases, "this_host", lambda: "vm#another")
    monkeypatch.setattr("optimize.results.processes.this_host", lambda: "vm#another")
    monkeypatch.setattr(leases, "refuse_other_hosts", lambda conn, now: None)
    now = [held.lease.renewed_at - HOUR_S]
    monkeypatch.setattr(caps, "server_time", lambda conn: now[0])
    lay = market_builder(context)
    assert claim(context, 1, lay) is NoTrial.WAIT
    now[0] += held.lease.lease_s + 1.0
    found = claim(context, 1, lay)
    assert isinstance(found, caps.Claim)
    assert found.run.trial_number == 0


def test_a_folder_that_is_removed_in_the_middle_is_made_anew(tmp_path: Path) -> None:
    spec = solo(tmp_path)
    remove = partial(shutil.rmtree, spec.folder)
    assert launch_killed_at(spec, "window 0", tmp_path / "mark", remove) == 0
    assert rows(spec, "SELECT DISTINCT state FROM trials") == [("COMPLETE",)]
    assert len(list(spec.folder.glob("trials/*/windows/1/repeat_0/returns.parquet"))) == 2


def test_windows_whose_files_were_removed_before_a_take_over_are_run_again(tmp_path: Path) -> None:
    spec = solo(tmp_path)
    launch_killed_at(spec, "window 0", tmp_path / "mark")
    shutil.rmtree(spec.folder)
    assert launch(spec) == 0
    assert rows(spec, "SELECT DISTINCT state FROM trials") == [("COMPLETE",)]
    assert len(list(spec.folder.glob("trials/*/windows/*/repeat_0/returns.parquet"))) == 4


def cut(spec: StudySpec) -> None:
    """Cut the returns of every finished window short."""
    for path in spec.folder.glob("trials/*/windows/*/repeat_0/returns.parquet"):
        path.write_bytes(path.read_bytes()[:-20])


def test_windows_whose_returns_were_cut_before_a_take_over_are_run_again(tmp_path: Path) -> None:
    spec = solo(tmp_path)
    launch_killed_at(spec, "window 0", tmp_path / "mark")
    cut(spec)
    assert launch(spec) == 0
    assert rows(spec, "SELECT DISTINCT state FROM trials") == [("COMPLETE",)]


def test_cut_returns_of_finished_trials_end_no_launch(tmp_path: Path) -> None:
    spec = solo(tmp_path)
    assert launch(spec) == 0
    cut(spec)
    said: list[str] = []
    context = opened(spec)
    attach_figures(context, said.append)
    assert said == []
    assert context.study.user_attrs[DRAWN] == 2
    assert find_returns(next(spec.folder.glob("trials/*/windows/0/repeat_0/returns.parquet"))) is None


def test_a_place_for_logs_that_cannot_be_made_is_one_line_before_any_worker_starts(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path))
    context.spec.folder.mkdir(parents=True)
    (context.spec.folder / "logs").write_text("a file")
    with pytest.raises(BadInputError, match=r"output_dir: cannot create the folder .*logs.*Not a directory"):
        Supervisor(context).run(lambda: None)
    assert not states(context)


def test_a_trainer_that_ends_its_process_loses_nothing_the_first_time(tmp_path: Path) -> None:
    spec = solo(tmp_path)
    assert launch_killed_at(spec, "train 0", tmp_path / "mark", partial(quit_with, 1)) == 0
    assert rows(spec, "SELECT number, state FROM trials ORDER BY 1") == [(0, "COMPLETE"), (1, "COMPLETE")]
    assert rows(spec, "SELECT reason FROM wf_runs WHERE state = 'LOST'") == [("its worker died",)]


def quit_with(code: int) -> None:
    os._exit(code)
