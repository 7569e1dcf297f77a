"""Rows that are taken out of our tables go to wf_trash, so that no repair loses what could be needed."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, text

from optimize import clock
from optimize.results.tables import METADATA, TRASH

AT_ONCE = 500  # rows that are moved by one statement


def move_aside(
    conn: Connection, table: str, condition: str, why: str, values: Mapping[str, Any] | None = None
) -> int:
    """Move the rows of a table that meet a condition of SQL to wf_trash; return how many they were.

    They are stored as the database holds them, whatever has become of what is in them.
    """
    given, where = dict(values or {}), f"FROM {table} WHERE {condition}"
    found = conn.execute(text(f"SELECT * {where}"), given).mappings().all()
    at = clock.now()
    rows = [
        {"at": at, "table_name": table, "why": why, "row_json": json.dumps(dict(row), default=str)}
        for row in found
    ]
    for first in range(0, len(rows), AT_ONCE):
        conn.execute(insert(TRASH), rows[first : first + AT_ONCE])
    conn.execute(text(f"DELETE {where}"), given)
    return len(rows)


def put_back(conn: Connection, table: str) -> int:
    """Move the rows of a table back from wf_trash, where their key is free; return how many they were."""
    rows = conn.execute(TRASH.select().where(TRASH.c.table_name == table).order_by(TRASH.c.trash_id)).all()
    names = {column.name for column in METADATA.tables[table].columns}
    moved = 0
    for row in rows:
        stored = {name: value for name, value in json.loads(row.row_json).items() if name in names}
        columns, places = ", ".join(f'"{n}"' for n in stored), ", ".join(f":{n}" for n in stored)
        put = text(f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING")
        if conn.execute(put, stored).rowcount:
            conn.execute(TRASH.delete().where(TRASH.c.trash_id == row.trash_id))
            moved += 1
    return moved
