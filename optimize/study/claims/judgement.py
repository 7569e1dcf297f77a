"""What the failures of a study come to: chance, or a cause that lies in the study and not in a trial."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

CHANGING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|[-+]?\d+(?:[._]\d+)*(?:e[-+]?\d+)?", re.I)


@dataclass(frozen=True)
class Ended:
    """A trial that ended, as far as triage looks at it."""

    trial_number: int
    state: str
    kind: str | None = None
    message: str | None = None

    @property
    def signature(self) -> str:
        """Return what two failures of one cause have in common."""
        return f"{self.kind}: {CHANGING.sub('#', first_line(self.message))}"


@dataclass(frozen=True)
class Policy:
    """When failures end a study.

    Where each of 1,000 trials fails by one cause with a chance of 5 %, these numbers stop fewer than one
    study in a hundred (0.25 % of 4,000 simulated). Where it hits every second trial, they stop it after about
    eleven.
    """

    max_consecutive: int = 5
    max_alike: int = 6  # of the last 2 * max_alike - 1; half as many while no trial has ended well


@dataclass(frozen=True)
class Judgement:
    """What the failures of a study come to."""

    kind: str  # none, random or systematic
    action: str  # go on, or stop
    why: str
    causes: tuple[str, ...] = ()  # the signatures for which it is to stop


def judge(ended: Sequence[Ended], policy: Policy) -> Judgement:
    """Say whether trials that ended, oldest first, fail by chance or for a reason that will not pass.

    Lost workers (`stale`) say nothing about the study and count neither way.
    """
    told = [each for each in ended if each.kind != "stale"]
    failed = [each for each in told if each.state == "FAIL"]
    if not failed:
        return Judgement("none", "go on", "no trial failed")
    in_a_row = next((n for n, each in enumerate(reversed(told)) if each.state != "FAIL"), len(told))
    if in_a_row >= policy.max_consecutive:
        return _stop(f"{in_a_row} trials in a row failed", told[-in_a_row:])
    recent = told[-(2 * policy.max_alike - 1) :]
    alike = _most_frequent(recent)
    enough = policy.max_alike if len(failed) < len(told) else max(1, policy.max_alike // 2)
    if len(alike) >= enough:
        return _stop(f"{len(alike)} of the last {len(recent)} trials failed in the same way", alike)
    return Judgement("random", "go on", _in_words(failed, len(told)))


def _most_frequent(ended: Sequence[Ended]) -> list[Ended]:
    """Return the failures of the cause that has most of them."""
    by_cause: dict[str, list[Ended]] = {}
    for each in ended:
        if each.state == "FAIL":
            by_cause.setdefault(each.signature, []).append(each)
    return max(by_cause.values(), key=len, default=[])


def _in_words(failed: Sequence[Ended], told: int) -> str:
    """Say how many trials failed, and how many of them by one cause."""
    alike = _most_frequent(failed)
    share = f"{len(failed)} of {told} ended trials failed ({100 * len(failed) / told:.1f} %)"
    if len(alike) == 1:
        return f"{share}, and no cause repeats itself"
    why = f"{alike[-1].kind}: {first_line(alike[-1].message)}"
    return f"{share}, {len(alike)} of them in the same way ({why}): too seldom to blame the study for it"


def _stop(why: str, examples: Sequence[Ended]) -> Judgement:
    last = examples[-1]
    causes = tuple(dict.fromkeys(each.signature for each in examples))
    return Judgement("systematic", "stop", f"{why} ({last.kind}: {first_line(last.message)})", causes)


def first_line(message: str | None) -> str:
    """Return the first line of a message, shortened to what fits on a screen."""
    line = next(iter((message or "no message").strip().splitlines()), "no message")
    return line if len(line) <= 200 else f"{line[:199]}…"
