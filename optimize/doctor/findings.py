"""Findings of the doctor, one a check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimize.database import DatabaseSpec, Engine
from optimize.errors import WalkforgeError, message_of

OK, WARN, FAIL = "ok", "warn", "FAIL"
SPELLED_OUT = 3  # examples that are spelled out
MOST_WORDS = 300  # characters of an error that are shown


@dataclass(frozen=True)
class Finding:
    """The result of one check, its remedy, and a repair where that is safe."""

    check: str
    level: str  # ok, warn or FAIL
    said: str
    remedy: str = ""
    mend: Callable[[], str] | None = field(default=None, compare=False)  # returns a description of the repair


@dataclass(frozen=True)
class Audit:
    """A study that is looked at."""

    name: str
    engine: Engine  # writable where mending was asked for
    database: DatabaseSpec
    output_dir: Path

    @property
    def folder(self) -> Path:
        """Return the folder of the study."""
        return self.output_dir / self.name


def guarded_findings(check: str, subject: str, findings: Iterator[Finding], remedy: str) -> Iterator[Finding]:
    """Yield findings; a check that cannot be made is one more of them, and hides none of the others."""
    try:
        yield from findings
    except WalkforgeError:
        raise
    except Exception as error:  # whatever is in a damaged database or file
        why = f"{type(error).__name__}: {message_of(error)}"
        yield Finding(check, FAIL, f"{subject}: cannot be examined: {why[:MOST_WORDS]}", remedy)


def listed(values: Any) -> str:
    """Spell out the first few of many."""
    names = [str(value) for value in values]
    rest = f" and {len(names) - SPELLED_OUT} more" if len(names) > SPELLED_OUT else ""
    return ", ".join(names[:SPELLED_OUT]) + rest
