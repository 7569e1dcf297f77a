"""Windows that another study of a nested walk-forward trained identically: copied, never trained again.

The study before window k and the study itself draw equal first trials from one seed; their windows before k
have the same bars, parameters and seeds, so the same agents come out.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from envs.fields import EXECUTION, SECRET, keys_of
from envs.plain import flat_keys
from optimize.database import Connection
from optimize.evaluate.windows import Window, train_start
from optimize.results.records import RunRecord, WindowRecord
from optimize.results.runs import runs_alike, windows_of
from optimize.results.study_names import is_nested, is_trade, phase_of, typed_name
from optimize.study.context import StudyContext, flat
from optimize.study.trials.claim import Claim
from optimize.walkforward.files import find_returns
from optimize.walkforward.run import WindowKey
from optimize.walkforward.spec import RunSpec

DATES = ("data.start", "data.end", "data.months", "window")  # the bars of a window are compared instead


def trained_before(
    context: StudyContext, conn: Connection, claim: Claim, done: Mapping[WindowKey, Any]
) -> Iterator[tuple[Path, WindowRecord]]:
    """Yield the file of returns and the row of each missing window that another study trained identically."""
    name = claim.run.study_name
    if is_trade(name) or not (is_nested(name) or context.spec.nested):
        return
    missing = {
        (window.index, repeat): window
        for window in claim.windowed.windows
        for repeat in range(claim.spec.score.repeats)
        if (window.index, repeat) not in done
    }
    for run in runs_alike(conn, claim.run):
        if not missing:
            return
        if not _same_family(name, run.study_name) or not _trained_alike(run, claim.run):
            continue
        folder = context.spec.folder.parent / run.study_name
        for row in windows_of(conn, run.run_uuid):
            planned = missing.get((row.window, row.repeat))
            path = folder / (row.returns_path or "")
            if planned is not None and _same_bars(row, planned, claim) and find_returns(path) is not None:
                del missing[row.window, row.repeat]
                yield path, row


def _same_family(one: str, other: str) -> bool:
    return (
        typed_name(one) == typed_name(other)
        and phase_of(one) == phase_of(other)
        and one != other
        and not is_trade(other)
    )


def _trained_alike(one: RunRecord, other: RunRecord) -> bool:
    """Return whether two runs have the same settings, seeds and versions, apart from the dates of data."""
    same = list(one.entropy) == list(other.entropy) and dict(one.versions) == dict(other.versions)
    return same and _settings(one.spec) == _settings(other.spec)


def _settings(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a run that decide its training, by path."""
    found = dict(flat(flat_keys(RunSpec, {key: value for key, value in plain.items() if key in _groups()})))
    return {
        path: value for path, value in found.items() if not path.startswith(DATES) and path not in _free()
    }


@cache
def _groups() -> frozenset[str]:
    return frozenset(path.partition(".")[0] for path in keys_of(RunSpec))


@cache
def _free() -> frozenset[str]:
    """Return the keys of a run without effect on its results."""
    free = (path for path, key in keys_of(RunSpec).items() if key.setting.role in (EXECUTION, SECRET))
    return frozenset({*free, "extensions"})  # their code is in the versions


def _same_bars(row: WindowRecord, planned: Window, claim: Claim) -> bool:
    """Return whether a stored window has the train and test bars of a planned one."""
    dates = planned.dates
    stored = (row.train_start, row.train_end, row.test_start, row.train_bars, row.test_bars)
    bars = (planned.train_last - planned.train_first + 1, planned.test_last - planned.test_first + 1)
    return stored == (train_start(planned, claim.windowed.market), dates.train_end, dates.test_start, *bars)
