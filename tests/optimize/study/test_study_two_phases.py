"""Both phases of a study as a user runs them: caps, evidence, a second launch."""

from pathlib import Path

import pytest
from rich.console import Console

from optimize.errors import StudyStoppedError
from optimize.results.records import EventRecord, events, log_event
from optimize.search.space import parse_space
from optimize.study.evidence import (
    EVIDENCE,
)
from optimize.study.handle import open_study
from optimize.study.phases import (
    judge,
    model_study,
    require_evidence,
    timeframe_study,
)
from optimize.study.runner import run_study
from optimize.study.spec import LOOKBACK, TIMEFRAME, PhaseSpec, StudySpec, TimeframePhaseSpec
from tests.optimize.study.studies import (
    opened,
    rows,
    run_of,
    small_spec,
    states,
)


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


@pytest.mark.slow
def test_timeframe_only_stops_after_phase_1(tmp_path: Path) -> None:
    grid = TimeframePhaseSpec(n_trials=2, timeframes=["1h"], lookbacks=[2])
    spec = small_spec(tmp_path, name="first", phase=PhaseSpec("timeframe_only", grid))
    assert run_study(spec, Console(quiet=True)) == "first.timeframe"
    assert states(opened(timeframe_study(spec))).total() == 2
    assert rows(spec, "SELECT study_name FROM studies") == [("first.timeframe",)]
    assert rows(spec, "SELECT COUNT(*) FROM wf_events WHERE kind = :kind", kind=EVIDENCE) == [(1,)]
