"""Preflight: the whole path once, tiny; the stage that fails is named and nothing stays behind."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from optimize.errors import BadInputError, StudyStoppedError
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.trades import Trades
from optimize.study.launch import preflight as preflight_module
from optimize.study.launch.preflight import preflight
from optimize.study.launch.run import run_study
from optimize.study.spec import WorkerSpec
from optimize.walkforward import run as trial_module
from optimize.walkforward.run import evaluate_window
from tests.optimize.study.studies import opened, play, rows, small_spec

STAGES = ["Data and windows", "Training", "Saving and loading", "Evaluation", "Recording"]


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let temporary folders lie where the test can look; sockets do too, so its path is short."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def broken(*args: Any, **options: Any) -> Any:
    raise RuntimeError("broken on purpose")


def test_every_stage_is_said_and_nothing_stays_behind(tmp_path: Path, scratch: Path) -> None:
    said: list[str] = []
    preflight(small_spec(tmp_path), tmp_path / "market", said.append)
    assert said[:5] == [f"[STAGE ok] {stage}" for stage in STAGES]
    assert len(said) == 6
    assert said[5].startswith(("[STAGE ok] Export", "[STAGE --] Export: not tried"))
    assert not list(scratch.glob("walkforge-*"))
    assert [path.name for path in tmp_path.iterdir() if path != scratch] == ["market"]


@pytest.mark.parametrize(
    ("place", "name", "stage"),
    [
        (trial_module, "train", "Training"),
        (preflight_module, "load_agent", "Saving and loading"),
        (preflight_module, "evaluate_window", "Evaluation"),
        (preflight_module, "enroll", "Recording"),
    ],
)
def test_the_stage_that_fails_is_named(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, stage: str
) -> None:
    monkeypatch.setattr(place, name, broken)
    said: list[str] = []
    with pytest.raises(
        StudyStoppedError, match=f"^preflight failed in stage '{stage}': RuntimeError: broken on purpose$"
    ):
        preflight(small_spec(tmp_path), tmp_path / "market", said.append)
    passed = STAGES[: STAGES.index(stage)]
    assert said == [
        *(f"[STAGE ok] {each}" for each in passed),
        f"[STAGE FAILED] {stage}: RuntimeError: broken on purpose",
    ]
    assert not list(scratch.glob("walkforge-*"))
    assert not (tmp_path / "walkforge.db").exists()


def test_a_saved_agent_that_acts_otherwise_is_found(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differing(*args: Any) -> tuple[WindowResult, Trades]:
        measured, trades = evaluate_window(*args)
        return dataclasses.replace(measured, returns=np.nextafter(measured.returns, np.inf)), trades

    monkeypatch.setattr(preflight_module, "evaluate_window", differing)
    with pytest.raises(StudyStoppedError, match="stage 'Evaluation': the saved agent does not reproduce"):
        preflight(small_spec(tmp_path), tmp_path / "market", lambda line: None)


def test_what_only_training_finds_is_found_before_trial_1(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(tmp_path, preflight=True, worker=WorkerSpec(count=1))
    monkeypatch.setattr(trial_module, "train", broken)
    with pytest.raises(StudyStoppedError, match="stage 'Training': RuntimeError: broken on purpose"):
        run_study(spec, Console(quiet=True))
    assert rows(spec, "SELECT * FROM trials") == []


def test_an_agent_that_training_would_refuse_is_refused_by_its_own_key_before_any_work(
    tmp_path: Path,
) -> None:
    spec = small_spec(tmp_path, preflight=True, worker=WorkerSpec(count=1))
    agent = dataclasses.replace(spec.agent, hyperparameters={"n_steps": 16, "batch_size": 1})
    with pytest.raises(BadInputError, match=r"^agent\.batch_size=1 is not allowed"):
        run_study(dataclasses.replace(spec, agent=agent), Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_a_study_at_its_cap_needs_no_preflight(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(tmp_path, n_trials=1, preflight=True)
    play(opened(spec))
    monkeypatch.setattr(trial_module, "train", broken)
    with pytest.raises(StudyStoppedError, match="stage 'Training'"):
        run_study(dataclasses.replace(spec, n_trials=2), Console(quiet=True))
    assert run_study(spec, Console(quiet=True)) == "small"
