"""What a check of bars found, how grave it is, and how it is said."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from envs.types import BoolArray, IntArray
from optimize.data.bars import RawBars, utc_text
from optimize.data.spec import CHECKS, HOUR_NS
from optimize.errors import BadInputError

BRIEF = 160


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect of one symbol's bars: where, how often, how grave, and what to do."""

    check: str  # a name of CHECKS
    severity: str  # refuse, warn or ignore
    symbol: str
    source: str  # the file, or what made the bars
    first: str | None  # UTC start of the first bar concerned
    last: str | None  # UTC start of the last bar concerned
    count: int  # of what `found` names first
    found: str
    remedy: str


def find(check: str, raw: RawBars, stamps: IntArray, found: str, remedy: str, count: int = 0) -> Finding:
    """Return a finding at its default severity; stamps (K,) are those concerned, count is K unless given."""
    first, last = (utc_text(stamps.min()), utc_text(stamps.max())) if len(stamps) else (None, None)
    where = (raw.symbol, raw.source, first, last)
    return Finding(check, CHECKS[check], *where, count or len(stamps), found, remedy)


def judge(findings: Iterable[Finding], severity: Mapping[str, str]) -> list[Finding]:
    """Return the findings at the severities asked for (data.severity), without the ignored ones."""
    judged = (replace(each, severity=severity.get(each.check, each.severity)) for each in findings)
    return [each for each in judged if each.severity != "ignore"]


def refused(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that no market is built on."""
    return [each for each in findings if each.severity == "refuse"]


def refuse(findings: Sequence[Finding]) -> None:
    """Raise BadInputError on the first finding that refuses, saying how many more there are."""
    grave = refused(findings)
    if grave:
        more = f" ({len(grave) - 1} more: walkforge data data.check=true lists all)" if grave[1:] else ""
        raise BadInputError(sentence(grave[0]) + more)


def sentence(finding: Finding) -> str:
    """Return a finding as one line that names its file."""
    return f"{finding.source}: {finding.found}{span(finding)}: {finding.remedy}"


def line(finding: Finding) -> str:
    """Return a finding as one line, for where the file is named already."""
    return f"{_head(finding)}: {finding.found}{span(finding)}: {finding.remedy}"


def warning(finding: Finding) -> str:
    """Return a finding as one line that names its file as well."""
    return f"{_head(finding)}: {sentence(finding)}"


def brief(finding: Finding) -> str:
    """Return a finding in at most BRIEF characters, without its dates and its remedy."""
    text = f"{_head(finding)}: {finding.found}"
    if len(text) > BRIEF:
        text = text.partition(" (")[0] if " (" in text[:BRIEF] else text
        text = text if len(text) <= BRIEF else text[: BRIEF - 4] + " ..."
    return text


def _head(finding: Finding) -> str:
    return f"{finding.severity} {finding.check} {finding.symbol}"


def span(finding: Finding) -> str:
    """Return when, as the end of a sentence; nothing where there is no bar to name."""
    if finding.first is None:
        return ""
    if finding.first == finding.last:
        return f"; at {finding.first}"
    return f"; from {finding.first} to {finding.last}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, `1 bar` or `12,345 bars`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def portion(chosen: BoolArray) -> str:
    """Return how many bars are chosen and their share, `28 bars (0.14 %)`."""
    return f"{counted(int(chosen.sum()), 'bar')} ({100 * chosen.mean():.3g} %)"


def days(length_ns: float) -> str:
    """Return a length of time as text, in days from two of them on, else in hours or minutes."""
    hours = length_ns / HOUR_NS
    if hours >= 48:
        return f"{hours / 24:,.0f} days"
    return f"{hours:.3g} h" if hours >= 1 else f"{60 * hours:.3g} min"
