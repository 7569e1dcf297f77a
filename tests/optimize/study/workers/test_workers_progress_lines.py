"""The plain lines of a running study: one a trial, in the order they ended."""

import io
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
