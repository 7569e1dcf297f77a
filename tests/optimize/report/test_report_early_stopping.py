"""Steps trained and validation Sharpe ratios are shown where a validation tail chose the weights."""

import dataclasses
import re
from pathlib import Path

import pytest

from optimize.agents.train_spec import TrainSpec
from optimize.cli.window_results import show_result
from optimize.report.early_stopping import choice_of_weights
from optimize.report.format import decimal, format_score
from optimize.report.html.window_table import window_table
from optimize.report.notes import trial_note
from optimize.results.records import RunRecord, WindowRecord
from optimize.results.runs import windows_of
from optimize.study.context import StudyContext
from optimize.walkforward.files import read_returns
from optimize.walkforward.run import conclude
from tests.optimize.study.studies import ground_of, opened, play, run_of, small_spec

STOPPING = TrainSpec(validation=0.3, eval_every=0.25, patience=2)


def _played(folder: Path, train: TrainSpec) -> tuple[StudyContext, RunRecord, list[WindowRecord]]:
    spec = small_spec(folder, n_trials=1, train=train)
    agent = dataclasses.replace(spec.agent, total_timesteps=256)
    context = opened(dataclasses.replace(spec, agent=agent))
    play(context)
    run = run_of(context, 0)
    with context.engine.connect() as conn:
        return context, run, windows_of(conn, run.run_uuid)


def _shown(
    context: StudyContext, run: RunRecord, windows: list[WindowRecord], capsys: pytest.CaptureFixture[str]
) -> tuple[str, str, str]:
    """Return the note, the table of the page and the table of a walk-forward."""
    windowed = ground_of(context, context.spec)
    stored = [
        dataclasses.replace(
            read_returns(context.spec.folder / str(row.returns_path))[1],
            trained_steps=None if row.trained_steps is None else int(row.trained_steps),
            sharpe_validation=row.sharpe_validation,
        )
        for row in windows
    ]
    capsys.readouterr()
    show_result(context.spec, windowed, conclude(context.spec, windowed, [stored], None), [], "windows")
    return trial_note(run, windows, []), window_table(run, windows), capsys.readouterr().out


def test_a_trial_with_a_validation_tail_shows_its_steps_and_its_ratios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    context, run, windows = _played(tmp_path, STOPPING)
    note, page, printed = _shown(context, run, windows, capsys)
    sentence = choice_of_weights(STOPPING)
    assert sentence in note
    assert sentence in page
    assert "validation Sharpe: of the kept checkpoint" in printed
    assert len(windows) == 2
    for row in windows:
        assert row.trained_steps in (192, 256)
        cells = (row.window, f"{row.trained_steps:.0f}", decimal(row.sharpe_validation))
        assert "| " + " | ".join(f"\u00a0{cell}\u00a0" for cell in cells) + " |" in note
        assert f"{row.trained_steps:.0f}</td>" in page
        assert f"{format_score(row.sharpe_validation)}</td>" in page
        assert re.search(
            rf"{re.escape(format_score(row.sharpe_validation))}\s+{row.trained_steps:.0f}\s", printed
        )


def test_a_trial_without_one_shows_neither(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context, run, windows = _played(tmp_path, TrainSpec())
    assert all(row.trained_steps == 256 for row in windows)
    for text in _shown(context, run, windows, capsys):
        assert "validation" not in text.lower()
        assert "steps" not in text
        assert "Early stopping" not in text


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (TrainSpec(), ""),
        (TrainSpec(average=3), "Each training kept the mean of the weights at the last 3 checkpoints."),
        (
            TrainSpec(validation=0.2),
            "Each training kept the checkpoint with the best Sharpe ratio on the last 20\u00a0% of the "
            "sessions of its train span.",
        ),
        (
            TrainSpec(validation=0.25, patience=5, average=4),
            "Each training kept the checkpoint with the best Sharpe ratio on the last 25\u00a0% of the "
            "sessions of its train span and ended after 5 without a better one. A checkpoint is the mean of "
            "the weights at the last 4 checkpoints.",
        ),
    ],
)
def test_the_choice_of_the_weights_in_words(train: TrainSpec, words: str) -> None:
    assert choice_of_weights(train) == words
