"""A second launch: work that it resumes, must not undo, or need not repeat."""

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from optimize.errors import OtherStudyError
from optimize.results.event_log import events
from optimize.results.events import VersionsChanged
from optimize.results.records import load_study, set_cap
from optimize.results.timeframe_verdict import Verdict, record_evidence
from optimize.search.spec import PhaseSpec, TimeframePhaseSpec
from optimize.study import context as context_module
from optimize.study.context import StudyContext, enroll
from optimize.study.control import NoTrial, StoppedByActionError, request_action, resume_stopped, state_of
from optimize.study.launch import run as runner
from optimize.study.launch.run import run_phase, run_study
from optimize.study.phases import run as phases
from optimize.study.phases.run import compare_combinations, timeframe_study, valid_evidence
from optimize.study.spec import StudySpec
from optimize.study.trials.claim import Claim, claim, fail_claimed
from optimize.study.workers.process import market_builder
from optimize.walkforward.versions import versions
from tests.optimize.study.databases import Small, record
from tests.optimize.study.studies import ground_of, opened, play, rows, small_spec, states

GRID = TimeframePhaseSpec(n_trials=2, timeframes=["1h"], lookbacks=[2])


def end(context: StudyContext, *, well: bool) -> str:
    """Claim a trial and end it; return its outcome, or the reason why there is none."""
    found = claim(context, 0, market_builder(context))
    if not isinstance(found, Claim):
        return found.name
    if well:
        record(context, found, 1.0)
        return "COMPLETE"
    return fail_claimed(context, found.lease, "bug", "the cause that was mended").state


def test_a_second_launch_shows_what_is_kept_and_names_bars_that_it_cannot_use(tmp_path: Path) -> None:
    spec = dataclasses.replace(small_spec(tmp_path), preflight=False)
    play(context := opened(spec), 1)
    context.close()
    lines = Console(file=io.StringIO(), width=200)
    run_study(spec, lines)
    ((best,),) = rows(spec, "SELECT MAX(value) FROM trial_values WHERE trial_id = 1")
    said = lines.file.getvalue()  # type: ignore[attr-defined]
    assert f"{spec.name}: 1 of {spec.n_trials} trials done, best score so far {best:+.2f}" in said
    coarser = dataclasses.replace(spec.data, source_timeframe="4h")
    again = Console(file=io.StringIO(), width=200)
    with pytest.raises(OtherStudyError, match=r"has bars of 1h, which cannot be made of .* with bars of 4h"):
        run_study(dataclasses.replace(spec, data=coarser), again)
    assert again.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_model_phase_that_stopped_itself_is_resumed_by_a_launch(small: Small) -> None:
    first = opened(small(name="two.timeframe", n_trials=1))
    assert end(first, well=True) == "COMPLETE"
    second = opened(small(name="two.model", n_trials=3))
    assert [end(second, well=False) for _ in range(4)] == ["FAIL", "FAIL", "FAIL", "SYSTEMATIC"]
    assert "this launch resumes it" in str(resume_stopped(first))  # as a launch does, phase by phase
    assert resume_stopped(second, launched=False) is None
    assert [end(second, well=True) for _ in range(4)] == ["COMPLETE"] * 3 + ["FULL"]


def test_a_stop_between_two_phases_is_not_undone_by_the_launch_that_it_stops(small: Small) -> None:
    first = opened(small(name="two.timeframe", n_trials=1))
    request_action(first.engine, "two", "stop")
    second = opened(small(name="two.model", n_trials=1))
    with pytest.raises(StoppedByActionError, match=r"two\.model is stopped by action=stop"):
        resume_stopped(second, launched=False)
    with first.engine.connect() as conn:
        assert state_of(conn, "two") == "stopped"
    assert "this launch resumes it" in str(resume_stopped(first))
    assert resume_stopped(second, launched=False) is None


def supervised(monkeypatch: pytest.MonkeyPatch, work: Callable[[StudyContext], object]) -> None:
    """Let `work` stand in for the workers of a launch."""
    monkeypatch.setattr(runner, "supervise", lambda context, *_: work(context))


def lower(context: StudyContext, cap: int) -> None:
    with context.engine.begin() as conn:
        set_cap(conn, context.spec.name, cap)


def test_a_launch_ends_well_at_a_cap_that_another_one_lowered(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(context: StudyContext) -> None:
        assert end(context, well=True) == "COMPLETE"
        lower(context, 1)
        assert end(context, well=True) == "FULL"

    supervised(monkeypatch, work)
    heard = io.StringIO()
    context = run_phase(small(n_trials=3), Console(file=heard, width=300))
    assert "small: 1 of 1 trials done, as another launch set it" in heard.getvalue()
    assert states(context) == {"COMPLETE": 1}
    context.close()


def played_grid(folder: Path, trials: int = 2) -> StudyContext:
    grid = dataclasses.replace(GRID, n_trials=trials)
    context = opened(timeframe_study(small_spec(folder, name="two", phase=PhaseSpec("two", grid))))
    assert play(context, 2) in (None, NoTrial.FULL)
    return context


def test_phase_1_is_judged_at_the_cap_as_it_is_now(tmp_path: Path) -> None:
    context = played_grid(tmp_path, trials=4)
    lower(context, 2)
    assert [each.trials for each in compare_combinations(context, "0" * 64).combinations] == [2]


def test_a_verdict_that_stands_needs_no_file_of_phase_1(tmp_path: Path) -> None:
    context = played_grid(tmp_path)
    assert valid_evidence(context, "0" * 64) is None
    verdict = compare_combinations(context, "0" * 64)
    record_evidence(context.engine, verdict, "1h is better")
    shutil.rmtree(context.spec.folder / "trials")
    assert valid_evidence(context, "0" * 64) == verdict
    assert valid_evidence(context, "1" * 64) is None
    for change in ({"confidence": 0.8}, {"bootstraps": 200}):
        changed = dataclasses.replace(context.spec.phase.timeframe, **change)
        spec = dataclasses.replace(context.spec, phase=PhaseSpec("two", changed))
        assert valid_evidence(dataclasses.replace(context, spec=spec), "0" * 64) is None
    lower(context, 3)
    assert play(context, 1) is None  # it grew
    assert valid_evidence(context, "0" * 64) is None


def test_a_launch_judges_anew_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervised(monkeypatch, play)
    spec = small_spec(tmp_path, name="two", n_trials=1, phase=PhaseSpec("two", GRID))
    assert run_study(spec, Console(quiet=True)) == "two.model"
    shutil.rmtree(spec.folder.parent / "two.timeframe" / "trials")
    monkeypatch.setattr(phases, "model_confidence_set", None)
    assert run_study(dataclasses.replace(spec, n_trials=2), Console(quiet=True)) == "two.model"
    assert rows(spec, "SELECT COUNT(*) FROM trials") == [(4,)]
    assert rows(spec, "SELECT COUNT(*) FROM wf_events WHERE kind = :kind", kind=Verdict.kind.value) == [(1,)]


def test_a_launch_with_other_versions_says_so_once_and_keeps_the_newest(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec: StudySpec = small()
    context = opened(spec)
    windowed, heard = ground_of(context, spec), list[str]()
    enroll(context, windowed, heard.append)
    assert heard == []
    newer = versions() | {"torch": "99.0"}
    monkeypatch.setattr(context_module, "versions", lambda: newer)
    for _ in range(2):
        enroll(context, windowed, heard.append)
    (line,) = heard
    assert "torch" in line
    assert "then, 99.0 now" in line
    with context.engine.connect() as conn:
        stored = load_study(conn, "small")
        assert stored is not None
        assert stored.versions["torch"] == "99.0"
        assert len(events(conn, "small", VersionsChanged)) == 1
