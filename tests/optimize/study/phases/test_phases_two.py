"""Both phases of a study as a user runs them: caps, evidence, a second launch."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from optimize.errors import BadInputError, StudyStoppedError
from optimize.results.event_log import events, log_event
from optimize.results.timeframe_verdict import Verdict
from optimize.search.space import parse_space
from optimize.search.spec import LOOKBACK, TIMEFRAME, PhaseSpec, SamplerSpec, TimeframePhaseSpec
from optimize.study.context import open_study
from optimize.study.launch.run import run_study
from optimize.study.phases.run import (
    compare_combinations,
    model_study,
    require_evidence,
    timeframe_study,
)
from optimize.study.resume import resumed_spec, stored_study
from optimize.study.spec import StudySpec
from tests.optimize.study.forks import forking
from tests.optimize.study.studies import (
    opened,
    rows,
    run_of,
    small_spec,
    states,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    """Return a study that ran both of its phases."""
    grid = TimeframePhaseSpec(n_trials=4, timeframes=["1h", "4h"], lookbacks=[3])
    folder = tmp_path_factory.mktemp("phases")
    spec = small_spec(folder, name="two", n_trials=2, phase=PhaseSpec("two", grid))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.study.launch.supervise.Supervisor", forking)
        with (folder / "console.txt").open("w") as shown:
            assert run_study(spec, Console(file=shown, width=200)) == "two.model"
    return spec


def test_both_phases_run_to_their_caps_and_the_second_stays_within_the_first(done: StudySpec) -> None:
    counted = rows(done, "SELECT study_name, COUNT(*) FROM trials JOIN studies USING (study_id) GROUP BY 1")
    assert sorted(counted) == [("two.model", 2), ("two.timeframe", 4)]
    first = open_study(timeframe_study(done))
    with first.engine.connect() as conn:
        (verdict,) = events(conn, "two.timeframe", Verdict)
    kept = verdict.event
    assert [each.trials for each in kept.combinations] == [2, 2]
    model = model_study(done, compare_combinations(first, kept.data_fingerprint))
    space = {parameter.path: parameter.domain for parameter in parse_space(model.space).parameters}
    assert tuple(getattr(space[TIMEFRAME], "values", ())) == kept.timeframes
    assert tuple(getattr(space[LOOKBACK], "values", ())) == kept.lookbacks
    context = open_study(model)
    for number in range(2):
        run = run_of(context, number)
        assert run.parameters[TIMEFRAME] in kept.timeframes
        assert run.parameters[LOOKBACK] in kept.lookbacks
        assert "agent.learning_rate" in run.parameters
        assert run.entropy == [0, number]


def test_the_power_that_each_phase_prints_counts_the_tries_of_both(done: StudySpec) -> None:
    shown = (Path(done.output_dir).parent / "console.txt").read_text().splitlines()
    power = [line for line in shown if " power: " in line]
    assert [line.partition(" power: ")[0] for line in power] == ["two.timeframe:", "two.model:"]
    assert power[0].endswith("after 6 tries, in 80 % of cases")
    assert power[1].endswith("after 6 tries, in 80 % of cases; 4 of the tries were made before")


def test_a_second_launch_adds_no_trial_and_no_second_verdict(done: StudySpec) -> None:
    assert run_study(done, Console(quiet=True)) == "two.model"
    assert rows(done, "SELECT COUNT(*) FROM trials") == [(6,)]
    assert rows(done, "SELECT COUNT(*) FROM wf_events WHERE kind = :kind", kind=Verdict.kind.value) == [(1,)]


@pytest.mark.parametrize("typed", [[], ["space", "phase"]])
def test_both_phases_resume_by_name_and_by_their_words_outside_the_default_lookback(
    done: StudySpec, typed: list[str]
) -> None:
    assert done.feature.lookback not in done.phase.timeframe.lookbacks
    stored = stored_study(done.database, "two")
    assert stored is not None
    again = resumed_spec(stored, done, typed)
    assert again.space["feature"]["lookback"] == [3]
    assert run_study(again, Console(quiet=True)) == "two.model"
    assert rows(done, "SELECT COUNT(*) FROM trials") == [(6,)]


def test_phase_2_refuses_other_data_and_another_verdict(done: StudySpec) -> None:
    first = open_study(timeframe_study(done))
    with first.engine.connect() as conn:
        verdict = events(conn, "two.timeframe", Verdict)[0].event
    model = open_study(model_study(done, compare_combinations(first, verdict.data_fingerprint)))
    assert require_evidence(model, verdict.data_fingerprint) == verdict
    with pytest.raises(StudyStoppedError, match="was run on other data; choose another name"):
        require_evidence(model, "0" * 64)
    with first.engine.begin() as conn:
        log_event(conn, "two.timeframe", "changed", dataclasses.replace(verdict, lookbacks=(99,)))
    with pytest.raises(StudyStoppedError, match=r"feature\.lookback is not what the timeframe phase kept"):
        require_evidence(model, verdict.data_fingerprint)


@pytest.mark.usefixtures("forked_workers")
def test_the_name_of_a_study_of_other_phases_is_refused(done: StudySpec, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"phase=single: .* has the phases two\.timeframe and two\.model"):
        run_study(dataclasses.replace(done, phase=PhaseSpec("single")), Console(quiet=True))
    one = small_spec(tmp_path, n_trials=1)
    run_study(one, Console(quiet=True))
    with pytest.raises(BadInputError, match=r"phase=two: .* is a study of one phase: .*phase=single"):
        run_study(dataclasses.replace(one, phase=done.phase), Console(quiet=True))


@pytest.mark.slow
def test_timeframe_only_stops_after_phase_1(tmp_path: Path) -> None:
    grid = TimeframePhaseSpec(n_trials=2, timeframes=["1h"], lookbacks=[2])
    spec = small_spec(tmp_path, name="first", phase=PhaseSpec("timeframe_only", grid))
    assert run_study(spec, Console(quiet=True)) == "first.timeframe"
    assert states(opened(timeframe_study(spec))).total() == 2
    assert rows(spec, "SELECT study_name FROM studies") == [("first.timeframe",)]
    assert rows(spec, "SELECT COUNT(*) FROM wf_events WHERE kind = :kind", kind=Verdict.kind.value) == [(1,)]


@pytest.mark.slow
def test_files_of_features_are_tried_at_the_lookback_that_phase_1_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.study.launch.supervise.Supervisor", forking)
    listed = {"narrow": ["returns"], "wide": ["returns", "range"]}
    options = {name: {"lookback": 2, "indicators": indicators} for name, indicators in listed.items()}
    space = {"feature": {"choices": list(options), "options": options}}
    grid = TimeframePhaseSpec(n_trials=2, timeframes=["1h"], lookbacks=[3])
    spec = small_spec(
        tmp_path, name="two", n_trials=4, space=space, phase=PhaseSpec("two", grid), seed=1,
        sampler=SamplerSpec(name="grid"),
    )  # fmt: skip
    assert run_study(spec, Console(quiet=True)) == "two.model"
    context = opened(dataclasses.replace(spec, name="two.model", space=stored_space(spec)))
    runs = [run_of(context, number) for number in range(4)]
    assert {run.parameters["feature"] for run in runs} == set(listed)
    for run in runs:
        assert run.parameters[LOOKBACK] == run.spec["feature"]["lookback"] == 3
        assert run.spec["feature"]["indicators"] == listed[run.parameters["feature"]]


def stored_space(spec: StudySpec) -> dict[str, Any]:
    """Return the space of the stored model phase."""
    stored = stored_study(spec.database, spec.name)
    assert stored is not None
    return dict(stored.record.spec["space"])
