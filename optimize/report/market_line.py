"""One line that names the market of a study: symbols, timeframe, source and span."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from optimize.data.spec import EMBEDDED_FILE
from optimize.database import Connection
from optimize.results.event_log import last_event
from optimize.results.events import SourceDescribed
from optimize.results.instrument_names import OWN_SYMBOLS
from optimize.results.records import load_study

SOURCES = {"embedded": Path(EMBEDDED_FILE).name, "synthetic": "a synthetic market"}


def market_line(
    data: Mapping[str, Any], span: tuple[date, date] | None = None, timeframe: str | None = None
) -> str:
    """Return the line for the stored data keys of a study; `span` is of its test windows, end exclusive."""
    provider, path = str(data.get("provider")), data.get("path")
    symbols = ", ".join(map(str, data.get("symbols") or ())) or OWN_SYMBOLS.get(provider, "all symbols")
    bars = f"{each} bars" if (each := timeframe or data.get("timeframe")) else "bars"
    source = Path(str(path)).name if path else SOURCES.get(provider, provider)  # as the line of a launch
    line = f"{symbols}: {bars} of {source}"
    if data.get("start") or data.get("end"):
        line += f", {data.get('start') or 'first bar'} to {data.get('end') or 'last bar'}"
    elif data.get("months"):
        line += f", last {data['months']} months"
    return line if span is None else f"{line}, tested {span[0]} to {span[1]}"


def stored_line(conn: Connection, study: str) -> str:
    """Return the line that the last launch of a study printed, or that of its stored keys."""
    if (found := last_event(conn, [study], [SourceDescribed])) is not None:
        return found.message
    record = load_study(conn, study)
    if record is None:
        return "a study that was not started by `walkforge study`"
    return market_line(record.spec["data"])
