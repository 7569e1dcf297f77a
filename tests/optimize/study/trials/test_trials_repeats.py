"""Repeats of a window: run back to back, judged together, and none of them lost or run twice."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from optimize.evaluate.score import ScoreSpec, running_score
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import Window, WindowSpec
from optimize.results import leases
from optimize.search.spec import PrunerSpec
from optimize.study.context import StudyContext
from optimize.study.spec import StudySpec
from optimize.study.trials import execute as perform_module
from optimize.study.trials.execute import StopRequestedError, perform
from optimize.walkforward import run as trial_module
from optimize.walkforward.files import read_returns
from tests.optimize.study.studies import (
    change_windows,
    claimed,
    expire,
    never,
    opened,
    rows,
    run_of,
    small_spec,
    with_sharpe,
)

SCORE = ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0, repeats=3)
BITING = PrunerSpec(n_startup_trials=1, n_warmup_steps=0, exempt_share=0.0)
WINDOWS = WindowSpec(count=3, train_ratio=2.0, min_train_bars=20)


class KilledError(BaseException):
    """The process ended here."""


def seeds_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the list of (window, seed) as they are trained."""
    real, trained = trial_module.run_window, []

    def run_window(spec: StudySpec, windowed: Any, window: Window, seed: int, engine: Any) -> Any:
        trained.append((window.index, seed))
        return real(spec, windowed, window, seed, engine)

    monkeypatch.setattr(trial_module, "run_window", run_window)
    return trained


def steps(context: StudyContext, number: int = 0) -> dict[int, float]:
    return dict(context.study.get_trials(deepcopy=False)[number].intermediate_values)


def test_a_trial_stopped_after_every_repeat_ends_as_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = seeds_of(monkeypatch)
    whole = opened(small_spec(tmp_path, name="whole", n_trials=1, score=SCORE))
    perform(whole, claimed(whole), never)
    seen = list(trained)
    assert [window for window, _ in seen] == [0, 0, 0, 1, 1, 1]
    assert len(set(seen)) == 6
    trained.clear()
    context = opened(small_spec(tmp_path, name="broken", n_trials=1, score=SCORE))
    for _ in range(6):
        with pytest.raises(StopRequestedError):
            perform(context, claimed(context), lambda: True)
    perform(context, claimed(context), never)
    assert trained == seen
    assert run_of(context, 0).score == run_of(whole, 0).score
    assert run_of(context, 0).metrics == run_of(whole, 0).metrics
    assert steps(context) == steps(whole)
    of_run = "SELECT window, repeat FROM wf_windows WHERE run_uuid = :run ORDER BY 1, 2"
    stored = rows(context.spec, of_run, run=run_of(context, 0).run_uuid)
    assert stored == [(window, repeat) for window in range(2) for repeat in range(3)]


def test_a_window_is_reported_once_all_its_repeats_are_there(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=1, score=SCORE))
    found = claimed(context)
    run = perform(context, found, never)
    paths = rows(context.spec, "SELECT repeat, window, returns_path FROM wf_windows ORDER BY repeat, window")
    measured = [read_returns(context.spec.folder / path)[1].returns for _, _, path in paths]
    repeats = [measured[start : start + 2] for start in (0, 2, 4)]
    per_year = found.windowed.market.sessions_per_year
    expected = {last: running_score(SCORE, [r[: last + 1] for r in repeats], per_year) for last in range(2)}
    assert steps(context) == expected
    assert run.score == expected[1]


def test_the_lease_names_the_window_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(small_spec(tmp_path, n_trials=1, score=SCORE))
    real, beats, running = trial_module.run_window, [], []

    class Heartbeat(perform_module.Heartbeat):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            beats.append(self)

    def run_window(spec: StudySpec, windowed: Any, window: Window, seed: int, engine: Any) -> Any:
        running.append((window.index, beats[0].window))
        return real(spec, windowed, window, seed, engine)

    monkeypatch.setattr(perform_module, "Heartbeat", Heartbeat)
    monkeypatch.setattr(trial_module, "run_window", run_window)
    perform(context, claimed(context), never)
    assert running == [(0, 0)] * 3 + [(1, 1)] * 3


def test_a_pruned_trial_ran_all_repeats_of_its_last_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [False]

    def change(measured: WindowResult, spec: StudySpec, window: Window) -> WindowResult:
        return with_sharpe(measured, -0.01 if bad[0] and window.index else 0.01)

    change_windows(monkeypatch, change)
    context = opened(small_spec(tmp_path, n_trials=2, score=SCORE, pruner=BITING, window=WINDOWS))
    perform(context, claimed(context), never)
    bad[0] = True
    run = perform(context, claimed(context), never)
    assert (run.state, run.reason) == ("PRUNED", "pruner: below the median after window 1")
    assert rows(context.spec, "SELECT COUNT(*) FROM wf_windows WHERE run_uuid = :run", run=run.run_uuid) == [
        (6,)
    ]


def test_a_run_lost_between_verdict_and_record_is_pruned_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [False]

    def change(measured: WindowResult, spec: StudySpec, window: Window) -> WindowResult:
        return with_sharpe(measured, -0.01 if bad[0] and window.index else 0.01)

    ran = change_windows(monkeypatch, change)
    context = opened(small_spec(tmp_path, n_trials=2, pruner=BITING, window=WINDOWS))
    perform(context, claimed(context), never)
    bad[0] = True
    lost = claimed(context)

    def die(conn: Connection, lease: leases.Lease, outcome: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(perform_module, "settle", die)
        with pytest.raises(KilledError):
            perform(context, lost, never)
    expire(context.spec, lost.trial.number)
    run = perform(context, claimed(context), never)
    assert ran == [0, 1, 2, 0, 1]
    assert (run.state, run.reason) == ("PRUNED", "pruner: below the median after window 1")
    assert run.parameters == lost.run.parameters


def test_halving_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [False]
    change_windows(monkeypatch, lambda measured, *_: with_sharpe(measured, -0.01 if bad[0] else 0.01))
    halving = dataclasses.replace(BITING, name="successive_halving")
    context = opened(small_spec(tmp_path, n_trials=2, pruner=halving, window=WINDOWS))
    perform(context, claimed(context), never)
    bad[0] = True
    assert perform(context, claimed(context), never).reason == "pruner: not in the better half after window 0"
