"""Findings of the quality checks: severity, refusal and wording."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from envs.types import BoolArray, IntArray
from optimize.data.bars import RawBars, utc_text
from optimize.data.spec import CHECKS
from optimize.data.timeframes import HOUR_NS
from optimize.errors import BadInputError

MAX_BRIEF_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class QualityFinding:
    """One defect of one symbol's bars: position, count, severity and remedy."""

    check: str  # a key of CHECKS
    severity: str  # refuse, warn or ignore
    symbol: str
    source: str  # path of the file, or name of the generator
    first: str | None  # UTC start of the first bar concerned
    last: str | None  # UTC start of the last bar concerned
    count: int  # number of defects
    found: str
    remedy: str


def make_finding(
    check: str, raw: RawBars, stamps: IntArray, found: str, remedy: str, count: int = 0
) -> QualityFinding:
    """Return a finding at its default severity; stamps (K,) are the affected bars, count defaults to K."""
    first, last = (utc_text(stamps.min()), utc_text(stamps.max())) if len(stamps) else (None, None)
    where = (raw.symbol, raw.source, first, last)
    return QualityFinding(check, CHECKS[check], *where, count or len(stamps), found, remedy)


def apply_severities(findings: Iterable[QualityFinding], severity: Mapping[str, str]) -> list[QualityFinding]:
    """Return the findings with the severities of data.severity applied, ignored ones left out."""
    judged = (replace(each, severity=severity.get(each.check, each.severity)) for each in findings)
    return [each for each in judged if each.severity != "ignore"]


def refusing_findings(findings: Iterable[QualityFinding]) -> list[QualityFinding]:
    """Return the findings that forbid building a market."""
    return [each for each in findings if each.severity == "refuse"]


def refuse_findings(findings: Sequence[QualityFinding]) -> None:
    """Raise BadInputError for the first refusing finding, with the number of further ones."""
    grave = refusing_findings(findings)
    if grave:
        more = f" ({len(grave) - 1} more: walkforge data data.check=true lists all)" if grave[1:] else ""
        raise BadInputError(finding_sentence(grave[0]) + more)


def finding_sentence(finding: QualityFinding) -> str:
    """Return a finding as one line that names its file."""
    return f"{finding.source}: {finding.found}{span_text(finding)}: {finding.remedy}"


def finding_line(finding: QualityFinding) -> str:
    """Return a finding as one line without the file's name."""
    return f"{_head(finding)}: {finding.found}{span_text(finding)}: {finding.remedy}"


def brief_finding(finding: QualityFinding) -> str:
    """Return a finding in at most MAX_BRIEF_CHARACTERS characters, without dates and remedy."""
    text = f"{_head(finding)}: {finding.found}"
    if len(text) > MAX_BRIEF_CHARACTERS:
        text = text.partition(" (")[0] if " (" in text[:MAX_BRIEF_CHARACTERS] else text
        text = text if len(text) <= MAX_BRIEF_CHARACTERS else text[: MAX_BRIEF_CHARACTERS - 4] + " ..."
    return text


def _head(finding: QualityFinding) -> str:
    return f"{finding.severity} {finding.check} {finding.symbol}"


def span_text(finding: QualityFinding) -> str:
    """Return the affected dates as the end of a sentence; empty if no bar is affected."""
    if finding.first is None:
        return ""
    if finding.first == finding.last:
        return f"; at {finding.first}"
    return f"; from {finding.first} to {finding.last}"


def pluralise(number: int, noun: str) -> str:
    """Return a number with its noun, `1 bar` or `12,345 bars`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def share_text(chosen: BoolArray) -> str:
    """Return the number and share of the chosen bars as text, `28 bars (0.14 %)`."""
    return f"{pluralise(int(chosen.sum()), 'bar')} ({100 * chosen.mean():.3g} %)"


def duration_text(length_ns: float) -> str:
    """Return a duration as text: in days from two days on, else in hours or minutes."""
    hours = length_ns / HOUR_NS
    if hours >= 48:
        return f"{hours / 24:,.0f} days"
    return f"{hours:.3g} h" if hours >= 1 else f"{60 * hours:.3g} min"
