"""A trial that a gate blocks: COMPLETE with its value, marked, and in no ranking."""

import dataclasses
from pathlib import Path

import pytest

from optimize.evaluate.gate_spec import ResultGateSpec
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import Window
from optimize.report.gates import mark_lines
from optimize.results.queries import best_models
from optimize.results.runs import count_gated, windows_of
from optimize.study.spec import StudySpec
from tests.optimize.study.studies import change_windows, opened, play, run_of, small_spec

GATES = ResultGateSpec(opposite_sign=False, constant_policy=False)


def test_a_gate_marks_run_and_window_and_leaves_state_and_value_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nearly_lost(measured: WindowResult, spec: StudySpec, window: Window) -> WindowResult:
        if window.index == 0:
            return measured
        return dataclasses.replace(measured, metrics=dataclasses.replace(measured.metrics, lowest=0.05))

    change_windows(monkeypatch, nearly_lost)
    context = opened(small_spec(tmp_path, n_trials=1, gate=GATES))
    play(context)
    run = run_of(context, 0)
    assert (run.state, run.gate, run.flags) == ("COMPLETE", "min_equity", None)
    assert context.study.best_value == run.score
    with context.engine.connect() as conn:
        assert [window.gate for window in windows_of(conn, run.run_uuid)] == [None, "min_equity"]
        assert count_gated(conn, "small") == {"min_equity": 1}
    assert best_models(context.engine, "small") == []
    assert mark_lines(run.gate, run.flags) == [
        "gate.min_equity blocks this result: no ranking and no export takes it"
    ]


def test_interest_above_the_risk_free_rate_flags_the_run(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=1, gate=GATES)
    context = opened(dataclasses.replace(spec, cost=dataclasses.replace(spec.cost, cash_rate=0.05)))
    play(context)
    run = run_of(context, 0)
    assert (run.gate, run.flags) == (None, "interest")
    assert [row.flags for row in best_models(context.engine, "small")] == ["interest"]
