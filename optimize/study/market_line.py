"""One line that names the market of a study: symbols, timeframe, source and span."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from sqlalchemy import Connection

from optimize.results.records import SOURCE, last_event, load_study


def market_line(
    data: Mapping[str, Any], span: tuple[date, date] | None = None, timeframe: str | None = None
) -> str:
    """Return the line for the stored data keys of a study; `span` is of its test windows, end exclusive."""
    symbols = ", ".join(map(str, data.get("symbols") or ())) or "all symbols of the file"
    path = data.get("path")
    source = f"{data.get('provider')}{f' {path}' if path else ''}"
    line = f"{symbols} at {timeframe or data.get('timeframe')} from {source}"
    if data.get("start") or data.get("end"):
        line += f", {data.get('start') or 'first bar'} to {data.get('end') or 'last bar'}"
    elif data.get("months"):
        line += f", last {data['months']} months"
    return line if span is None else f"{line}, tested {span[0]} to {span[1]}"


def stored_line(conn: Connection, study: str) -> str:
    """Return the line that the last launch of a study printed, or that of its stored keys."""
    if (found := last_event(conn, [study], [SOURCE])) is not None:
        return found.message
    record = load_study(conn, study)
    if record is None:
        return "a study that was not started by `walkforge study`"
    return market_line(record.spec["data"])
