"""The rows of one symbol in a file of several."""

from dataclasses import replace
from itertools import pairwise

from optimize.data.sources.columns import named_symbols, symbol_column
from optimize.data.sources.names import STAMPS, by_plain_name, plain
from optimize.data.sources.tables import Table
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError, require

A_FILE_A_SYMBOL = "'data.path=\"{symbol}.csv\"' data.symbols=[btc,eth], quoted so"
SHOWN = 8
MIXED = 4  # changes for each symbol; a roll from one contract to the next may go to and fro once
LOOSE = ("name", "code")  # which may name something else than a symbol


def rows_of_symbol(table: Table, symbol: str, spec: DataSpec) -> Table:
    """Return the rows of a symbol; all rows of a file that has no column of symbols."""
    column = symbol_column(table, spec)
    named = named_symbols(table.frame) if column is None else None
    many = len(spec.symbols) > 1 and "{symbol}" not in str(spec.path)
    if (
        named is not None
        and set(spec.symbols) <= set(_texts(table, named))
        and (spec.symbols or _repeats(table))
    ):
        column = named
    if column is None:
        one = f"at most one name for one file; a file a symbol is {A_FILE_A_SYMBOL}"
        require(not many, "data.symbols", spec.symbols, one)
        if named is None:
            return table
        _refuse_mixed(table, named)
        shown = _listed(_texts(table, named))
        return replace(table, notes=(*table.notes, f"column {named!r} changes ({shown}), read as one series"))
    texts = _texts(table, column)
    chosen = spec.symbols and symbol
    if not chosen and len(set(texts)) == 1:
        return table
    rows = [text == chosen for text in texts] if chosen else []
    if not any(rows):
        wanted = f"none of {chosen!r} among them" if chosen else "of which one market is made"
        names = list(dict.fromkeys(texts))
        raise BadInputError(
            f"{table.path} holds {len(names)} symbols in column {column!r} ({_listed(texts)}), {wanted}: "
            "choose with "
            f"data.columns.symbol={column} data.symbols=[{','.join(names[:2])}]"
        )
    kept = table.frame[rows].reset_index(drop=True)
    told = f"{sum(rows):,} of {len(rows):,} rows taken, those whose {column!r} is {chosen}"
    return replace(table, frame=kept, notes=(*table.notes, told), text=None)


def _refuse_mixed(table: Table, column: str) -> None:
    """Refuse rows that go back and forth between symbols, which no series of contracts does."""
    texts = [text.lower() for text in _texts(table, column)]
    changes = sum(text != above for above, text in pairwise(texts))
    if plain(column) in LOOSE or changes < MIXED * len(set(texts)):
        return
    names = _texts(table, column)
    raise BadInputError(
        f"{table.path}: column {column!r} goes back and forth between symbols ({_listed(names)}; "
        f"{changes:,} changes): choose with data.columns.symbol={column} data.symbols=[{names[0]}], or take "
        "the column out of the file where its rows are one series"
    )


def _texts(table: Table, column: str) -> list[str]:
    """Return a column of symbols as text."""
    return [str(value).strip() for value in table.frame[column]]


def _repeats(table: Table) -> bool:
    """Return whether the first column of stamps has several rows a stamp."""
    known = by_plain_name(table.frame.columns)
    stamps = [known[name][0] for name in STAMPS if name in known]
    return bool(stamps) and bool(table.frame[stamps].duplicated().any())


def _listed(texts: list[str]) -> str:
    names = list(dict.fromkeys(texts))
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
