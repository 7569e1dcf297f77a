"""The agents of a trial outlive every change of its run, and go when nobody can want them any more."""

from pathlib import Path
from typing import Any

import pytest

from optimize.agents.train import train as train_agent
from optimize.evaluate.windows import WindowSpec
from optimize.results import leases
from optimize.study import trial as trial_module
from optimize.study.claims.caps import Verdict, claim
from optimize.study.claims.perform import StopRequestedError, perform
from optimize.study.export.best import export_best
from optimize.study.files import drop_weights, holds_agent, run_folder, window_folder
from optimize.study.handle import Handle
from optimize.study.workers.process import ground_source
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import (
    change_windows,
    claimed,
    expire,
    never,
    opened,
    play,
    run_of,
    small_spec,
    states,
    unchanged,
)

THREE = WindowSpec(count=3, train_ratio=2.0, min_train_bars=20)


def weights(handle: Handle) -> set[str]:
    """Return the folders of runs that hold an agent."""
    return {path.parts[-5] for path in handle.spec.folder.glob("trials/*/windows/*/repeat_0/model.zip")}


def give_back(handle: Handle) -> Path:
    """Run a trial to the end of its next window and give it back; return the folder of the run."""
    found = claimed(handle)
    with pytest.raises(StopRequestedError):
        perform(handle, found, lambda: True)
    return run_folder(handle.spec.folder, found.run.trial_number, found.run.run_uuid)


def test_a_trial_that_was_given_back_twice_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = change_windows(monkeypatch, unchanged)
    handle = opened(small_spec(tmp_path, n_trials=2, window=THREE))
    for number in range(2):
        give_back(handle)
        give_back(handle)
        run = perform(handle, claimed(handle), never)
        folder = run_folder(handle.spec.folder, number, run.run_uuid)
        assert all(holds_agent(window_folder(folder, window, 0)) for window in range(3))
    assert ran == [0, 1, 2] * 2
    assert len(weights(handle)) == 2  # none of them an earlier run's
    exported = export_best(handle.engine, handle.spec.output_dir, "small", 1)
    assert [each.outcome for each in exported] == ["replayed bit for bit"]


def test_a_window_whose_newest_files_are_gone_is_taken_from_an_older_run_or_run_again(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = change_windows(monkeypatch, unchanged)
    handle = opened(small(n_trials=1, window=THREE))
    older, newer = give_back(handle), give_back(handle)
    assert ran == [0, 1]
    drop_weights(newer)  # as a run of an earlier version was left
    third = claimed(handle)
    assert [str(older.name) in str(each.returns_path) for each in third.adopted] == [True]
    with handle.engine.begin() as conn:
        leases.abandon(conn, third.lease)
    drop_weights(older)
    run = perform(handle, claimed(handle), never)
    assert ran == [0, 1, 0, 1, 2]
    folder = run_folder(handle.spec.folder, 0, run.run_uuid)
    assert all(holds_agent(window_folder(folder, window, 0)) for window in range(3))


def test_a_failed_trial_leaves_no_weights(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def train(*arguments: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if calls[-1] in (1, 2):  # tried once more after window 0, and it fails again
            raise MemoryError("no room")
        return train_agent(*arguments, **options)

    monkeypatch.setattr(trial_module, "train", train)
    handle = opened(small(n_trials=1))
    play(handle, 2)
    assert (states(handle), weights(handle)) == ({"FAIL": 1}, set())
    assert len(list(handle.spec.folder.glob("trials/0000_*/windows/0/repeat_0/returns.parquet"))) == 2


def test_a_trial_that_lost_its_worker_twice_leaves_no_weights(small: Small) -> None:
    handle = opened(small(n_trials=1))
    give_back(handle)
    for _ in range(2):
        found = claimed(handle)
        with handle.engine.begin() as conn:
            leases.count_loss(conn, found.lease)
    assert claim(handle, 0, ground_source(handle)) is not Verdict.FULL  # and another trial begins
    assert run_of(handle, 0).failure_kind == "stale"
    assert weights(handle) == set()


def test_a_worker_killed_as_it_tells_leaves_no_surplus_weights(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise SystemExit

    handle = opened(small(n_trials=3, keep_models=1))
    play(handle, 2)
    found = claimed(handle)
    with monkeypatch.context() as patch:
        patch.setattr("optuna.Study.tell", die)
        with pytest.raises(SystemExit):
            perform(handle, found, never)
    assert len(weights(handle)) == 1


def test_a_trial_that_another_tells_counts_among_the_kept_models(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise SystemExit

    handle = opened(small(n_trials=3, keep_models=1))
    play(handle, 1)
    found = claimed(handle)
    with monkeypatch.context() as patch:
        patch.setattr("optimize.study.claims.perform.tell", die)
        with pytest.raises(SystemExit):
            perform(handle, found, never)
    assert len(weights(handle)) == 2
    expire(handle.spec, 1)
    claimed(handle)  # tells it first
    assert states(handle) == {"COMPLETE": 2, "RUNNING": 1}
    assert {int(name[:4]) for name in weights(handle)} == {handle.study.best_trial.number}
