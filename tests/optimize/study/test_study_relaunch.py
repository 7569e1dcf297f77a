"""A second launch: what it resumes, what it must not undo, and what it need not do again."""

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from optimize.results.records import events, load_study, set_cap
from optimize.study import handle as handle_module
from optimize.study import phases, runner
from optimize.study.claims.caps import Claim, Verdict, claim, fail_claimed
from optimize.study.claims.control import StoppedByActionError, ask, resume_stopped, state_of
from optimize.study.evidence import EVIDENCE, record_evidence
from optimize.study.handle import Handle, enroll
from optimize.study.phases import judge, standing_evidence, timeframe_study
from optimize.study.runner import run_phase, run_study
from optimize.study.spec import PhaseSpec, StudySpec, TimeframePhaseSpec
from optimize.study.versions import versions
from optimize.study.workers.process import ground_source
from tests.optimize.study.databases import Small, record
from tests.optimize.study.studies import ground_of, opened, play, rows, small_spec, states

GRID = TimeframePhaseSpec(n_trials=2, timeframes=["1h"], lookbacks=[2])


def end(handle: Handle, *, well: bool) -> str:
    """Claim a trial and end it; return what became of it, or why there is none."""
    found = claim(handle, 0, ground_source(handle))
    if not isinstance(found, Claim):
        return found.name
    if well:
        record(handle, found, 1.0)
        return "COMPLETE"
    return fail_claimed(handle, found.lease, "bug", "the cause that was mended").state


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
    ask(first.engine, "two", "stop")
    second = opened(small(name="two.model", n_trials=1))
    with pytest.raises(StoppedByActionError, match=r"two\.model is stopped by action=stop"):
        resume_stopped(second, launched=False)
    with first.engine.connect() as conn:
        assert state_of(conn, "two") == "stopped"
    assert "this launch resumes it" in str(resume_stopped(first))
    assert resume_stopped(second, launched=False) is None


def supervised(monkeypatch: pytest.MonkeyPatch, work: Callable[[Handle], object]) -> None:
    """Let `work` do what the workers of a launch would."""
    monkeypatch.setattr(runner, "supervise", lambda handle, *_: work(handle))


def lower(handle: Handle, cap: int) -> None:
    with handle.engine.begin() as conn:
        set_cap(conn, handle.spec.name, cap)


def test_a_launch_ends_well_at_a_cap_that_another_one_lowered(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(handle: Handle) -> None:
        assert end(handle, well=True) == "COMPLETE"
        lower(handle, 1)
        assert end(handle, well=True) == "FULL"

    supervised(monkeypatch, work)
    heard = io.StringIO()
    handle = run_phase(small(n_trials=3), Console(file=heard, width=300))
    assert "small: 1 of 1 trials done, as another launch set it" in heard.getvalue()
    assert states(handle) == {"COMPLETE": 1}
    handle.close()


def played_grid(folder: Path, trials: int = 2) -> Handle:
    grid = dataclasses.replace(GRID, n_trials=trials)
    handle = opened(timeframe_study(small_spec(folder, name="two", phase=PhaseSpec("two", grid))))
    assert play(handle, 2) in (None, Verdict.FULL)
    return handle


def test_phase_1_is_judged_at_the_cap_as_it_is_now(tmp_path: Path) -> None:
    handle = played_grid(tmp_path, trials=4)
    lower(handle, 2)
    assert [each.trials for each in judge(handle, "0" * 64).combinations] == [2]


def test_a_verdict_that_stands_needs_no_file_of_phase_1(tmp_path: Path) -> None:
    handle = played_grid(tmp_path)
    assert standing_evidence(handle, "0" * 64) is None
    verdict = judge(handle, "0" * 64)
    record_evidence(handle.engine, verdict)
    shutil.rmtree(handle.spec.folder / "trials")
    assert standing_evidence(handle, "0" * 64) == verdict
    assert standing_evidence(handle, "1" * 64) is None
    for change in ({"confidence": 0.8}, {"bootstraps": 200}):
        changed = dataclasses.replace(handle.spec.phase.timeframe, **change)
        spec = dataclasses.replace(handle.spec, phase=PhaseSpec("two", changed))
        assert standing_evidence(dataclasses.replace(handle, spec=spec), "0" * 64) is None
    lower(handle, 3)
    assert play(handle, 1) is None  # it grew
    assert standing_evidence(handle, "0" * 64) is None


def test_a_launch_judges_anew_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervised(monkeypatch, play)
    spec = small_spec(tmp_path, name="two", n_trials=1, phase=PhaseSpec("two", GRID))
    assert run_study(spec, Console(quiet=True)) == "two.model"
    shutil.rmtree(spec.folder.parent / "two.timeframe" / "trials")
    monkeypatch.setattr(phases, "confidence_set", None)
    assert run_study(dataclasses.replace(spec, n_trials=2), Console(quiet=True)) == "two.model"
    assert rows(spec, "SELECT COUNT(*) FROM trials") == [(4,)]
    assert rows(spec, "SELECT COUNT(*) FROM wf_events WHERE kind = :kind", kind=EVIDENCE) == [(1,)]


def test_a_launch_with_other_versions_says_so_once_and_keeps_the_newest(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec: StudySpec = small()
    handle = opened(spec)
    ground, heard = ground_of(handle, spec), list[str]()
    enroll(handle, ground, heard.append)
    assert heard == []
    newer = versions() | {"torch": "99.0"}
    monkeypatch.setattr(handle_module, "versions", lambda: newer)
    for _ in range(2):
        enroll(handle, ground, heard.append)
    (line,) = heard
    assert "torch" in line
    assert "then, 99.0 now" in line
    with handle.engine.connect() as conn:
        stored = load_study(conn, "small")
        assert stored is not None
        assert stored.versions["torch"] == "99.0"
        assert len(events(conn, "small", "versions")) == 1
