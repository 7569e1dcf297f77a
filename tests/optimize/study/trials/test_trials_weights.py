"""The agents of a trial outlive every change of its run, and go when nobody can want them any more."""

from pathlib import Path
from typing import Any

import pytest

from optimize.agents.sb3.train import train as train_agent
from optimize.bundles.export import export_best
from optimize.evaluate.windows import WindowSpec
from optimize.results import leases
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial
from optimize.study.trials.claim import claim
from optimize.study.trials.execute import StopRequestedError, perform
from optimize.study.workers.process import market_builder
from optimize.walkforward import run as trial_module
from optimize.walkforward.files import drop_weights, holds_agent, run_folder, window_folder
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


def weights(context: StudyContext) -> set[str]:
    """Return the folders of runs that hold an agent."""
    return {path.parts[-5] for path in context.spec.folder.glob("trials/*/windows/*/repeat_0/model.zip")}


def give_back(context: StudyContext) -> Path:
    """Run a trial to the end of its next window and give it back; return the folder of the run."""
    found = claimed(context)
    with pytest.raises(StopRequestedError):
        perform(context, found, lambda: True)
    return run_folder(context.spec.folder, found.run.trial_number, found.run.run_uuid)


@pytest.mark.usefixtures("replayed_here")
def test_a_trial_that_was_given_back_twice_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = change_windows(monkeypatch, unchanged)
    context = opened(small_spec(tmp_path, n_trials=2, window=THREE))
    for number in range(2):
        give_back(context)
        give_back(context)
        run = perform(context, claimed(context), never)
        folder = run_folder(context.spec.folder, number, run.run_uuid)
        assert all(holds_agent(window_folder(folder, window, 0)) for window in range(3))
    assert ran == [0, 1, 2] * 2
    assert len(weights(context)) == 2  # none of them an earlier run's
    exported = export_best(context.engine, context.spec.output_dir, "small", 1)
    assert [each.outcome for each in exported] == ["replayed bit for bit"]


def test_a_window_whose_newest_files_are_gone_is_taken_from_an_older_run_or_run_again(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = change_windows(monkeypatch, unchanged)
    context = opened(small(n_trials=1, window=THREE))
    older, newer = give_back(context), give_back(context)
    assert ran == [0, 1]
    drop_weights(newer)  # as a run of an earlier version was left
    third = claimed(context)
    assert [str(older.name) in str(each.returns_path) for each in third.adopted] == [True]
    with context.engine.begin() as conn:
        leases.abandon(conn, third.lease)
    drop_weights(older)
    run = perform(context, claimed(context), never)
    assert ran == [0, 1, 0, 1, 2]
    folder = run_folder(context.spec.folder, 0, run.run_uuid)
    assert all(holds_agent(window_folder(folder, window, 0)) for window in range(3))


def test_a_failed_trial_leaves_no_weights(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def train(*arguments: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if calls[-1] in (1, 2):  # tried once more after window 0, and it fails again
            raise MemoryError("no room")
        return train_agent(*arguments, **options)

    monkeypatch.setattr(trial_module, "train", train)
    context = opened(small(n_trials=1))
    play(context, 2)
    assert (states(context), weights(context)) == ({"FAIL": 1}, set())
    assert len(list(context.spec.folder.glob("trials/0000_*/windows/0/repeat_0/returns.parquet"))) == 2


def test_a_trial_that_lost_its_worker_twice_leaves_no_weights(small: Small) -> None:
    context = opened(small(n_trials=1))
    give_back(context)
    for _ in range(2):
        found = claimed(context)
        with context.engine.begin() as conn:
            leases.count_loss(conn, found.lease)
    assert claim(context, 0, market_builder(context)) is not NoTrial.FULL  # and another trial begins
    assert run_of(context, 0).failure_kind == "stale"
    assert weights(context) == set()


def test_a_worker_killed_as_it_tells_leaves_no_surplus_weights(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise SystemExit

    context = opened(small(n_trials=3, keep_models=1))
    play(context, 2)
    found = claimed(context)
    with monkeypatch.context() as patch:
        patch.setattr("optimize.search.storage.StudyStorage.set_trial_state_values", die)
        with pytest.raises(SystemExit):
            perform(context, found, never)
    assert len(weights(context)) == 1


def test_a_trial_that_another_tells_counts_among_the_kept_models(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise SystemExit

    context = opened(small(n_trials=3, keep_models=1))
    play(context, 1)
    found = claimed(context)
    with monkeypatch.context() as patch:
        patch.setattr("optimize.study.trials.execute.tell", die)
        with pytest.raises(SystemExit):
            perform(context, found, never)
    assert len(weights(context)) == 2
    expire(context.spec, 1)
    claimed(context)  # reports it first
    assert states(context) == {"COMPLETE": 2, "RUNNING": 1}
    assert {int(name[:4]) for name in weights(context)} == {context.study.best_trial.number}
