"""Rows of the tables as records: stored, replaced, selected and loaded, in either database."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Connection, Engine, Select, Table, inspect, select

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from sqlalchemy.dialects import postgresql, sqlite

Record = TypeVar("Record", bound="DataclassInstance")
_COMPLETE: WeakKeyDictionary[Engine, set[str]] = WeakKeyDictionary()  # tables known to have all columns


def forget_columns(engine: Engine) -> None:
    """Read the columns of a database anew, as its tables were upgraded."""
    _COMPLETE.pop(engine, None)


def stored_columns(conn: Connection, table: Table) -> list[Column[Any]]:
    """Return the columns of a table that a database has, which an older version may have made."""
    key = table.name
    complete = _COMPLETE.setdefault(conn.engine, set())
    if key in complete:
        return list(table.columns)
    lacking = _lacking(conn, table)
    if not lacking:
        complete.add(key)
    return [column for column in table.columns if column not in lacking]


def _lacking(conn: Connection, table: Table) -> list[Column[Any]]:
    """Return the columns that the table in the database lacks."""
    stored = {column["name"] for column in inspect(conn).get_columns(table.name)}
    return [column for column in table.columns if column.name not in stored]


def insert_into(conn: Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """Return an INSERT of the dialect, which supports ON CONFLICT."""
    if conn.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # it loads every driver, too slow for verbs that only read

    return postgresql.insert(table)


def insert_if_absent(conn: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row unless its primary key is taken; return whether it was inserted."""
    return conn.execute(insert_into(conn, table).values(values).on_conflict_do_nothing()).rowcount == 1


def replace_row(conn: Connection, table: Table, values: dict[str, Any]) -> None:
    """Insert a row, or overwrite the one that has its primary key."""
    statement = insert_into(conn, table).values(values)
    keys = list(table.primary_key)
    rest = {name: statement.excluded[name] for name in values if name not in {column.key for column in keys}}
    conn.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest))


def values_of(record: "DataclassInstance") -> dict[str, Any]:
    """Return the row of a record whose fields have the names of the columns."""
    return {part.name: getattr(record, part.name) for part in fields(record)}


def where(table: Table, **values: Any) -> Select[Any]:
    """Select the rows of a table that have these values."""
    return select(table).where(*(table.c[name] == value for name, value in values.items()))


def load_rows(conn: Connection, kind: type[Record], table: Table, rows: Select[Any]) -> list[Record]:
    """Return the selected rows as records."""
    stored = {column.key for column in stored_columns(conn, table)}  # an older table may lack some
    names = [part.name for part in fields(kind) if part.name in stored]
    columns = rows.with_only_columns(*(table.c[name] for name in names))
    return [kind(**{name: row[table.c[name]] for name in names}) for row in conn.execute(columns).mappings()]


def load_one(conn: Connection, kind: type[Record], table: Table, **values: Any) -> Record:
    """Return the one row that has these values as a record."""
    (record,) = load_rows(conn, kind, table, where(table, **values))
    return record
