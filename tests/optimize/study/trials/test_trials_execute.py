"""How a claimed trial ends: complete, infeasible, failed, stopped, fenced off."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from optimize.agents.sb3.train import train as train_agent
from optimize.agents.train_spec import TrainSpec
from optimize.errors import StaleRunError
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import Window, WindowSpec
from optimize.results.runs import windows_of
from optimize.search.spec import PrunerSpec
from optimize.study.control import NoTrial
from optimize.study.spec import StudySpec
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import StopRequestedError, perform
from optimize.study.workers.process import market_builder, run_claims
from optimize.walkforward import run as trial_module
from optimize.walkforward.files import RETURNS, read_returns, run_folder, window_folder
from optimize.walkforward.spec import at_timeframe
from tests.optimize.study.studies import (
    change_windows,
    claimed,
    expire,
    never,
    opened,
    play,
    rows,
    run_of,
    small_spec,
    states,
    unchanged,
    with_sharpe,
)

BEST_SQL = """
SELECT COUNT(*), MAX(value) FROM trials t JOIN trial_values v ON t.trial_id = v.trial_id
WHERE t.state = 'COMPLETE' AND t.study_id = (SELECT study_id FROM studies WHERE study_name = :name)
"""


def test_sql_optuna_and_best_models_agree_on_the_best_trial(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=4))
    assert play(context) is NoTrial.FULL
    ((count, best),) = rows(context.spec, BEST_SQL, name="small")
    models = rows(context.spec, "SELECT trial_number, score FROM best_models ORDER BY score DESC")
    assert count == len(models) == 4
    assert best == context.study.best_value == models[0][1]
    assert models[0][0] == context.study.best_trial.number
    assert np.isfinite([score for _, score in models]).all()
    assert len({score for _, score in models}) == 4
    assert {trial.user_attrs["run_uuid"] for trial in context.study.trials} == {
        run_of(context, number).run_uuid for number in range(4)
    }


def test_a_complete_trial_leaves_rows_and_files_of_every_window_and_repeat(tmp_path: Path) -> None:
    score = ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0, repeats=2)
    context = opened(small_spec(tmp_path, n_trials=1, score=score))
    play(context)
    run = run_of(context, 0)
    folder = run_folder(context.spec.folder, 0, run.run_uuid)
    with context.engine.connect() as conn:
        windows = windows_of(conn, run.run_uuid)
    assert [(w.window, w.repeat) for w in windows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for window in windows:
        place = window_folder(folder, window.window, window.repeat)
        assert context.spec.folder / str(window.returns_path) == place / RETURNS
        for name in ("model.zip", "policy.safetensors", "spec.json", "scaler.npz"):
            assert (place / name).is_file()
        assert read_returns(place / RETURNS)[1].metrics.trades == window.trades
    assert not rows(context.spec, "SELECT * FROM wf_leases")


def test_an_infeasible_trial_is_pruned_with_its_reason_and_constraint(tmp_path: Path) -> None:
    score = ScoreSpec(min_periods=2, min_trades=10**6, min_volatility=0.0)
    context = opened(small_spec(tmp_path, n_trials=2, score=score))
    assert play(context) is NoTrial.FULL
    assert states(context) == {"PRUNED": 2}
    for trial in context.study.trials:
        assert trial.constraints == {"feasible": 1.0}
        assert trial.user_attrs["feasible"] is False
        assert run_of(context, trial.number).reason == "min_trades"
        assert run_of(context, trial.number).score is None


def test_a_feature_that_is_nan_fails_the_trial_as_numeric(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=1))
    windowed = market_builder(context)(context.spec)
    features = windowed.market.features.copy()
    features[windowed.windows[0].train_last - 5] = np.nan
    broken = dataclasses.replace(windowed, market=dataclasses.replace(windowed.market, features=features))
    found = claim(context, 0, lambda spec: broken)
    assert isinstance(found, Claim)
    run = perform(context, found, never)
    assert (run.state, run.failure_kind) == ("FAIL", "numeric")
    assert "not finite" in str(run.failure_message)
    assert states(context) == {"FAIL": 1}


def test_a_trainer_that_raises_fails_its_trial_and_the_worker_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small_spec(tmp_path, n_trials=2))
    calls: list[None] = []

    def train(*args: object, **options: object) -> object:
        calls.append(None)
        if len(calls) == 1:
            raise ZeroDivisionError("the trainer is broken")
        return train_agent(*args, **options)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(trial_module, "train", train)
    assert run_claims(context, 0, never) == 0
    assert states(context) == {"FAIL": 1, "COMPLETE": 2}  # a failed trial is not counted in the cap
    failed = run_of(context, 0)
    assert failed.failure_kind == "bug"
    assert failed.failure_message == "ZeroDivisionError: the trainer is broken"
    assert "in train" in str(failed.traceback)


def test_a_stop_keeps_the_window_that_ran_and_gives_the_trial_back_without_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small_spec(tmp_path, n_trials=1))
    ran = change_windows(monkeypatch, unchanged)
    with pytest.raises(StopRequestedError):
        perform(context, claimed(context), lambda: bool(ran))  # asked to stop while window 0 trains
    assert ran == [0]
    assert rows(context.spec, "SELECT losses, renewed_at FROM wf_leases") == [(0, 0.0)]
    ((seconds,),) = rows(context.spec, "SELECT seconds FROM wf_windows")
    run = perform(context, claimed(context), never)
    assert ran == [0, 1]  # window 0 was taken over
    assert run.state == "COMPLETE"
    with context.engine.connect() as conn:
        assert windows_of(conn, run.run_uuid)[0].seconds == seconds
    assert rows(context.spec, "SELECT state FROM wf_runs ORDER BY attempt") == [("LOST",), ("COMPLETE",)]


def test_a_run_that_lost_its_trial_can_neither_store_nor_finish_nor_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small_spec(tmp_path, n_trials=1))
    stalled = claimed(context)
    expire(context.spec, 0)
    successor = claimed(context, worker=1)
    assert successor.run.trial_number == 0
    assert successor.lease.token == stalled.lease.token + 1
    with pytest.raises(StaleRunError):
        perform(context, stalled, never)
    assert not rows(context.spec, "SELECT * FROM wf_windows")
    assert states(context) == {"RUNNING": 1}
    perform(context, successor, never)
    assert states(context) == {"COMPLETE": 1}
    assert run_of(context, 0).run_uuid == successor.run.run_uuid


def test_a_run_that_loses_its_trial_after_its_windows_cannot_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small_spec(tmp_path, n_trials=1))
    stalled = claimed(context)
    successors: list[Claim] = []
    real = trial_module.conclude

    def conclude(*args: object, **options: object) -> object:
        if not successors:
            expire(context.spec, 0)
            successors.append(claimed(context, worker=1))
        return real(*args, **options)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(trial_module, "conclude", conclude)
    with pytest.raises(StaleRunError):
        perform(context, stalled, never)
    assert states(context) == {"RUNNING": 1}
    assert rows(context.spec, "SELECT state, score FROM wf_runs ORDER BY attempt")[0] == ("LOST", None)
    assert [record.window for record in successors[0].adopted] == [0, 1]
    run = perform(context, successors[0], never)
    assert context.study.best_value == run.score


def test_a_trial_below_the_median_of_the_same_step_is_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = {0: [0.01, 0.01, 0.01], 1: [0.02, 0.02, 0.02], 2: [-0.01, 0.0, 0.0], 3: [0.05, -0.06, 0.0]}
    now = {"trial": 0}

    def change(measured: WindowResult, spec: StudySpec, window: Window) -> WindowResult:
        return with_sharpe(measured, means[now["trial"]][window.index])

    ran = change_windows(monkeypatch, change)
    pruner = PrunerSpec(name="median", n_startup_trials=2, n_warmup_steps=0, exempt_share=0.0)
    window = WindowSpec(count=3, train_ratio=2.0, min_train_bars=20)
    context = opened(small_spec(tmp_path, n_trials=4, pruner=pruner, window=window))
    reasons = []
    for number in range(4):
        now["trial"] = number
        reasons.append(perform(context, claimed(context), never).reason)
    # Trial 3 has the best first window of all: it must not shield its later windows.
    assert reasons == [
        None,
        None,
        "pruner: below the median after window 0",
        "pruner: below the median after window 1",
    ]
    assert ran == [0, 1, 2, 0, 1, 2, 0, 0, 1]
    assert states(context) == {"COMPLETE": 2, "PRUNED": 2}
    assert [trial.constraints for trial in context.study.trials] == [{}] * 4  # pruned is not infeasible
    assert all(trial.user_attrs["feasible"] for trial in context.study.trials)


def test_only_the_best_trials_and_running_ones_keep_their_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = [0.01, 0.03, 0.002, 0.02, 0.04]
    now = {"trial": 0}

    def change(measured: WindowResult, spec: StudySpec, window: Window) -> WindowResult:
        return with_sharpe(measured, means[now["trial"]])

    ran = change_windows(monkeypatch, change)
    context = opened(small_spec(tmp_path, n_trials=6, keep_models=2))
    before = len(ran)
    waiting = claimed(context)  # trial 0 finishes its first window and is given back
    with pytest.raises(StopRequestedError):
        perform(context, waiting, lambda: len(ran) > before)
    runner = claimed(context, worker=1)
    assert runner.run.trial_number == 0
    kept = []
    for number in range(1, 6):
        now["trial"] = number - 1
        assert perform(context, claimed(context), never).trial_number == number
        kept.append(weights(context.spec))
    assert [numbers - {0} for numbers in kept] == [{1}, {1, 2}, {1, 2}, {2, 4}, {2, 5}]
    assert all(
        0 in numbers for numbers in kept
    )  # windows that its successor has not copied yet are still there
    now["trial"] = 1
    assert perform(context, runner, never).state == "COMPLETE"
    assert len(list(context.spec.folder.glob("trials/*/windows/0/repeat_0/returns.parquet"))) == 7


def weights(spec: StudySpec) -> set[int]:
    return {int(path.parts[-5][:4]) for path in spec.folder.glob("trials/*/windows/*/repeat_0/model.zip")}


@pytest.mark.parametrize(
    ("gamma", "expected"), [({"gamma": 0.95}, 0.95**4), ({}, 0.99**4), ({"gamma": 0.0}, 0.0)]
)
def test_a_slower_timeframe_gets_equal_passes_and_an_equal_horizon_in_time(
    tmp_path: Path, gamma: dict[str, float], expected: float
) -> None:
    spec = small_spec(tmp_path)
    agent = dataclasses.replace(spec.agent, total_timesteps=1000, hyperparameters=gamma)
    slow = dataclasses.replace(spec.data, timeframe="4h")
    scaled = at_timeframe(dataclasses.replace(spec, data=slow, agent=agent), "1h")
    assert scaled.agent.total_timesteps == 256  # a quarter of two rollouts of 512
    assert scaled.agent.hyperparameters["gamma"] == pytest.approx(expected, rel=1e-15)
    same = dataclasses.replace(spec, agent=agent)
    assert at_timeframe(same, "1h") == same
    passes = dataclasses.replace(spec, data=slow, agent=agent, train=TrainSpec(passes=4.0))
    assert at_timeframe(passes, "1h").agent.total_timesteps == 1000  # the budget follows the bars already
    assert at_timeframe(passes, "1h").agent.hyperparameters["gamma"] == pytest.approx(expected, rel=1e-15)
