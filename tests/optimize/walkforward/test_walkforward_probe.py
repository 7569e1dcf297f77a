"""The linear probe of a configuration as a baseline, and its place beside the trials of a study."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from envs.costs import CostSpec
from envs.spec import EnvSpec
from envs.types import Market
from optimize.data.features.spec import FeatureSpec
from optimize.evaluate.captions import LINEAR_PROBE
from optimize.evaluate.summary import WindowResult
from optimize.report.notes import trial_note
from optimize.report.probe import probe_line
from optimize.results.outcome import beside_probe
from optimize.results.probes import load_probe, load_probes, probe_rows
from optimize.results.queries import best_models
from optimize.study.trials import probe as beside
from optimize.walkforward import markets
from optimize.walkforward.markets import build_windowed_market, fit_to_window
from optimize.walkforward.probe import evaluate_probe, inputs_key
from optimize.walkforward.representation import fit_representation
from tests.optimize.study.studies import opened, play, run_of, small_spec


def test_it_trades_every_window_and_repeats_itself(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    windowed = build_windowed_market(spec, None)
    found, again = (evaluate_probe(spec, windowed) for _ in range(2))
    assert found.baseline.name == LINEAR_PROBE
    assert len(found.choices) == len(windowed.windows) == len(found.baseline.windows)
    for window, returns, choice in zip(windowed.windows, found.baseline.returns, found.choices, strict=True):
        assert len(returns) == window.dates.test_sessions
        assert choice is not None
    assert found.choices == again.choices
    assert found.baseline.score == again.baseline.score


def test_a_train_span_that_is_too_short_leaves_it_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.evaluate.probe.ridge.LEAST_ROWS", 10**6)
    spec = small_spec(tmp_path)
    found = evaluate_probe(spec, build_windowed_market(spec, None))
    assert set(found.choices) == {None}
    assert found.baseline.score is None
    assert not np.concatenate(found.baseline.returns).any()


def test_the_fits_of_a_trial_serve_its_probe_and_the_next_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = []

    def counted(market: Market, first: int, last: int, feature: FeatureSpec, *, at_open: bool) -> Any:
        fits.append((first, feature.lookback))
        return fit_representation(market, first, last, feature, at_open=at_open)

    monkeypatch.setattr(markets, "fit_representation", counted)
    spec = small_spec(tmp_path)
    windowed = build_windowed_market(spec, None)
    seen = [fit_to_window(spec, windowed, window)[1].features for window in windowed.windows]
    evaluate_probe(spec, windowed)
    again = [fit_to_window(spec, windowed, window)[1].features for window in windowed.windows]
    assert len(fits) == len(windowed.windows) == 2
    np.testing.assert_array_equal(seen, again)
    evaluate_probe(spec, build_windowed_market(spec, None))  # another market has fits of its own
    assert len(fits) == 4


def test_inputs_are_equal_exactly_where_the_probe_is(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    agent = dataclasses.replace(spec.agent, total_timesteps=spec.agent.total_timesteps + 1)
    episodes = dataclasses.replace(spec.env, episode_bars=7)
    same = [dataclasses.replace(spec, agent=agent), dataclasses.replace(spec, env=episodes)]
    assert {inputs_key(each) for each in same} == {inputs_key(spec)}
    feature = dataclasses.replace(spec.feature, lookback=spec.feature.lookback + 1)
    others = [
        dataclasses.replace(spec, feature=feature),
        dataclasses.replace(spec, env=EnvSpec(action=spec.env.action, max_leverage=2.0)),
        dataclasses.replace(spec, cost=CostSpec(commission_bps=7.0)),
    ]
    assert len({inputs_key(each) for each in (spec, *others)}) == 4


def test_every_trial_has_its_probe_measured_once_for_each_choice_of_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def counted(*args: object) -> object:
        measured.append(args)
        return evaluate_probe(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(beside, "evaluate_probe", counted)
    spec = small_spec(tmp_path, n_trials=3)
    context = opened(spec)
    play(context)
    runs = [run_of(context, number) for number in range(3)]
    with context.engine.connect() as conn:
        probes = load_probes(conn, spec.name)
        own = load_probe(conn, spec.name, runs[0].inputs)
        rows = list(conn.execute(text("SELECT score, trials, best_trial_score, features FROM probes")))
    assert {run.inputs for run in runs} == {probe.inputs for probe in probes}
    assert len(measured) == len(probes)
    assert own is not None
    baseline = evaluate_probe(spec, build_windowed_market(spec, None)).baseline
    assert own.score == baseline.score
    np.testing.assert_array_equal(own.returns, np.concatenate(baseline.returns))
    assert sum(row.trials for row in rows) == 3
    best = best_models(context.engine, spec.name, 3)
    assert [row.best_trial_score for row in rows] == [best[0].score]
    metrics = runs[best[0].trial_number].metrics or {}
    assert best[0].probe_score == metrics["probe_score"] == own.score
    assert best[0].probe_lead == metrics["probe_lead"]
    assert [row.name for row in probe_rows(probes, 1, own.inputs)] == [f"{LINEAR_PROBE} (inputs of trial 1)"]
    note = trial_note(runs[0], [], [own.as_baseline()])
    assert ("linear regression" in note) == (
        probe_line("the trial", runs[0].score, runs[0].metrics or {}) is not None
    )


def test_the_best_inputs_are_named_beside_those_of_the_winner(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=1))
    play(context)
    with context.engine.connect() as conn:
        (one,) = load_probes(conn, "small")
    one, other = dataclasses.replace(one, score=1.0), dataclasses.replace(one, score=2.0, inputs="other")
    flat = dataclasses.replace(one, score=None, inputs="flat")
    named = [row.name for row in probe_rows([one, other, flat], 4, one.inputs)]
    assert named == [f"{LINEAR_PROBE} (best inputs)", f"{LINEAR_PROBE} (inputs of trial 4)"]
    assert [row.score for row in probe_rows([one, other], 4, "other")] == [2.0]
    assert probe_rows([one, other], 4, "other")[0].name == f"{LINEAR_PROBE} (inputs of trial 4, the best)"
    assert [row.score for row in probe_rows([one, flat], 4, "flat")] == [1.0, None]
    assert probe_rows([], 4, None) == []


def test_a_lead_within_two_standard_errors_is_named() -> None:
    lead = {"probe_score": 1.0, "probe_lead": 0.9, "probe_lead_error": 0.5}
    line = probe_line("trial 3", 1.9, lead)
    assert line is not None
    assert line.startswith("a linear regression on the same inputs earns as much, within error: trial 3")
    assert probe_line("trial 3", 2.0, lead | {"probe_lead": 1.1}) is None
    assert probe_line("trial 3", 2.0, lead | {"probe_score": None}) is None
    assert probe_line("trial 3", None, lead) is None


def test_the_lead_is_that_of_the_paired_test_of_the_lower_median_repeat(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    windowed = build_windowed_market(spec, None)
    baseline = evaluate_probe(spec, windowed).baseline
    probe = np.random.default_rng(0).normal(0, 0.01, 300)
    equal, better = (WindowResult(baseline.windows[0], each, each, False) for each in (probe, probe + 0.001))
    found = beside_probe([[better]], probe, 365.0)
    assert found["probe_lead"] is not None
    assert found["probe_lead"] > 1
    assert beside_probe([[equal], [better], [better]], probe, 365.0) == found
    assert beside_probe([[better]], probe[:-1], 365.0)["probe_lead"] is None
    assert beside_probe([[better]], None, 365.0) == {"probe_lead": None, "probe_lead_error": None}
