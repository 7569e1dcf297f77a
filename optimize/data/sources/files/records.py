"""Read a table from JSON: records, rows or columns, also nested in the answer of a service."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from optimize.data.sources.files.column_names import OPEN_HIGH_LOW, plain_name
from optimize.data.sources.files.containers import Content
from optimize.data.sources.files.headers import known_layout
from optimize.data.sources.files.tables import Table
from optimize.data.sources.files.text import to_utf8
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

MAX_DEPTH = 5
FORMS = 'a list of records ([{"timestamp": ..., "open": ...}, ...]), of rows, or an object of columns'


def read_json_table(content: Content, spec: DataSpec) -> Table:
    """Return the table in a JSON file; several tables are joined with their keys as symbols."""
    data, _ = to_utf8(content.data, spec.encoding, content.path)
    try:
        root = _load(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInputError(
            f"{content.path} cannot be read as json, for it is cut or no JSON: write it again as {FORMS}"
        ) from error
    found = list(_tables(root, (), 0))
    if not found:
        raise BadInputError(f"{content.path} holds no table of bars in its JSON: write it as {FORMS}")
    if len(found) == 1:
        return _with_names_noted(Table(content.path, _frame(found[0][1], content, spec)), found[0][1], spec)
    keys = [where[-1] if where else "" for where, _ in found]
    frames = [
        _frame(node, content, spec).assign(symbol=key) for key, (_, node) in zip(keys, found, strict=True)
    ]
    return Table(content.path, pd.concat(frames, ignore_index=True), (), "symbol")


def _with_names_noted(table: Table, node: Any, spec: DataSpec) -> Table:
    """Add a note on the names that were given to rows without names."""
    if spec.names or not isinstance(node, list) or isinstance(node[0], Mapping):
        return table
    names = ", ".join(str(name) for name in table.frame.columns if not str(name).startswith("unread"))
    return replace(table, notes=(f"its rows have no names: their values taken as {names}",))


def _load(text: str) -> Any:
    """Parse JSON, or JSON lines as a list."""
    try:
        return json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def _tables(
    node: Any, where: tuple[str, ...], depth: int, stamps: Any = None
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the tables in JSON with the keys that lead to them; timestamps may be next to the columns."""
    if depth > MAX_DEPTH:
        return
    if _is_table(node):
        bare = isinstance(node, Mapping) and stamps is not None and isinstance(node.get("open"), list)
        yield where, {"timestamp": stamps, **node} if bare else node
    elif isinstance(node, Mapping):
        beside = node.get("timestamp") if isinstance(node.get("timestamp"), list) else stamps
        for key, inner in node.items():
            yield from _tables(inner, (*where, str(key)), depth + 1, beside)
    elif isinstance(node, list) and len(node) == 1:
        yield from _tables(node[0], where, depth, stamps)


def _is_table(node: Any) -> bool:
    """Return whether a JSON value is a table: records, rows, columns, or records by key."""
    if isinstance(node, list):
        return bool(node) and all(isinstance(row, list | Mapping) for row in node) and _is_bar(node[0])
    if not isinstance(node, Mapping) or not node:
        return False
    if {"columns", "data"} <= node.keys():
        return True
    inner = list(node.values())
    columns = len(OPEN_HIGH_LOW & set(map(plain_name, node))) >= 2 and all(
        isinstance(each, list | Mapping) for each in inner
    )
    return columns or all(isinstance(each, Mapping) and _is_bar(each) for each in inner)


def _is_bar(row: Any) -> bool:
    """Return whether a record or row looks like a bar."""
    if isinstance(row, Mapping):
        if any(isinstance(each, list) for each in row.values()):
            return False
        inner = [str(name) for each in row.values() if isinstance(each, Mapping) for name in each]
        return len(OPEN_HIGH_LOW & set(map(plain_name, [*row, *inner]))) >= 2
    return len(row) >= 5 and not any(isinstance(each, list | Mapping) for each in row)


def _frame(node: Any, content: Content, spec: DataSpec) -> pd.DataFrame:
    """Convert a JSON table to a frame."""
    try:
        if isinstance(node, list):
            return _from_rows(node, content, spec)
        if {"columns", "data"} <= node.keys():
            frame = pd.DataFrame(node["data"], columns=node["columns"])
            return frame if "index" not in node else frame.assign(timestamp=node["index"])
        first = next(iter(node.values()))
        if isinstance(first, Mapping) and _is_bar(first):  # a record per timestamp
            return pd.DataFrame({"timestamp": list(node), **_columns(list(node.values()))})
        if isinstance(first, Mapping):  # columns as mappings of row key to value
            frame = pd.DataFrame(node)
            return (
                frame
                if any(plain_name(name) in ("timestamp", "date", "time") for name in node)
                else _with_index(frame)
            )
        return pd.DataFrame({str(name): values for name, values in node.items() if isinstance(values, list)})
    except (ValueError, TypeError) as error:
        raise BadInputError(
            f"{content.path}: the columns of its JSON differ in length: write it again"
        ) from error


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with its row keys as the timestamp column."""
    return frame.assign(timestamp=list(frame.index)).reset_index(drop=True)


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns of records; nested records become outer.inner."""
    rows = [dict(each) for each in records]
    nested = any(isinstance(each, Mapping) for each in records[0].values())
    frame = pd.json_normalize(rows) if nested else pd.DataFrame.from_records(rows)
    return {str(name): frame[name] for name in frame.columns}


def _from_rows(node: Sequence[Any], content: Content, spec: DataSpec) -> pd.DataFrame:
    """Convert records, or rows named by data.names or by a known layout."""
    if isinstance(node[0], Mapping):
        return pd.DataFrame(_columns(node))
    rows = [list(row) for row in node]
    other = next((at for at, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if other is not None:
        raise BadInputError(
            f"{content.path}: row {other + 1} of its JSON has {len(rows[other])} values and the first has "
            f"{len(rows[0])}: repair that row"
        )
    if spec.names:
        return pd.DataFrame(rows, columns=spec.names)
    layout = known_layout([[str(cell) for cell in row] for row in rows[:100]])
    if layout is None:
        raise BadInputError(
            f"{content.path}: its rows have {len(rows[0])} values without names: name them in order with "
            "data.names=[timestamp,open,high,low,close,volume]"
        )
    return pd.DataFrame(rows, columns=list(layout.names))
