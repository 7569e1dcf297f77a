"""The seeds of a trial depend on the study seed, its number, the window and the repeat alone."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.agents.sb3.train import train as train_agent
from optimize.evaluate.metrics import returns_of_sessions, sharpe_ratio
from optimize.evaluate.rollout import rollout
from optimize.evaluate.summary import WindowResult, walk_forward_efficiency
from optimize.evaluate.windows import Window, parts_of_sessions
from optimize.results.runs import windows_of
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import fit_to_window
from optimize.walkforward.run import Report, evaluate_window, run_trial, run_window, seed_of
from tests.optimize.study.studies import (
    change_windows,
    ground_of,
    opened,
    play,
    run_of,
    small_spec,
    unchanged,
)


def told(folder: Path, *limits: int | None, **changes: Any) -> list[tuple[Mapping[str, Any], Any]]:
    """Run a study in as many launches as there are limits; return the parameters and score of each trial."""
    spec = small_spec(folder, **changes)
    for limit in limits:
        context = opened(spec)
        play(context, limit)
    runs = [run_of(context, number) for number in range(spec.n_trials)]
    return [(run.parameters, run.score) for run in runs]


def test_a_study_repeats_bit_for_bit_and_a_resumed_one_proposes_the_same(tmp_path: Path) -> None:
    once = told(tmp_path / "once", None, n_trials=5)
    assert len({score for _, score in once}) == 5
    assert told(tmp_path / "resumed", 1, 2, None, n_trials=5) == once
    other = told(tmp_path / "other", None, n_trials=5, seed=1)
    assert not {score for _, score in once} & {score for _, score in other}


def test_a_seed_is_the_seed_sequence_of_study_trial_window_and_repeat() -> None:
    expected = np.random.SeedSequence([3, 14, 1, 2]).generate_state(1)[0]
    assert seed_of([3, 14], 1, 2) == expected
    assert len({seed_of([0, t], w, r) for t in range(9) for w in range(4) for r in range(3)}) == 108


def test_each_window_and_repeat_trains_on_its_own_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def train(*args: Any, **options: Any) -> Any:
        seeds.append(options["seed"])
        return train_agent(*args, **options)

    monkeypatch.setattr("optimize.walkforward.run.train", train)
    spec = small_spec(tmp_path, seed=7)
    spec = dataclasses.replace(spec, score=dataclasses.replace(spec.score, repeats=2))
    context = opened(spec)
    play(context, 2)
    assert run_of(context, 1).entropy == [7, 1]
    assert seeds == [seed_of([7, t], w, r) for t in (0, 1) for w in (0, 1) for r in (0, 1)]


def test_finished_windows_are_not_run_again_and_still_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = change_windows(monkeypatch, unchanged)
    spec = small_spec(tmp_path)
    windowed = ground_of(opened(spec), spec)
    stored: dict[tuple[int, int], WindowResult] = {}

    def keep(window: Window, repeat: int, trained: object, measured: WindowResult, trades: object) -> None:
        stored[window.index, repeat] = measured

    def reporting(into: list[tuple[int, float]]) -> Report:
        def report(step: int, value: float) -> bool:
            into.append((step, value))
            return False

        return report

    first: list[tuple[int, float]] = []
    second: list[tuple[int, float]] = []
    whole = run_trial(spec, windowed, [0, 0], keep=keep, report=reporting(first))
    assert ran == [0, 1]
    again = run_trial(
        spec, windowed, [0, 0], keep=keep, report=reporting(second), finished={(0, 0): stored[0, 0]}
    )
    assert ran == [0, 1, 1]
    assert second == first
    assert again.score == whole.score


def test_nothing_is_reported_before_the_score_means_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nearly_flat(measured: WindowResult, spec: StudySpec, window: Window) -> WindowResult:
        return dataclasses.replace(measured, returns=np.zeros_like(measured.returns))

    change_windows(monkeypatch, nearly_flat)
    context = opened(small_spec(tmp_path, n_trials=1))
    play(context)
    (trial,) = context.study.trials
    assert (trial.state.name, trial.intermediate_values) == ("PRUNED", {})
    assert run_of(context, 0).reason == "undefined_sharpe"


def test_a_window_has_the_sharpe_ratio_of_its_policy_on_its_own_train_span(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    windowed = ground_of(opened(spec), spec)
    window = windowed.windows[1]
    model, result, _ = run_window(spec, windowed, window, seed=3)
    again, _ = evaluate_window(spec, windowed, window, model, in_sample=True)
    assert again.metrics == result.metrics
    _, market = fit_to_window(spec, windowed, window)
    parts = parts_of_sessions(market, window.train_first + 1, window.train_last)
    bars = [np.arange(first, last + 1) for (first, last), _ in parts]
    np.testing.assert_array_equal(
        np.concatenate(bars), np.arange(window.train_first + 1, window.train_last + 1)
    )
    rules: dict[str, Any] = {"env": spec.env, "cost": spec.cost, "reward": spec.reward, "lookback": 2}
    stepped = dataclasses.replace(model.agent, fused=False)
    played = rollout(stepped, market, [span for span, _ in parts], **rules)
    returns = [
        returns_of_sessions(market, evaluation, *sessions)
        for evaluation, (_, sessions) in zip(played, parts, strict=True)
    ]
    expected = sharpe_ratio(np.concatenate(returns), market.sessions_per_year)
    assert result.metrics.sharpe_in_sample == pytest.approx(expected, rel=1e-4)
    assert evaluate_window(spec, windowed, window, model)[0].metrics.sharpe_in_sample is None


def test_a_run_stores_its_degradation_and_its_walk_forward_efficiency(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=1))
    play(context)
    run = run_of(context, 0)
    with context.engine.connect() as conn:
        windows = windows_of(conn, run.run_uuid)
    metrics = run.metrics or {}
    inside = [window.sharpe_in_sample or 0.0 for window in windows]
    assert metrics["sharpe_in_sample"] == pytest.approx(np.mean(inside))
    assert metrics["degradation"] == pytest.approx(np.mean(inside) - (metrics["sharpe"] or 0.0))
    assert metrics["window_spread"] == pytest.approx(np.std([w.sharpe or 0.0 for w in windows], ddof=1))
    assert metrics["largest_exposure"] == max(window.largest_exposure or 0.0 for window in windows)


def test_the_efficiency_has_no_meaning_where_the_train_span_earned_nothing() -> None:
    assert walk_forward_efficiency(2.0, 0.5) == 0.25
    assert np.isnan([walk_forward_efficiency(-1.0, 0.5), walk_forward_efficiency(None, 0.5)]).all()
