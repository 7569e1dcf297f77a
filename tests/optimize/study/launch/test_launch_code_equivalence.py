"""Code that changed between two launches: equal results are recorded once, others are refused by name."""

import dataclasses
from pathlib import Path

import pytest
from sqlalchemy import update

from optimize.doctor.findings import Audit
from optimize.doctor.study import examine_study
from optimize.errors import BadInputError
from optimize.results.code_of_runs import are_equal, codes_of_runs, equal_codes
from optimize.results.records import RunRecord, WindowRecord, load_study
from optimize.results.tables import RUNS, STUDIES, WINDOWS
from optimize.study.context import StudyContext, enroll
from optimize.study.launch import code_equivalence
from optimize.study.launch.code_equivalence import Comparison, check_code
from optimize.walkforward import run as trial_module
from optimize.walkforward.versions import CODE, changed_code, comparable, source
from tests.optimize.study.studies import ground_of, opened, play, run_of, small_spec

OLD, NEW, NEWER = "envs:1 optimize.data:1", "envs:1 optimize.data:2", "envs:2 optimize.data:2"


@pytest.fixture
def played(tmp_path: Path) -> StudyContext:
    context = opened(small_spec(tmp_path, n_trials=2))
    play(context)
    return context


def settled(context: StudyContext, *, launch: bool = True) -> list[str]:
    """Settle the code and return the lines that were shown."""
    heard: list[str] = []
    check_code(context, heard.append, launch=launch)
    return heard


def pretend(context: StudyContext, code: str | None) -> None:
    """Let a study and its runs be of another code, or of none that was recorded."""
    with context.engine.begin() as conn:
        record = load_study(conn, context.spec.name)
        assert record is not None
        for table in (STUDIES, RUNS):
            row = conn.execute(table.select()).mappings().first()
            assert row is not None
            stored = {key: value for key, value in row["versions"].items() if key not in (CODE, "commit")}
            conn.execute(update(table).values(versions=stored | ({} if code is None else {CODE: code})))


def stored_code(context: StudyContext) -> str | None:
    with context.engine.connect() as conn:
        record = load_study(conn, context.spec.name)
    assert record is not None
    return record.versions.get(CODE)


def test_every_run_and_study_store_the_code_and_nothing_is_asked_where_it_is_the_same(
    played: StudyContext,
) -> None:
    here = source(["returns"])[CODE]
    assert run_of(played, 0).versions[CODE] == here == stored_code(played)
    names = {part.partition(":")[0] for part in here.split()}
    assert {"envs", "optimize.data.features", "optimize.agents.kernels", "optimize.walkforward"} <= names
    assert "optimize.data.sources.clients" not in names
    assert settled(played) == []


@pytest.mark.parametrize("before", [None, OLD])
def test_code_that_gives_equal_results_is_asked_for_once(played: StudyContext, before: str | None) -> None:
    pretend(played, before)
    first, second = settled(played), settled(played)
    assert second == []
    changed = "was not recorded" if before is None else "the code of envs, optimize.agents"
    assert changed in first[0]
    assert "came out equal" in first[1]
    with played.engine.connect() as conn:
        assert equal_codes(conn, "small") == [(before, source(["returns"])[CODE])]
    assert stored_code(played) == source(["returns"])[CODE]
    pretend(played, before)  # as the records of a launch that went back to the old code
    assert settled(played) == []


@pytest.mark.parametrize("launch", [True, False])
def test_code_that_gives_other_results_is_refused_by_name(
    played: StudyContext, monkeypatch: pytest.MonkeyPatch, launch: bool
) -> None:
    real = trial_module.run_window

    def other(*arguments: object) -> object:
        trained, measured, trades = real(*arguments)  # type: ignore[arg-type]
        return trained, dataclasses.replace(measured, returns=measured.returns * 1.0001), trades

    monkeypatch.setattr("optimize.study.launch.code_equivalence.run_window", other)
    pretend(played, source(["returns"])[CODE].replace("optimize.data.features:", "optimize.data.features:0"))
    with pytest.raises(
        BadInputError,
        match=r"the code of optimize\.data\.features changed.*trial \d, window \d.*differs.*name",
    ):
        settled(played, launch=launch)
    assert stored_code(played) != source(["returns"])[CODE]


@pytest.mark.parametrize(
    ("changed", "names", "expected"),
    [("envs:1", {"returns", "own", "other"}, {0, 1}), ("mine.py:1", {"other"}, {1})],
)
def test_every_name_that_changed_code_may_compute_is_compared(
    played: StudyContext,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
    names: set[str],
    expected: set[int],
) -> None:
    with played.engine.begin() as conn:
        for number, reward, seconds in ((0, "own", 1.0), (1, "other", 2.0)):
            run = run_of(played, number)
            spec = {**run.spec, "reward": {**run.spec["reward"], "name": reward}}
            conn.execute(update(RUNS).where(RUNS.c.trial_number == number).values(spec=spec))
            conn.execute(update(WINDOWS).where(WINDOWS.c.run_uuid == run.run_uuid).values(seconds=seconds))
    compared: list[int] = []

    def equal(spec: object, cache: object, run: RunRecord, window: WindowRecord) -> Comparison:
        compared.append(run.trial_number)
        return Comparison(run, window, equal=True, seconds=0.0)

    monkeypatch.setattr(code_equivalence, "compare_window", equal)
    monkeypatch.setattr(code_equivalence, "names_in_code", lambda parts: names)
    pretend(played, source(["returns"])[CODE] + f" {changed}")
    settled(played)
    assert set(compared) == expected


def elsewhere(played: StudyContext) -> None:
    """Let every run be of a machine with another processor."""
    with played.engine.begin() as conn:
        for row in conn.execute(RUNS.select()).mappings().all():
            of_run = update(RUNS).where(RUNS.c.run_uuid == row["run_uuid"])
            conn.execute(of_run.values(versions=row["versions"] | {"cpu_features": "another"}))


def trains_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    real = trial_module.run_window

    def other(*arguments: object) -> object:
        trained, measured, trades = real(*arguments)  # type: ignore[arg-type]
        return trained, dataclasses.replace(measured, returns=measured.returns * 1.01), trades

    monkeypatch.setattr(code_equivalence, "run_window", other)


def test_on_another_processor_stored_agents_are_compared_where_training_differs(
    played: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_otherwise(monkeypatch)
    elsewhere(played)
    here = source(["returns"])[CODE]
    pretend(played, here.replace("optimize.data.features:", "optimize.data.features:0"))
    lines = settled(played)
    assert "cpu_features another" in lines[1]
    assert "a stored agent earns equal returns" in lines[1]
    assert stored_code(played) == here


@pytest.mark.parametrize("damage", ["the code that trains", "the evaluation", "no agent"])
def test_on_another_processor_nothing_is_taken_as_equal_without_proof(
    played: StudyContext, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    trains_otherwise(monkeypatch)
    elsewhere(played)
    package = "optimize.agents" if damage == "the code that trains" else "optimize.data.features"
    pretend(played, source(["returns"])[CODE].replace(f"{package}:", f"{package}:0"))
    if damage == "the evaluation":
        real = trial_module.evaluate_window

        def other(*arguments: object) -> object:
            measured, trades = real(*arguments)  # type: ignore[arg-type]
            return dataclasses.replace(measured, returns=measured.returns * 1.0001), trades

        monkeypatch.setattr(code_equivalence, "evaluate_window", other)
    if damage == "no agent":
        for path in played.spec.folder.rglob("scaler.npz"):
            path.unlink()
    with pytest.raises(BadInputError, match="differs when it is trained again; other differences"):
        settled(played)


def test_a_run_whose_files_are_gone_is_compared_by_its_row(
    played: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in played.spec.folder.rglob("returns.parquet"):
        path.unlink()
    pretend(played, OLD)
    assert "came out equal" in settled(played)[1]
    pretend(played, NEWER)
    monkeypatch.setattr(code_equivalence, "_near", lambda one, other, bitwise: False)
    with pytest.raises(BadInputError, match="differs when it is trained again"):
        settled(played)


def test_without_a_finished_window_a_launch_takes_over_and_another_machine_may_not(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path))
    pretend_study(context, OLD)
    with pytest.raises(BadInputError, match="no finished window yet to compare"):
        settled(context, launch=False)
    assert settled(context) == []
    assert stored_code(context) == source(["returns"])[CODE]


def pretend_study(context: StudyContext, code: str) -> None:
    with context.engine.begin() as conn:
        record = load_study(conn, context.spec.name)
        assert record is not None
        conn.execute(update(STUDIES).values(versions={**record.versions, CODE: code}))


def test_a_launch_keeps_the_code_of_the_study_until_it_is_settled(played: StudyContext) -> None:
    pretend(played, OLD)
    enroll(played, ground_of(played, played.spec))
    assert stored_code(played) == OLD
    settled(played)
    assert stored_code(played) == source(["returns"])[CODE]


def test_doctor_finds_runs_of_mixed_code_until_they_are_shown_to_be_equal(played: StudyContext) -> None:
    def finding() -> tuple[str, str]:
        audit = Audit("small", played.engine, played.spec.database, Path(played.spec.output_dir))
        return next((each.level, each.said) for each in examine_study(audit) if each.check == "code")

    assert finding()[0] == "ok"
    here = source(["returns"])[CODE]
    old = here.replace("optimize.data.features:", "optimize.data.features:0")
    with played.engine.begin() as conn:
        run = run_of(played, 0)
        of_run = update(RUNS).where(RUNS.c.trial_number == 0)
        conn.execute(of_run.values(versions={**run.versions, CODE: old}))
        assert codes_of_runs(conn, "small", CODE) == {here: 1, old: 1}
    level, said = finding()
    assert level == "warn"
    assert "1 of optimize.data.features" in said
    pretend_study(played, old)
    settled(played)
    assert finding()[0] == "ok"


def test_codes_are_equal_through_a_chain_of_comparisons() -> None:
    pairs = [(None, OLD), (NEW, OLD)]
    assert are_equal(pairs, None, NEW)
    assert are_equal(pairs, NEWER, NEWER)
    assert not are_equal(pairs, NEWER, OLD)


def test_a_replay_names_the_code_that_differs(played: StudyContext) -> None:
    made_with = dict(run_of(played, 0).versions)
    assert comparable(made_with)[CODE] == made_with[CODE]
    assert changed_code(OLD, NEWER) == ("envs", "optimize.data")
