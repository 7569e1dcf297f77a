"""Timeframe first, model second: the balanced grid, what is kept, and what phase 2 rests on."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from rich.console import Console

from optimize.errors import StudyStoppedError
from optimize.results.records import EventRecord, events, log_event
from optimize.search.space import parse_space
from optimize.study.handle import open_study
from optimize.study.phases import (
    EVIDENCE,
    LOOKBACK,
    TIMEFRAME,
    Combination,
    Evidence,
    judge,
    keep,
    model_study,
    record_evidence,
    require_evidence,
    timeframe_study,
)
from optimize.study.runner import run_study
from optimize.study.spec import PhaseSpec, StudySpec, TimeframePhaseSpec
from tests.optimize.study.studies import SPACE, claimed, opened, play, rows, run_of, small_spec, states

GRID = TimeframePhaseSpec(n_trials=8, timeframes=["1h", "4h"], lookbacks=[2, 4])


def two_phase(folder: Path, **changes: Any) -> StudySpec:
    return small_spec(folder, name="two", phase=PhaseSpec("two", GRID), **changes)


def combination(timeframe: str, lookback: int, mean: float | None, error: float | None = 0.1) -> Combination:
    return Combination(timeframe, lookback, 4, 0 if mean is None else 4, mean, error)


@pytest.mark.parametrize(
    ("means", "timeframes", "lookbacks"),
    [
        ({("1h", 2): 1.0, ("1h", 4): 0.5, ("4h", 2): 0.89, ("4h", 4): 0.2}, ("1h",), (2,)),
        ({("1h", 2): 1.0, ("1h", 4): 0.5, ("4h", 2): 0.91, ("4h", 4): 0.2}, ("1h", "4h"), (2,)),
        ({("1h", 2): 0.95, ("1h", 4): 0.5, ("4h", 2): 0.0, ("4h", 4): 1.0}, ("1h", "4h"), (2, 4)),
        ({("1h", 2): -2.0, ("1h", 4): -1.0, ("4h", 2): -1.05, ("4h", 4): None}, ("1h", "4h"), (2, 4)),
        ({("1h", 2): -0.5, ("1h", 4): 0.0, ("4h", 2): -0.2, ("4h", 4): -0.15}, ("1h",), (4,)),
        ({("1h", 2): None, ("1h", 4): None, ("4h", 2): None, ("4h", 4): 0.0}, ("4h",), (4,)),
    ],
)
def test_what_lies_within_one_standard_error_of_the_best_is_kept(
    means: dict[tuple[str, int], float | None], timeframes: tuple[str, ...], lookbacks: tuple[int, ...]
) -> None:
    combinations = tuple(combination(*key, mean) for key, mean in means.items())
    assert keep(combinations, "two.timeframe") == (timeframes, lookbacks)


def test_the_error_of_the_best_decides_and_no_score_at_all_stops() -> None:
    best, other = combination("1h", 2, 1.0, None), combination("4h", 2, 0.999, 5.0)
    assert keep((best, other), "two.timeframe") == (("1h",), (2,))
    with pytest.raises(StudyStoppedError, match="no combination of timeframe and lookback has a score"):
        keep((combination("1h", 2, None),), "two.timeframe")


def test_the_grid_is_balanced_and_its_repetitions_share_seeds(tmp_path: Path) -> None:
    spec = timeframe_study(two_phase(tmp_path, seed=5))
    assert (spec.name, spec.n_trials, spec.pruner.name, spec.sampler.name) == (
        "two.timeframe",
        8,
        "none",
        "grid",
    )
    handle = opened(spec)
    runs = [claimed(handle).run for _ in range(8)]
    each = Counter((run.parameters[TIMEFRAME], run.parameters[LOOKBACK]) for run in runs)
    assert each == {("1h", 2): 2, ("1h", 4): 2, ("4h", 2): 2, ("4h", 4): 2}
    seeds = Counter(tuple(run.entropy) for run in runs)
    assert seeds == {(5, 0): 4, (5, 1): 4}
    steps = {run.parameters[TIMEFRAME]: run.spec["agent"]["total_timesteps"] for run in runs}
    assert steps == {"1h": 64, "4h": 16}  # equal passes over the train span
    gammas = {run.spec["agent"]["hyperparameters"]["gamma"] for run in runs}
    assert gammas == {0.99, 0.99**4}


def test_a_failed_repetition_of_the_grid_is_repeated_on_its_own_seed(
    tmp_path: Path,
) -> None:
    handle = opened(timeframe_study(two_phase(tmp_path)))
    first = claimed(handle)
    handle.study.tell(first.run.trial_number, state=TrialState.FAIL)
    others = [claimed(handle) for _ in range(4)]
    again = [other.run for other in others if other.run.parameters == first.run.parameters]
    assert [run.entropy for run in again] == [first.run.entropy]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    grid = TimeframePhaseSpec(n_trials=4, timeframes=["1h", "4h"], lookbacks=[2])
    folder = tmp_path_factory.mktemp("phases")
    spec = small_spec(folder, name="two", n_trials=2, phase=PhaseSpec("two", grid))
    assert run_study(spec, Console(quiet=True)) == "two.model"
    return spec


@pytest.mark.slow
def test_both_phases_run_to_their_caps_and_the_second_stays_within_the_first(done: StudySpec) -> None:
    counted = rows(done, "SELECT study_name, COUNT(*) FROM trials JOIN studies USING (study_id) GROUP BY 1")
    assert sorted(counted) == [("two.model", 2), ("two.timeframe", 4)]
    first = open_study(timeframe_study(done))
    with first.engine.connect() as conn:
        (verdict,) = events(conn, "two.timeframe", EVIDENCE)
    kept = verdict.detail
    assert [each["trials"] for each in kept["combinations"]] == [2, 2]
    model = model_study(done, judge(first, kept["data_fingerprint"]))
    space = {parameter.path: parameter.domain for parameter in parse_space(model.space).parameters}
    assert list(getattr(space[TIMEFRAME], "values", ())) == kept["timeframes"]
    assert list(getattr(space[LOOKBACK], "values", ())) == kept["lookbacks"]
    handle = open_study(model)
    for number in range(2):
        run = run_of(handle, number)
        assert run.parameters[TIMEFRAME] in kept["timeframes"]
        assert run.parameters[LOOKBACK] in kept["lookbacks"]
        assert "agent.learning_rate" in run.parameters
        assert run.entropy == [0, number]


@pytest.mark.slow
def test_a_second_launch_adds_no_trial_and_no_second_verdict(done: StudySpec) -> None:
    assert run_study(done, Console(quiet=True)) == "two.model"
    assert rows(done, "SELECT COUNT(*) FROM trials") == [(6,)]
    assert rows(done, "SELECT COUNT(*) FROM wf_events WHERE kind = :kind", kind=EVIDENCE) == [(1,)]


@pytest.mark.slow
def test_phase_2_refuses_other_data_and_another_verdict(done: StudySpec) -> None:
    first = open_study(timeframe_study(done))
    with first.engine.connect() as conn:
        detail = events(conn, "two.timeframe", EVIDENCE)[0].detail
    model = open_study(model_study(done, judge(first, detail["data_fingerprint"])))
    assert require_evidence(model, detail["data_fingerprint"]) == detail
    with pytest.raises(StudyStoppedError, match="was run on other data; choose another name"):
        require_evidence(model, "0" * 64)
    with first.engine.begin() as conn:
        log_event(conn, EventRecord("two.timeframe", EVIDENCE, "changed", detail | {"lookbacks": [99]}))
    with pytest.raises(StudyStoppedError, match=r"feature\.lookback is not what the timeframe phase kept"):
        require_evidence(model, detail["data_fingerprint"])


def test_phase_2_needs_evidence(tmp_path: Path) -> None:
    spec = two_phase(tmp_path)
    kept = Evidence("two.timeframe", "0" * 64, "rule", (), ("1h",), (2,))
    model = opened(model_study(spec, kept))
    with pytest.raises(StudyStoppedError, match="has no evidence of a timeframe phase to rest on"):
        require_evidence(model, "0" * 64)


def test_an_unfinished_phase_1_has_no_verdict(tmp_path: Path) -> None:
    handle = opened(timeframe_study(two_phase(tmp_path)))
    play(handle, 1)
    with pytest.raises(StudyStoppedError, match="has 1 of 8 trials, so the model phase cannot start"):
        judge(handle, "0" * 64)


def test_the_verdict_is_stored_once_for_each_change(tmp_path: Path) -> None:
    handle = opened(timeframe_study(two_phase(tmp_path)))
    verdict = Evidence("two.timeframe", "0" * 64, "rule", (combination("1h", 2, 1.0),), ("1h",), (2,))
    for evidence in (verdict, verdict, dataclasses.replace(verdict, lookbacks=(2, 4))):
        record_evidence(handle, evidence)
    with handle.engine.connect() as conn:
        assert [event.detail["lookbacks"] for event in events(conn, "two.timeframe")] == [[2], [2, 4]]


def test_the_models_space_is_restricted_and_nothing_else_changes(tmp_path: Path) -> None:
    spec = two_phase(tmp_path, space=SPACE | {"feature": {"lookback": [2, 4, 8]}})
    model = model_study(spec, Evidence("two.timeframe", "", "", (), ("4h",), (2, 4)))
    assert model.space == SPACE | {"data": {"timeframe": ["4h"]}, "feature": {"lookback": [2, 4]}}
    assert dataclasses.replace(model, name="two", space=spec.space) == spec


@pytest.mark.slow
def test_timeframe_only_stops_after_phase_1(tmp_path: Path) -> None:
    grid = TimeframePhaseSpec(n_trials=2, timeframes=["1h"], lookbacks=[2])
    spec = small_spec(tmp_path, name="first", phase=PhaseSpec("timeframe_only", grid))
    assert run_study(spec, Console(quiet=True)) == "first.timeframe"
    assert states(opened(timeframe_study(spec))).total() == 2
    assert rows(spec, "SELECT study_name FROM studies") == [("first.timeframe",)]
    assert rows(spec, "SELECT COUNT(*) FROM wf_events WHERE kind = :kind", kind=EVIDENCE) == [(1,)]
