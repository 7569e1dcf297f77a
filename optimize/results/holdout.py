"""The vault of holdouts: spans that no study trains or tests on, and the log of each time one was opened.

A holdout is kept by instrument and dates for every study of the database, from its first cut on; newer data
do not move it. Once opened it is spent: it may be trained on, and the next holdout begins after its end.
"""

import getpass
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from sqlalchemy import Connection, insert, select, update

from optimize.clock import now
from optimize.data.symbols import share_symbol
from optimize.database import has_table
from optimize.results.rows import load_rows, values_of
from optimize.results.tables import HOLDOUT_OPENINGS, HOLDOUTS


def user_at_host() -> str:
    """Return who opens a holdout: the user and the machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True)
class HoldoutOpening:
    """One use of a part of a holdout; the end is exclusive."""

    symbols: list[str]  # instruments
    first: date
    end: date
    study_name: str
    run_uuid: str
    bundle: str
    purpose: str
    host: str = field(default_factory=user_at_host)
    opened_at: datetime = field(default_factory=now)
    score: float | None = None  # on the opened span; None: not measured


@dataclass(frozen=True)
class KeptHoldout:
    """A holdout of one or more instruments, as it was first cut; the end is exclusive."""

    instruments: list[str]
    first: date
    end: date
    study_name: str  # the study that cut it
    cut_at: datetime = field(default_factory=now)
    spent_at: datetime | None = None  # None: never opened

    def overlaps(self, first: date, end: date) -> bool:
        """Return whether it has a session in [first, end)."""
        return self.first < end and self.end > first


def keep_holdout(conn: Connection, holdout: KeptHoldout) -> bool:
    """Store the sessions that no other holdout of an instrument keeps; return whether there are any."""
    parts: dict[tuple[date, date], list[str]] = {}
    for instrument in holdout.instruments:
        others = holdouts_of(conn, [instrument], holdout.first, holdout.end)
        for part in _gaps(holdout.first, holdout.end, others):
            parts.setdefault(part, []).append(instrument)
    for (first, end), instruments in parts.items():
        part_kept = replace(holdout, instruments=instruments, first=first, end=end)
        conn.execute(insert(HOLDOUTS).values(values_of(part_kept)))
    return bool(parts)


def _gaps(first: date, end: date, others: Sequence[KeptHoldout]) -> Iterator[tuple[date, date]]:
    """Yield the parts of [first, end) that are in none of the holdouts, which are sorted by first session."""
    for each in others:
        if each.first > first:
            yield first, each.first
        first = max(first, each.end)
    if first < end:
        yield first, end


def holdouts_of(conn: Connection, instruments: Sequence[str], first: date, end: date) -> list[KeptHoldout]:
    """Return the holdouts that share an instrument and a session in [first, end), by their first session."""
    if not has_table(conn, HOLDOUTS.name):  # of an older version
        return []
    stored = load_rows(conn, KeptHoldout, HOLDOUTS, select(HOLDOUTS).order_by("first", "holdout_id"))
    return [
        each for each in stored if each.overlaps(first, end) and share_symbol(each.instruments, instruments)
    ]


def holdout_of_study(conn: Connection, study: str, stated: Sequence[str] = ()) -> KeptHoldout | None:
    """Return the holdout that a study cut, or the kept one of the stated dates; None for an older study."""
    if not has_table(conn, HOLDOUTS.name):
        return None
    stored = load_rows(conn, KeptHoldout, HOLDOUTS, select(HOLDOUTS).order_by("holdout_id"))
    name, dates = study.partition(".")[0], list(stated)
    found = [each for each in stored if not dates or dates == [str(each.first), str(each.end)]]
    own = [each for each in found if each.study_name == name]
    return next(iter(own or (found if dates else [])), None)


def log_opening(conn: Connection, opening: HoldoutOpening) -> int:
    """Store an opening, which spends the holdout; return how many there are by now of any of its sessions.

    The span of a study whose holdout no launch has stored is kept as spent.
    """
    conn.execute(insert(HOLDOUT_OPENINGS).values(values_of(opening)))
    of_study = (list(opening.symbols), opening.first, opening.end, opening.study_name)
    keep_holdout(conn, KeptHoldout(*of_study, cut_at=opening.opened_at))
    stored = conn.execute(select(HOLDOUTS).where(HOLDOUTS.c.spent_at.is_(None))).mappings().all()
    for row in stored:
        same = share_symbol(row["instruments"], opening.symbols)
        if same and row["first"] < opening.end and row["end"] > opening.first:
            opened = [each for each in row["instruments"] if share_symbol([each], opening.symbols)]
            rest = [each for each in row["instruments"] if each not in opened]
            if rest:  # nobody has seen these sessions of the other instruments
                others = KeptHoldout(rest, row["first"], row["end"], row["study_name"], row["cut_at"])
                conn.execute(insert(HOLDOUTS).values(values_of(others)))
            spent = update(HOLDOUTS).where(HOLDOUTS.c.holdout_id == row["holdout_id"])
            conn.execute(spent.values(spent_at=opening.opened_at, instruments=opened))
    return len(openings_of(conn, opening.symbols, opening.first, opening.end))


def score_opening(conn: Connection, opening: HoldoutOpening, score: float | None) -> None:
    """Store the score that an opened span gave."""
    same = (HOLDOUT_OPENINGS.c.bundle == opening.bundle, HOLDOUT_OPENINGS.c.opened_at == opening.opened_at)
    conn.execute(update(HOLDOUT_OPENINGS).where(*same).values(score=score))


def openings_of(conn: Connection, symbols: Sequence[str], first: date, end: date) -> list[HoldoutOpening]:
    """Return the openings that share an instrument and a session in [first, end), oldest first."""
    if not has_table(conn, HOLDOUT_OPENINGS.name):
        return []
    stored = load_rows(
        conn, HoldoutOpening, HOLDOUT_OPENINGS, select(HOLDOUT_OPENINGS).order_by("opening_id")
    )
    return [
        each
        for each in stored
        if each.first < end and each.end > first and share_symbol(each.symbols, symbols)
    ]
