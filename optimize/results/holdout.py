"""The vault of holdouts: spans that no study trains or tests on, and the log of each time one was opened.

A holdout is kept by instrument and dates for every study of the database, from its first cut on; newer data
do not move it. Opened sessions are spent, with all earlier ones: they may be trained on, and the next holdout
begins after its end.
"""

import getpass
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from sqlalchemy import Connection, RowMapping, insert, select, update

from optimize.clock import now
from optimize.data.symbols import share_symbol
from optimize.database import has_table
from optimize.results.instrument_names import known_names
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
    names = known_names(conn, instruments)
    return [each for each in stored if each.overlaps(first, end) and share_symbol(each.instruments, names)]


def holdout_of_study(
    conn: Connection, study: str, stated: Sequence[str] = (), instruments: Sequence[str] = ()
) -> KeptHoldout | None:
    """Return the holdout that a study cut, or the one of the stated dates; None for an older study.

    Its instruments may have been cut or opened at different times; without `instruments` all of them count.
    """
    if not has_table(conn, HOLDOUTS.name):
        return None
    stored = load_rows(conn, KeptHoldout, HOLDOUTS, select(HOLDOUTS).order_by("holdout_id"))
    if instruments:
        names = known_names(conn, instruments)
        stored = [each for each in stored if share_symbol(each.instruments, names)]
    own = [each for each in stored if each.study_name == study.partition(".")[0]]
    if stated:
        first, end = map(date.fromisoformat, stated)
        parts = [each for each in own or stored if each.overlaps(first, end)]
        parts = parts or [each for each in stored if each.overlaps(first, end)]
    else:
        parts = [each for each in own if each.cut_at == own[0].cut_at]
        first, end = (min(p.first for p in parts), max(p.end for p in parts)) if parts else (date.min,) * 2
    if not parts:
        return None
    return replace(parts[0], instruments=_names(parts), first=first, end=end)


def _names(parts: Sequence[KeptHoldout]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part.instruments))


def log_opening(conn: Connection, opening: HoldoutOpening) -> int:
    """Store an opening, which spends the kept sessions up to its last one; return how often it was opened.

    Agents that are chosen after it are chosen with results of that time, so that earlier sessions are no test
    of them; later sessions stay kept. A span that no launch has kept before is kept as spent.
    """
    opening = replace(opening, symbols=known_names(conn, opening.symbols))
    conn.execute(insert(HOLDOUT_OPENINGS).values(values_of(opening)))
    of_study = (list(opening.symbols), opening.first, opening.end, opening.study_name)
    keep_holdout(conn, KeptHoldout(*of_study, cut_at=opening.opened_at))
    stored = conn.execute(select(HOLDOUTS).where(HOLDOUTS.c.spent_at.is_(None))).mappings().all()
    for row in stored:
        opened = [each for each in row["instruments"] if share_symbol([each], opening.symbols)]
        if opened and row["first"] < opening.end:
            _spend(conn, row, opened, opening)
    return len(openings_of(conn, opening.symbols, opening.first, opening.end))


def _spend(conn: Connection, row: RowMapping, opened: list[str], opening: HoldoutOpening) -> None:
    """Spend the opened instruments of a kept holdout up to the end of an opening; the rest stays kept."""
    kept = KeptHoldout(row["instruments"], row["first"], row["end"], row["study_name"], row["cut_at"])
    unopened = [each for each in kept.instruments if each not in opened]
    rest = [replace(kept, instruments=unopened)] if unopened else []
    if kept.end > opening.end:
        rest.append(replace(kept, instruments=opened, first=opening.end))
    for part in rest:
        conn.execute(insert(HOLDOUTS).values(values_of(part)))
    spent = update(HOLDOUTS).where(HOLDOUTS.c.holdout_id == row["holdout_id"])
    values = {"spent_at": opening.opened_at, "instruments": opened, "end": min(kept.end, opening.end)}
    conn.execute(spent.values(**values))


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
    names = known_names(conn, symbols)
    return [
        each for each in stored if each.first < end and each.end > first and share_symbol(each.symbols, names)
    ]
