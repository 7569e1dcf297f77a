"""What the doctor says: one finding a check."""

from collections.abc import Callable
from dataclasses import dataclass, field

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True)
class Finding:
    """The result of one check, what to do about it, and how it is mended where that is safe."""

    check: str
    level: str  # ok, warn or FAIL
    said: str
    remedy: str = ""
    mend: Callable[[], str] | None = field(default=None, compare=False)  # returns what it did


def gigabytes(size_bytes: float) -> str:
    """Write a size."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"
