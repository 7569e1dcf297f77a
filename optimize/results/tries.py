"""Tries: runs of which a test window was evaluated, counted by instrument and dates over all studies.

A try stays when its study is deleted or renamed: the best of all of them is chosen, whatever was kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from sqlalchemy import Connection, func, select, update

from optimize.clock import now
from optimize.data.symbols import share_symbol
from optimize.database import has_table
from optimize.results.instrument_names import known_names
from optimize.results.rows import load_rows, replace_row, values_of, where
from optimize.results.states import TryKind
from optimize.results.tables import RUNS, TRIED_RUNS


@dataclass(frozen=True)
class Try:
    """One run with an evaluated window; the end of its test dates is exclusive."""

    run_uuid: str
    kind: TryKind
    study_name: str
    symbols: list[str]  # by `instruments_of`
    first: date
    end: date
    trial_number: int | None = None
    tried_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Tries:
    """Numbers of tries whose test dates overlap a span."""

    same_instrument: int  # that share a symbol
    all_instruments: int


def record_try(conn: Connection, tried: Try) -> None:
    """Store a run with its first evaluated window; a later window extends its dates.

    A run that took over a trial replaces the earlier runs of the trial: they trained the same.
    """
    stored = find_try(conn, tried.run_uuid)
    if stored is None and tried.trial_number is not None:
        earlier = select(RUNS.c.run_uuid).where(
            RUNS.c.study_name == tried.study_name,
            RUNS.c.trial_number == tried.trial_number,
            RUNS.c.run_uuid != tried.run_uuid,
        )
        of_trial = (TRIED_RUNS.c.run_uuid.in_(earlier), TRIED_RUNS.c.kind == tried.kind)
        conn.execute(update(TRIED_RUNS).where(*of_trial).values(run_uuid=tried.run_uuid))
        stored = find_try(conn, tried.run_uuid)
    if stored is not None:
        tried = replace(stored, first=min(stored.first, tried.first), end=max(stored.end, tried.end))
    replace_row(conn, TRIED_RUNS, values_of(tried))


def find_try(conn: Connection, run_uuid: str) -> Try | None:
    """Return the try of a run, or None."""
    return next(iter(load_rows(conn, Try, TRIED_RUNS, where(TRIED_RUNS, run_uuid=run_uuid))), None)


def tried_span(conn: Connection, study: str) -> tuple[list[str], date, date] | None:
    """Return the instruments of a study and its first and last (exclusive) test date, None without a try."""
    if not has_table(conn, TRIED_RUNS.name):
        return None
    of_study = select(TRIED_RUNS.c.symbols, func.min(TRIED_RUNS.c.first), func.max(TRIED_RUNS.c.end))
    of_study = of_study.join(RUNS, RUNS.c.run_uuid == TRIED_RUNS.c.run_uuid)
    rows = conn.execute(of_study.where(RUNS.c.study_name == study).group_by(TRIED_RUNS.c.symbols)).all()
    if not rows:
        return None
    symbols = sorted({symbol for found, *_ in rows for symbol in found})
    return symbols, min(first for _, first, _ in rows), max(end for *_, end in rows)


def count_tries(conn: Connection, symbols: Sequence[str], first: date, end: date) -> Tries:
    """Return the numbers of tries whose test dates overlap [first, end), by any name of an instrument."""
    if not has_table(conn, TRIED_RUNS.name):  # of an older version, that was not written to since
        return Tries(0, 0)
    overlaps = (TRIED_RUNS.c.first < end, TRIED_RUNS.c.end > first)
    rows = conn.execute(
        select(TRIED_RUNS.c.symbols, func.count()).where(*overlaps).group_by(TRIED_RUNS.c.symbols)
    ).all()
    names = known_names(conn, symbols)
    return Tries(
        same_instrument=sum(count for found, count in rows if share_symbol(names, found)),
        all_instruments=sum(count for _, count in rows),
    )
