"""`walkforge study name=X n_trials=N` goes on with the stored settings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.plain import to_plain
from optimize.cli import study as verb
from optimize.database import open_engine
from optimize.results import launches
from optimize.results.creation import create_tables
from optimize.results.events import LaunchEvent
from optimize.results.records import save_study
from optimize.search.spec import PhaseSpec, model_space
from optimize.study.phases.run import timeframe_study
from optimize.study.spec import StudySpec
from tests.optimize.cli.conftest import Run
from tests.optimize.results.factories import make_study


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[StudySpec]:
    """Return the specs that would be run, the last one last."""
    specs: list[StudySpec] = []

    def run_study(spec: StudySpec, *_: Any) -> str:
        specs.append(spec)
        return spec.name

    monkeypatch.setattr(verb, "run_study", run_study)
    monkeypatch.setattr(verb, "_outcome", lambda *_: (None, None))  # there is no database to look into
    return specs


def store(tmp_path: Path, spec: StudySpec, words: list[str]) -> str:
    """Store a study as its launch did, in a database of its own."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    engine = open_engine(url)
    create_tables(engine)
    with engine.begin() as conn:
        save_study(conn, replace(make_study(), study_name=spec.name, spec=to_plain(spec), space=spec.space))
    with launches.log_process(engine, spec.name, LaunchEvent, "the launch", words):
        pass
    engine.dispose()
    return f"database.url={url}"


def first(run: Run, launched: list[StudySpec], *words: str) -> StudySpec:
    assert run("study", "name=mine", *words)[0] == 0
    return launched.pop()


WORDS = ["agent=sac", "agent.learning_rate=0.001", "seed=7", "window.count=3", "n_trials=50"]


def test_a_cap_is_raised_by_name_alone(run: Run, tmp_path: Path, launched: list[StudySpec]) -> None:
    before = first(run, launched, *WORDS)
    place = store(tmp_path, before, ["name=mine", *WORDS])
    code, _, err = run("study", "name=mine", "n_trials=80", "worker.count=3", place)
    assert (code, err) == (0, "")
    now = launched[-1]
    assert (now.n_trials, now.worker.count) == (80, 3)
    assert replace(now, n_trials=50, worker=before.worker, database=before.database) == before


def test_a_default_that_changed_since_is_not_typed(
    run: Run, tmp_path: Path, launched: list[StudySpec]
) -> None:
    spec = first(run, launched, *WORDS, "phase=two")
    grid = replace(spec.phase.timeframe, lookbacks=[3, 5], timeframes=["1h", "2h"])
    old = replace(
        spec,
        feature=replace(spec.feature, lookback=5),
        cost=replace(spec.cost, slippage_bps=7.0),
        phase=PhaseSpec("two", grid),
        space=model_space(spec.space, ["1h"], [3]),
    )
    words = ["name=mine", *WORDS, "phase=two", "cost=default"]
    place = store(tmp_path, replace(old, name="mine.model"), words)
    for typed in ([], WORDS[:2], ["phase=two"], ["cost=default", "agent=sac"]):
        code, _, err = run("study", "name=mine", *typed, place)
        assert (code, err) == (0, ""), typed
        assert replace(launched.pop(), database=old.database) == old


def test_a_first_phase_keeps_what_the_second_searches(
    run: Run, tmp_path: Path, launched: list[StudySpec]
) -> None:
    words = [*WORDS, "phase=two", "space.agent.gamma=[0.5,0.9]", "sampler=random", "pruner=none"]
    spec = first(run, launched, *words)
    place = store(tmp_path, timeframe_study(spec), ["name=mine", *words])
    assert run("study", "name=mine", "n_trials=60", "phase.timeframe.n_trials=200", place)[0] == 0
    now = launched.pop()
    assert (now.n_trials, now.phase.timeframe.n_trials) == (60, 200)
    assert (now.space, now.sampler, now.pruner) == (spec.space, spec.sampler, spec.pruner)


def test_a_second_phase_resumes_by_the_words_of_its_whole_space(
    run: Run, tmp_path: Path, launched: list[StudySpec]
) -> None:
    words = [*WORDS, "phase=two", "~space", "+space={agent: {gamma: [0.5, 0.9]}, feature: {lookback: [1]}}"]
    spec = first(run, launched, *words)
    narrowed = replace(spec, name="mine.model", space=model_space(spec.space, ["1h", "4h"], [1, 4]))
    place = store(tmp_path, narrowed, ["name=mine", *words])
    for typed in ([], words):
        code, _, err = run("study", "name=mine", *typed, place)
        assert (code, err) == (0, ""), typed
        assert launched.pop().space == narrowed.space
    other = "+space={agent: {gamma: [0.5, 0.999]}}"
    code, _, err = run("study", "name=mine", "~space", other, place)
    assert (code, "space.agent.gamma: " in err) == (2, True)


def test_what_differs_is_one_line_each_the_remedy_first(
    run: Run, tmp_path: Path, launched: list[StudySpec]
) -> None:
    place = store(tmp_path, first(run, launched, *WORDS), ["name=mine", *WORDS])
    words = ["agent.learning_rate=0.002", "seed=8", "space.agent.gamma=[0.5]"]
    code, out, err = run("study", "name=mine", *words, place)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[0].startswith(
        "walkforge: study 'mine' was started with other settings: go on with it as it was by"
    )
    assert "`walkforge study name=mine" in lines[0]
    assert lines[1:3] == [
        "  agent.learning_rate: started with 0.001, now 0.002",
        "  seed: started with 7, now 8",
    ]
    assert lines[3].startswith("  space.agent.gamma: ")
    assert not launched


def test_an_experiment_that_was_edited_counts_as_typed(
    run: Run, tmp_path: Path, launched: list[StudySpec]
) -> None:
    file = tmp_path / "own" / "experiment" / "best.yaml"
    file.parent.mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /agent: sac\nname: mine\nn_trials: 20\n"
    file.write_text(text, encoding="utf-8")
    words = ["-cd", str(file.parents[1]), "experiment=best"]
    assert run("study", *words)[0] == 0
    place = store(tmp_path, launched.pop(), words)
    file.write_text(text.replace("20", "30"), encoding="utf-8")
    assert run("study", *words, place)[0] == 0
    assert launched.pop().n_trials == 30
    file.write_text(f"{text}seed: 4\n", encoding="utf-8")
    code, _, err = run("study", *words, place)
    assert (code, "  seed: started with 0, now 4" in err) == (2, True)
