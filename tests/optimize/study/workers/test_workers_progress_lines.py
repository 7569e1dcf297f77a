"""The plain lines of a running study: one a trial, in the order they ended."""

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from optimize.study.workers.progress import progress
from tests.optimize.study.studies import opened, play, small_spec


def test_each_line_counts_the_trials_that_had_ended_by_then(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=3))
    play(context, limit=1)  # of an earlier launch: counted, not listed
    console = Console(file=io.StringIO(), width=200)
    with progress(context, 3, console) as shown:
        play(context, limit=2)
        shown.refresh()  # both at one look
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # a StringIO
    assert [line.split(":")[1].split()[1] for line in lines] == ["1", "2"]
    assert ["[2/3," in lines[0], "[3/3," in lines[1]] == [True, True]


def test_a_blocked_trial_is_named_and_never_the_best(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=2))
    play(context, limit=2)
    with progress(context, 2, Console(file=io.StringIO())) as shown:
        first, second = shown.runs.values()
        assert first.score is not None
        assert second.score is not None
        shown.count(replace(first, score=first.score + 1000.0, gate="max_drawdown"))
        assert shown.total().best == second.score
        line = shown._line(shown.runs[first.trial_number])
    assert ", not ranked: gate.max_drawdown blocks it (" in line
