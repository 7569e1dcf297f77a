"""Luck on the card and in the metrics of a bundle: that of the study, and of the run's own parameter set."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from optimize.report.verdict import LUCK_LEGEND, luck_lines, set_line
from optimize.results.luck import LuckRecord, LuckTest

HEADING = "## Luck"


def plain_luck(test: LuckTest | None, own: LuckRecord | None) -> dict[str, Any]:
    """Return it as plain values under the key `luck`, nothing where it was not measured."""
    if test is None:
        return {}
    return {"luck": {"study": asdict(test), "set": None if own is None else asdict(own)}}


def luck_section(
    test: LuckTest | None,
    own: LuckRecord | None,
    run_uuid: str,
    cautions: Sequence[str] = (),
    earned: Sequence[str] = (),
) -> list[str]:
    """Return the heading and the section of the card, nothing where it was not measured.

    cautions: the flags of the trial of the verdict, below its word FOUND.
    earned: the lines on the Sharpe ratio that the search itself earned.
    """
    if test is None:
        return []
    same = own is not None and own.run_uuid == run_uuid
    subject = "This trial" if same else "The run by which the search scored these parameters"
    lines = [f"{subject}: {set_line(own)}.", ""] if own is not None else []
    verdict, *rest = luck_lines(test)
    bullets = [f"- {line}" for line in (verdict, *cautions, *rest, *earned)]
    return [HEADING, "\n".join([*lines, *bullets]), f"{LUCK_LEGEND[0].upper()}{LUCK_LEGEND[1:]}."]


def luck_of_card(card: str) -> list[str]:
    """Return the lines of the luck section of a CARD.md, its verdict first; none where it is missing."""
    _, _, rest = card.partition(f"{HEADING}\n")
    lines = []
    for line in rest.splitlines():
        if line.startswith(("#", "![")):
            break
        if line:
            lines.append(line.removeprefix("- "))
    return sorted(lines, key=lambda line: not line.startswith("verdict: "))
