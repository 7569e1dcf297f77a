"""The session closes of the instruments of a database, which link names of equal bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from envs.types import Market
from optimize.clock import now
from optimize.data.session_closes import CLOSE_DIGITS, Closes, closes_of, join_closes, move_alike, priced
from optimize.data.symbols import alike
from optimize.database import has_table
from optimize.results.instrument_names import instruments_of, known_names
from optimize.results.rows import load_rows, values_of
from optimize.results.tables import INSTRUMENTS


@dataclass(frozen=True)
class Instrument:
    """The session closes of an instrument, by which its bars are recognised; the end is exclusive."""

    instrument: str  # by `instruments_of`
    same_as: list[str]  # other names under which the same bars were read before
    first: date
    end: date
    closes: Mapping[str, Sequence[float]]  # session as days since 1970, and close
    stored_at: datetime = field(default_factory=now)

    @property
    def known(self) -> Closes:
        """Return its closes as arrays."""
        days = np.array(self.closes["days"], dtype=np.int64).astype("datetime64[D]")
        return Closes((self.instrument,), days, np.array(self.closes["closes"], dtype=np.float64)[:, None])


def store_instruments(conn: Connection, data: Mapping[str, Any], market: Market) -> list[str]:
    """Store the session closes of a market; return the names of its instruments, with those of equal bars."""
    for name, closes in _series(data, market).items():
        stored = _stored(conn, closes)
        same = [each for each in stored if move_alike(each.known, closes)]
        own = [each for each in same if alike(each.instrument) == alike(name)]
        if any(each.first <= _first(closes) and each.end >= _end(closes) for each in own):
            continue
        for each in own:
            closes = join_closes(each.known, closes)
            key = {part: getattr(each, part) for part in ("instrument", "first", "end", "stored_at")}
            conn.execute(delete(INSTRUMENTS).where(*(INSTRUMENTS.c[part] == key[part] for part in key)))
        others = [other for each in same for other in (each.instrument, *each.same_as)]
        row = _instrument(name, [other for other in others if alike(other) != alike(name)], closes)
        conn.execute(insert(INSTRUMENTS).values(values_of(row)))
    return names_of_bars(conn, data, market)


def names_of_bars(conn: Connection, data: Mapping[str, Any], market: Market) -> list[str]:
    """Return the names of a market's instruments and those under which the database knows equal bars."""
    names = instruments_of(data, market.symbols)
    found = [
        each.instrument
        for closes in _series(data, market).values()
        for each in _stored(conn, closes)
        if move_alike(each.known, closes)
    ]
    return known_names(conn, [*names, *found])


def _series(data: Mapping[str, Any], market: Market) -> dict[str, Closes]:
    """Return the closes of each instrument of a market that has a price."""
    closes = closes_of(market)
    found = {
        instruments_of(data, [symbol])[0]: priced(closes, asset)
        for asset, symbol in enumerate(market.symbols)
    }
    return {name: each for name, each in found.items() if len(each.date)}


def _stored(conn: Connection, closes: Closes) -> list[Instrument]:
    """Return the stored instruments that have sessions in the span of these closes."""
    if not has_table(conn, INSTRUMENTS.name):
        return []
    overlaps = (INSTRUMENTS.c.first < _end(closes), INSTRUMENTS.c.end > _first(closes))
    rows = select(INSTRUMENTS).where(*overlaps).order_by(INSTRUMENTS.c.instrument_id)
    return load_rows(conn, Instrument, INSTRUMENTS, rows)


def _instrument(name: str, same_as: Sequence[str], closes: Closes) -> Instrument:
    days = [int(day) for day in closes.date.astype(np.int64)]
    values = [float(f"{value:.{CLOSE_DIGITS}g}") for value in closes.close[:, 0]]
    plain: dict[str, Sequence[float]] = {"days": days, "closes": values}
    return Instrument(name, list(dict.fromkeys(same_as)), _first(closes), _end(closes), plain)


def _first(closes: Closes) -> date:
    day: date = closes.date[0].item()
    return day


def _end(closes: Closes) -> date:
    day: date = closes.date[-1].item()
    return day + timedelta(days=1)
