"""Decide whether the failures of a study are chance or have a cause that concerns the whole study."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from optimize.results.states import FailureKind, RunState

CHANGING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|[-+]?\d+(?:[._]\d+)*(?:e[-+]?\d+)?", re.I)


@dataclass(frozen=True)
class Ended:
    """State and failure of an ended trial."""

    trial_number: int
    state: RunState
    kind: str | None = None
    message: str | None = None

    @property
    def signature(self) -> str:
        """Return the failure kind and message without numbers: equal for failures of one cause."""
        return f"{self.kind}: {CHANGING.sub('#', first_line_of(self.message))}"


@dataclass(frozen=True)
class FailurePolicy:
    """Limits of failures at which a study stops.

    The defaults stop fewer than one study in a hundred (0.25 % of 4,000 simulated) if each of 1,000 trials
    fails by one cause with a chance of 5 %. If every second trial fails by it, they stop after about eleven.
    """

    max_consecutive: int = 5
    max_alike: int = 6  # of the last 2 * max_alike - 1 trials; half until one succeeds


@dataclass(frozen=True)
class Assessment:
    """Kind of a study's failures and the action that follows."""

    kind: str  # none, random or systematic
    action: str  # go on, or stop
    why: str
    causes: tuple[str, ...] = ()  # signatures of the failures that stop it


def assess(ended: Sequence[Ended], policy: FailurePolicy) -> Assessment:
    """Return whether ended trials, oldest first, failed by chance or for a cause that will not pass.

    Trials of lost workers (`stale`) are left out.
    """
    told = [each for each in ended if each.kind != FailureKind.STALE]
    failed = [each for each in told if each.state == RunState.FAIL]
    if not failed:
        return Assessment("none", "go on", "no trial failed")
    in_a_row = next((n for n, each in enumerate(reversed(told)) if each.state != RunState.FAIL), len(told))
    if in_a_row >= policy.max_consecutive:
        return _stop(f"{in_a_row} trials in a row failed", told[-in_a_row:])
    recent = told[-(2 * policy.max_alike - 1) :]
    alike = _most_frequent(recent)
    enough = policy.max_alike if len(failed) < len(told) else max(1, policy.max_alike // 2)
    if len(alike) >= enough:
        return _stop(f"{len(alike)} of the last {len(recent)} trials failed in the same way", alike)
    return Assessment("random", "go on", _in_words(failed, len(told)))


def _most_frequent(ended: Sequence[Ended]) -> list[Ended]:
    """Return the failures of the most frequent cause."""
    by_cause: dict[str, list[Ended]] = {}
    for each in ended:
        if each.state == RunState.FAIL:
            by_cause.setdefault(each.signature, []).append(each)
    return max(by_cause.values(), key=len, default=[])


def _in_words(failed: Sequence[Ended], told: int) -> str:
    """Return a sentence: how many trials failed, and how many by one cause."""
    alike = _most_frequent(failed)
    share = f"{len(failed)} of {told} ended trials failed ({100 * len(failed) / told:.1f} %)"
    if len(alike) == 1:
        return f"{share}, and no cause repeats itself"
    why = f"{alike[-1].kind}: {first_line_of(alike[-1].message)}"
    return f"{share}, {len(alike)} of them in the same way ({why}): too seldom to blame the study for it"


def _stop(why: str, examples: Sequence[Ended]) -> Assessment:
    last = examples[-1]
    causes = tuple(dict.fromkeys(each.signature for each in examples))
    return Assessment("systematic", "stop", f"{why} ({last.kind}: {first_line_of(last.message)})", causes)


def first_line_of(message: str | None) -> str:
    """Return the first line of a message, shortened to 200 characters."""
    line = next(iter((message or "no message").strip().splitlines()), "no message")
    return line if len(line) <= 200 else f"{line[:199]}…"
