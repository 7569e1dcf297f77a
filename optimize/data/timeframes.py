"""Timeframes: their names and their lengths in nanoseconds."""

import re

from optimize.errors import require

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
TIMEFRAME_NS = {  # the usual ones, for messages and providers; others are whole minutes as well
    "1m": MINUTE_NS,
    "5m": 5 * MINUTE_NS,
    "15m": 15 * MINUTE_NS,
    "30m": 30 * MINUTE_NS,
    "1h": HOUR_NS,
    "2h": 2 * HOUR_NS,
    "4h": 4 * HOUR_NS,
    "6h": 6 * HOUR_NS,
    "12h": 12 * HOUR_NS,
    "1d": DAY_NS,
}
TIMEFRAME_PATTERN = re.compile(r"([1-9]\d{0,8})([smhd])")
UNIT_NS = {"s": SECOND_NS, "m": MINUTE_NS, "h": HOUR_NS, "d": DAY_NS}


def timeframe_ns(timeframe: str, key: str = "data.timeframe") -> int:
    """Return the length of a timeframe in nanoseconds; key names the setting it came from."""
    length_ns = TIMEFRAME_NS.get(timeframe)
    if length_ns is not None:
        return length_ns
    parts = TIMEFRAME_PATTERN.fullmatch(timeframe)
    length_ns = int(parts[1]) * UNIT_NS[parts[2]] if parts else 0
    name = timeframe_name(length_ns)
    usual = f"whole minutes or hours up to a day, such as {', '.join(TIMEFRAME_NS)}"
    require(name is not None, key, timeframe, usual)
    require(name == timeframe, key, timeframe, f"written {name}")
    return length_ns


def timeframe_name(length_ns: int) -> str | None:
    """Return the name of a length such as `15s`, `45m`, `8h` or `1d`; None where it is not a timeframe."""
    if not 0 < length_ns <= DAY_NS:
        return None
    if length_ns == DAY_NS:
        return "1d"
    for unit, unit_ns in (("h", HOUR_NS), ("m", MINUTE_NS)):
        if length_ns % unit_ns == 0:
            return f"{length_ns // unit_ns}{unit}"
    whole = length_ns % SECOND_NS == 0 and MINUTE_NS % length_ns == 0
    return f"{length_ns // SECOND_NS}s" if whole else None
