"""What the data layer is asked for: source, timeframe, features, calendar."""

import codecs
import re
from dataclasses import dataclass, field
from datetime import date

from optimize.data.zones import ALLOWED, is_clock
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
TIMEFRAME = re.compile(r"([1-9]\d{0,8})([smhd])")
UNIT_NS = {"s": SECOND_NS, "m": MINUTE_NS, "h": HOUR_NS, "d": DAY_NS}
CLOCK_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
COLUMNS = ("timestamp", "open", "high", "low", "close", "volume", "spread")
COLUMN_KEYS = (*COLUMNS, "symbol")  # of data.columns; symbol names the column that tells symbols apart
STAMPS = ("start", "end")
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
ZERO_VOLUMES = ("untradable", "tradable")
BEFORE_KEYS = {"zero_volume": "tradable"}  # in force for a spec that was stored before DataSpec had the key
SEPARATORS = (";", "\t", "|", ",", " ")  # of the fields of a line; a blank is any number of blanks
DECIMALS = (".", ",")
THOUSANDS = (",", ".", " ", "'")
SEVERITIES = ("refuse", "warn", "ignore")
# Each check of the quality report and what its findings do unless data.severity says otherwise.
CHECKS = {
    "rows": "refuse",
    "order": "refuse",
    "duplicates": "refuse",
    "nan": "refuse",
    "price": "refuse",
    "negative": "refuse",
    "timeframe": "refuse",
    "ohlc": "refuse",
    "constant_close": "refuse",
    "spike": "refuse",
    "split": "refuse",
    "spacing": "refuse",
    "future": "refuse",
    "session_twice": "refuse",
    "hole": "refuse",
    "time_zone": "refuse",
    "calendar": "refuse",
    "stamp_end": "refuse",
    "off_grid": "refuse",
    "ended": "refuse",
    "stale": "refuse",
    "short": "warn",
    "unfinished": "warn",
    "seen_open": "warn",
    "gaps": "warn",
    "outside_session": "warn",
    "missing_exit": "warn",
    "ragged": "warn",
    "zero_volume": "warn",
    "zero_spread": "warn",
    "volume_level": "warn",
    "constant": "warn",
}
ALWAYS_REFUSED = ("rows", "order", "duplicates", "nan", "price", "negative", "timeframe")
EXCHANGE_ID = re.compile(r"\w+")
FEEDS = ("iex", "sip")
ADJUSTMENTS = ("raw", "split", "dividend", "all")
SYNTHETIC_KINDS = ("random_walk", "known_optimum", "known_timeframe")
DEFAULT_INDICATORS = (
    "returns",
    "range",
    "rsi",
    "macd",
    "bollinger",
    "atr",
    "adx",
    "volatility",
    "time_of_day",
    "time_of_week",
)


def timeframe_ns(timeframe: str, key: str = "data.timeframe") -> int:
    """Return the length of a timeframe in nanoseconds; key names the setting it came from."""
    length_ns = TIMEFRAME_NS.get(timeframe)
    if length_ns is not None:
        return length_ns
    parts = TIMEFRAME.fullmatch(timeframe)
    length_ns = int(parts[1]) * UNIT_NS[parts[2]] if parts else 0
    name = timeframe_name(length_ns)
    usual = f"whole minutes or hours up to a day, such as {', '.join(TIMEFRAME_NS)}"
    require(name is not None, key, timeframe, usual)
    require(name == timeframe, key, timeframe, f"written {name}")
    return length_ns


def timeframe_name(length_ns: int) -> str | None:
    """Return the name of a length such as `15s`, `45m`, `8h` or `1d`; None where it is no timeframe."""
    if not 0 < length_ns <= DAY_NS:
        return None
    if length_ns == DAY_NS:
        return "1d"
    for unit, unit_ns in (("h", HOUR_NS), ("m", MINUTE_NS)):
        if length_ns % unit_ns == 0:
            return f"{length_ns // unit_ns}{unit}"
    whole = length_ns % SECOND_NS == 0 and MINUTE_NS % length_ns == 0
    return f"{length_ns // SECOND_NS}s" if whole else None


@dataclass(frozen=True)
class SyntheticSpec:
    """A market made from a seed."""

    kind: str = "random_walk"  # nothing to earn; known_optimum: a wave; known_timeframe: see synthetic.py
    bars: int = 5000
    seed: int = 0
    volatility: float = 0.002  # standard deviation of the log return of one bar
    period: int = 24  # bars of one wave (known_optimum), of one bar of the best timeframe (known_timeframe)

    def __post_init__(self) -> None:
        require(self.kind in SYNTHETIC_KINDS, "data.synthetic.kind", self.kind, " or ".join(SYNTHETIC_KINDS))
        require(self.bars >= 2, "data.synthetic.bars", self.bars, ">= 2")
        require(self.seed >= 0, "data.synthetic.seed", self.seed, ">= 0")
        require(0 < self.volatility < 1, "data.synthetic.volatility", self.volatility, "between 0 and 1")
        even = self.period >= 2 and self.period % 2 == 0
        require(even, "data.synthetic.period", self.period, "an even number of bars >= 2")


@dataclass(frozen=True)
class DataSpec:
    """Where bars come from and the timeframe they are resampled to."""

    provider: str = "embedded"
    path: str | None = None  # a file, a folder or a glob of parts; "{symbol}" stands for each of symbols
    symbols: list[str] = field(default_factory=list)  # empty: named by the source
    timeframe: str | None = None  # bars are resampled to it; None: the source's own
    start: str | None = None  # ISO date of the first bars that are kept (UTC); it takes the place of months
    end: str | None = None  # ISO date of the last bars that are kept (UTC)
    months: int | None = None  # keep the last N calendar months before data.end, or of the source
    source_timeframe: str | None = None  # None: the most frequent spacing of the source, which it must fit
    time_zone: str = "UTC"  # of stamps that name none; America/New_York+7 runs 7 h ahead of New York
    time_format: str | None = None  # strptime format of stamps that are neither ISO 8601 nor dd.mm.yyyy
    columns: dict[str, str | None] = field(default_factory=dict)  # our column name -> the file's; null: found
    header: bool | None = None  # whether a text file has a line of column names; None: seen by its content
    names: list[str] = field(default_factory=list)  # of the file's columns in order, in place of its header
    skip_rows: int = 0  # lines of a text file above its header
    separator: str | None = None  # between the fields of a line; None: seen by the content
    encoding: str | None = None  # of a text file; None: by its byte order mark, else UTF-8, else cp1252
    decimal: str | None = None  # decimal mark; None: seen where there is no doubt
    thousands: str | None = None  # mark between groups of digits; None: seen where there is no doubt
    stamp: str | None = (
        None  # whether stamps are the start or the end of bars; None: start unless plainly ends
    )
    adjust: bool = False  # scale all prices by the file's adjusted close / close
    point_size: float | None = None  # price of one point, for a spread in points; None: it is in price units
    zero_volume: str = "untradable"  # bars without volume of a source that has some; or tradable
    drop_nan: bool = False  # drop rows without a price or spread; a missing volume is 0; false: refuse both
    exchange: str = "binance"  # ccxt: the exchange's id
    feed: str = "iex"  # alpaca: iex or sip
    adjustment: str = "all"  # alpaca: raw, split, dividend or all; yfinance: split or all
    folder: str = "databases/market"  # where downloads are kept
    refresh: bool = False  # append what is new to a download
    check: bool = False  # walkforge data: print the quality report only
    max_age: float | None = None  # days from the last bar to now; more is stale; null: any age will do
    max_gap_days: float = 30.0  # a longer gap from bar to bar, in days of any kind, is a hole
    severity: dict[str, str] = field(default_factory=lambda: dict(CHECKS))  # what a check's findings do
    synthetic: SyntheticSpec = field(default_factory=SyntheticSpec)

    @property
    def target(self) -> str:
        """Return data.timeframe, where it is set or was resolved."""
        if self.timeframe is None:
            raise TypeError("data.timeframe is not resolved: call optimize.data.describe.resolve_data first")
        return self.timeframe

    def __post_init__(self) -> None:
        if self.timeframe is not None:
            timeframe_ns(self.timeframe)
        if self.source_timeframe is not None:
            timeframe_ns(self.source_timeframe, "data.source_timeframe")
        if self.months is not None:
            require(
                1 <= self.months <= 12_000, "data.months", self.months, "from 1 to 12000, or null to keep all"
            )
        _check_dates(self.start, self.end)
        volumes = self.zero_volume in ZERO_VOLUMES
        require(volumes, "data.zero_volume", self.zero_volume, " or ".join(ZERO_VOLUMES))
        for name in self.columns:
            require(name in COLUMN_KEYS, "data.columns", name, "keyed by " + ", ".join(COLUMN_KEYS))
        _check_text(self)
        _check_severity(self.severity)
        if self.max_age is not None:
            require(self.max_age > 0, "data.max_age", self.max_age, "days > 0, or null for any age")
        require(self.max_gap_days > 0, "data.max_gap_days", self.max_gap_days, "days > 0")
        named = EXCHANGE_ID.fullmatch(self.exchange) is not None
        require(named, "data.exchange", self.exchange, "an exchange as ccxt names it, like binance")
        require(self.feed in FEEDS, "data.feed", self.feed, " or ".join(FEEDS))
        adjusted = self.adjustment in ADJUSTMENTS
        require(adjusted, "data.adjustment", self.adjustment, "one of " + ", ".join(ADJUSTMENTS))
        require(bool(self.folder.strip()), "data.folder", self.folder, "the folder where downloads are kept")
        clean = all(symbol.strip() for symbol in self.symbols)
        distinct = len(set(self.symbols)) == len(self.symbols)
        require(clean and distinct, "data.symbols", self.symbols, "a list of distinct, non-empty names")
        require(is_clock(self.time_zone), "data.time_zone", self.time_zone, ALLOWED)


@dataclass(frozen=True)
class FeatureSpec:
    """What an agent sees of each asset, and how many bars of it."""

    lookback: int = 8  # bars in one observation
    indicators: list[str] = field(default_factory=lambda: list(DEFAULT_INDICATORS))
    higher_timeframes: list[str] = field(default_factory=list)  # the same indicators, of coarser bars as well
    zigzag_pct: list[float] = field(default_factory=lambda: [1.5, 2.0, 2.5, 3.0, 3.5])  # of indicator zigzag

    def __post_init__(self) -> None:
        require(self.lookback >= 1, "feature.lookback", self.lookback, ">= 1 bars")
        distinct = len(set(self.indicators)) == len(self.indicators) > 0
        allowed = "a non-empty list without repeats, such as [rsi,adx,stochastic]"
        require(distinct, "feature.indicators", self.indicators, allowed)
        higher, key = self.higher_timeframes, "feature.higher_timeframes"
        for timeframe in higher:
            timeframe_ns(timeframe, key)
        require(len(set(higher)) == len(higher), key, higher, "a list without repeats")
        percents = self.zigzag_pct
        usable = all(0 < pct < 100 for pct in percents) and len(set(percents)) == len(percents) > 0
        between = "a non-empty list of distinct percentages between 0 and 100"
        require(usable, "feature.zigzag_pct", percents, between)


@dataclass(frozen=True)
class SessionSpec:
    """The calendar that says what a trading session is, and whether it ends flat."""

    calendar: str = "auto"  # auto, 24/7, 24/5 (FX, 17:00 New York), or an exchange like XNYS
    flat_overnight: bool | None = None  # null: yes on an exchange whose source bars are intraday, else no
    exit_time: str = "15:45"  # local to the exchange; the forced exit is no later (not used by 24/7, 24/5)
    exit_minutes_before_close: int = 15  # nor later than this before the session's close
    outside: str = "keep"  # bars outside the sessions: keep or drop them

    def __post_init__(self) -> None:
        require(bool(self.calendar.strip()), "session.calendar", self.calendar, "auto, 24/7, 24/5, XNYS, ...")
        clock = bool(CLOCK_TIME.fullmatch(self.exit_time))
        require(clock, "session.exit_time", self.exit_time, "a local time HH:MM")
        require(self.outside in ("keep", "drop"), "session.outside", self.outside, "keep or drop")
        minutes = self.exit_minutes_before_close
        allowed = "from 0 to 720 minutes"
        require(0 <= minutes <= 720, "session.exit_minutes_before_close", minutes, allowed)


def _check_dates(start: str | None, end: str | None) -> None:
    """Refuse what is no ISO date, and an end before the start."""
    for key, value in (("data.start", start), ("data.end", end)):
        if value is not None:
            require(_is_date(value), key, value, "a date as YYYY-MM-DD from 1700 to 2200, or null")
    if start is not None and end is not None:
        require(start <= end, "data.end", end, f"data.start={start} or later")


def _is_date(text: str) -> bool:
    """Return whether text is a date as YYYY-MM-DD that nanoseconds reach."""
    try:
        return ISO_DATE.fullmatch(text) is not None and 1700 <= date.fromisoformat(text).year <= 2200
    except ValueError:
        return False


def _check_severity(severity: dict[str, str]) -> None:
    """Refuse an unknown check, an unknown severity, and a lower one where no market can be built."""
    for check, wanted in severity.items():
        require(check in CHECKS, "data.severity", check, "keyed by " + ", ".join(CHECKS))
        require(wanted in SEVERITIES, f"data.severity.{check}", wanted, "refuse, warn or ignore")
        kept = check not in ALWAYS_REFUSED or wanted == "refuse"
        why = "refuse, which cannot be lowered: such bars make no market; repair the data"
        require(kept, f"data.severity.{check}", wanted, why)


def _check_text(spec: DataSpec) -> None:
    """Refuse settings of how a file is read that no file can have."""
    require(0 <= spec.skip_rows <= 10_000, "data.skip_rows", spec.skip_rows, "from 0 to 10000 lines")
    named = all(name.strip() for name in spec.names) and len(set(spec.names)) == len(spec.names)
    require(
        named, "data.names", spec.names, "a list of distinct names, such as [timestamp,open,high,low,close]"
    )
    for key, allowed in (("separator", SEPARATORS), ("decimal", DECIMALS), ("thousands", THOUSANDS)):
        value = getattr(spec, key)
        listed = " or ".join(map(repr, allowed))
        require(value is None or value in allowed, f"data.{key}", value, f"{listed}, or null")
    apart = spec.decimal is None or spec.decimal != spec.thousands
    require(apart, "data.thousands", spec.thousands, "another mark than data.decimal")
    require(spec.stamp in (None, *STAMPS), "data.stamp", spec.stamp, "start, end or null")
    point = spec.point_size
    require(
        point is None or 0 < point < 1e6, "data.point_size", point, "a price > 0, such as 0.00001, or null"
    )
    require(
        _is_encoding(spec.encoding),
        "data.encoding",
        spec.encoding,
        "a text encoding, such as utf-16 or cp1252",
    )


def _is_encoding(name: str | None) -> bool:
    """Return whether Python reads text in this encoding."""
    try:
        return name is None or codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        return False
