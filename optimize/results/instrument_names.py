"""Names of instruments, and those that a database links with them. Free of numpy, for the reading verbs."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from optimize.data.spec import EMBEDDED_SYMBOL, SYNTHETIC_SYMBOL
from optimize.data.symbols import share_symbol
from optimize.database import has_table
from optimize.hashing import hash_object
from optimize.results.tables import INSTRUMENTS

OWN_SYMBOLS = {"embedded": EMBEDDED_SYMBOL, "synthetic": SYNTHETIC_SYMBOL}  # of sources with one symbol


def instruments_of(data: Mapping[str, Any], symbols: Sequence[str] = ()) -> list[str]:
    """Return the instruments of stored data keys; `symbols` are those of the market that was built.

    Synthetic markets of different settings are different instruments.
    """
    provider = str(data.get("provider"))
    own = [OWN_SYMBOLS[provider]] if provider in OWN_SYMBOLS else []
    names = sorted(map(str, list(symbols) or data.get("symbols") or own))
    if provider != "synthetic":
        return names
    made = hash_object([data.get("synthetic"), data.get("source_timeframe")])[:8]
    return [f"{name} {made}" for name in names]


def known_names(conn: Connection, instruments: Sequence[str]) -> list[str]:
    """Return the names of instruments and those linked with one of them, each once.

    A link is not followed further: a name such as PRICES may stand for the bars of several instruments.
    """
    names = dict.fromkeys(instruments)
    if has_table(conn, INSTRUMENTS.name):
        for name, same in conn.execute(select(INSTRUMENTS.c.instrument, INSTRUMENTS.c.same_as)):
            if same and share_symbol(instruments, [name, *same]):
                names |= dict.fromkeys([name, *same] if share_symbol(instruments, [name]) else [name])
    return list(names)
