"""Openings of holdouts: each use of bars that are kept from the search is logged first and counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import Connection, insert, select

from optimize.clock import now
from optimize.results.tables import HOLDOUT_OPENINGS, load_rows, values_of


@dataclass(frozen=True)
class HoldoutOpening:
    """One use of a part of a holdout; the end is exclusive."""

    symbols: list[str]
    first: date
    end: date
    study_name: str
    run_uuid: str
    bundle: str
    purpose: str
    host: str
    opened_at: datetime = field(default_factory=now)
    score: float | None = None  # on the opened span; None: not measured


def log_opening(conn: Connection, opening: HoldoutOpening) -> int:
    """Store an opening; return how many there are by now of any of its symbols and sessions."""
    conn.execute(insert(HOLDOUT_OPENINGS).values(values_of(opening)))
    return len(openings_of(conn, opening.symbols, opening.first, opening.end))


def openings_of(conn: Connection, symbols: Sequence[str], first: date, end: date) -> list[HoldoutOpening]:
    """Return the openings that share a symbol and a session in [first, end), oldest first."""
    stored = load_rows(
        conn, HoldoutOpening, HOLDOUT_OPENINGS, select(HOLDOUT_OPENINGS).order_by("opening_id")
    )
    return [
        each for each in stored if each.first < end and each.end > first and set(each.symbols) & set(symbols)
    ]
