"""One line that names the market of a study: symbols, timeframe, source and span."""

from collections.abc import Mapping
from datetime import date
from typing import Any


def source_line(
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
