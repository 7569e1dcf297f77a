"""Settings of the data: source, timeframe, file format and checks."""

import codecs
import re
from dataclasses import dataclass
from datetime import date

from envs.fields import EXECUTION, MARKET, check_ranges, group, setting
from optimize.data.calendars.zones import ALLOWED, clocks_like, is_clock
from optimize.data.timeframes import timeframe_ns
from optimize.errors import require

BAR_COLUMNS = ("timestamp", "open", "high", "low", "close", "volume", "spread")
COLUMN_KEYS = (*BAR_COLUMNS, "symbol")  # of data.columns; symbol names the column with the symbol of each row
STAMPS = ("start", "end")
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
ZERO_VOLUMES = ("untradable", "tradable")
SEPARATORS = (";", "\t", "|", ",", " ")  # of the fields of a line; a blank is any number of blanks
DECIMALS = (".", ",")
THOUSANDS = (",", ".", " ", "'")
SEVERITIES = ("refuse", "warn", "ignore")
# Each check of the quality report with the default severity of its findings (data.severity).
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
EMBEDDED_FILE = "gym_anytrading/datasets/data/FOREX_EURUSD_1H_ASK.csv"  # of an installed package
EMBEDDED_SYMBOL = "EURUSD"
SYNTHETIC_SYMBOL = "SYNTH"  # of synthetic data whose data.symbols is empty
SYNTHETIC_KINDS = ("random_walk", "known_optimum", "known_timeframe", "planted_edge")


@dataclass(frozen=True)
class SyntheticSpec:
    """A market made from a seed."""

    kind: str = setting(
        "random_walk",
        MARKET,
        "Market to make: nothing to earn, a wave to follow, one timeframe that pays, a weak edge in noise.",
        choices=SYNTHETIC_KINDS,
    )
    bars: int = setting(5000, MARKET, "Length of the market.", unit="bars", low=2)
    seed: int = setting(0, MARKET, "Seed of the prices.", low=0)
    volatility: float = setting(0.002, MARKET, "Standard deviation of a bar's log return.", above=0, below=1)
    period: int = setting(
        24,
        MARKET,
        "Length of one wave (known_optimum, planted_edge), or of one bar of the timeframe that pays "
        "(known_timeframe).",
        unit="bars",
        allowed="an even number of bars >= 2",
        low=2,
    )
    edge: float = setting(
        0.1, MARKET, "Drift of a bar (planted_edge): up in the first half of a period, down in the second.",
        unit="standard deviations of a bar", low=0, high=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "data.synthetic")
        require(self.period % 2 == 0, "data.synthetic.period", self.period, "an even number of bars >= 2")


@dataclass(frozen=True)
class DataSpec:
    """Where bars come from and the timeframe they are resampled to."""

    provider: str = setting("embedded", MARKET, "Source of the bars.")
    path: str | None = setting(
        None,
        EXECUTION,
        'A file, a folder or a glob of parts; "{symbol}" stands for each of the symbols.',
    )
    symbols: list[str] = setting([], MARKET, "Assets to read; empty takes those that the source names.")
    timeframe: str | None = setting(
        None,
        MARKET,
        "Length of the bars, to which those of the source are resampled.",
        null="that of the source",
        allowed="a timeframe such as 15m, 1h, 4h or 1d",
        searchable=True,
    )
    start: str | None = setting(
        None, MARKET, "Date of the first bars that are kept (UTC), instead of months.", null="all"
    )
    end: str | None = setting(None, MARKET, "Date of the last bars that are kept (UTC).", null="all")
    months: int | None = setting(
        None,
        MARKET,
        "Calendar months that are kept before data.end, or before the end of the source.",
        unit="months",
        low=1,
        high=12_000,
        null="all",
    )
    source_timeframe: str | None = setting(
        None, MARKET, "Length of the source's bars.", null="the most frequent spacing"
    )
    time_zone: str = setting(
        "UTC",
        MARKET,
        "Time zone of stamps that name none; America/New_York+7 runs 7 hours ahead of New York.",
    )
    time_format: str | None = setting(
        None, MARKET, "strptime format of stamps that are neither ISO 8601 nor dd.mm.yyyy.", null="found"
    )
    columns: dict[str, str | None] = setting(
        {}, MARKET, "Name in the file of timestamp, open, high, low, close, volume, spread, symbol."
    )
    header: bool | None = setting(
        None, MARKET, "Whether a text file has a line of column names.", null="found by its content"
    )
    names: list[str] = setting([], MARKET, "Names of the file's columns in order, instead of its header.")
    skip_rows: int = setting(
        0, MARKET, "Lines of a text file above its header.", unit="lines", low=0, high=10_000
    )
    separator: str | None = setting(
        None, MARKET, "Mark between the fields of a line.", choices=SEPARATORS, null="found by the content",
        allowed=f"{' or '.join(map(repr, SEPARATORS))}, or null",
    )  # fmt: skip
    encoding: str | None = setting(
        None, MARKET, "Encoding of a text file.", null="by its byte order mark, else UTF-8, else cp1252"
    )
    decimal: str | None = setting(
        None, MARKET, "Decimal mark.", choices=DECIMALS, null="found where there is no doubt",
        allowed=f"{' or '.join(map(repr, DECIMALS))}, or null",
    )  # fmt: skip
    thousands: str | None = setting(
        None, MARKET, "Mark between groups of digits.", choices=THOUSANDS,
        null="found where there is no doubt", allowed=f"{' or '.join(map(repr, THOUSANDS))}, or null",
    )  # fmt: skip
    stamp: str | None = setting(
        None, MARKET, "Whether a stamp is the start or the end of its bar.", choices=STAMPS,
        null="start unless they are plainly ends", allowed="start, end or null",
    )  # fmt: skip
    adjust: bool = setting(False, MARKET, "Scale all prices by the file's adjusted close / close.")
    point_size: float | None = setting(
        None,
        MARKET,
        "Price of one point, for a spread that is given in points.",
        above=0,
        below=1e6,
        null="the spread is in price units",
    )
    zero_volume: str = setting(
        "untradable", MARKET, "Bars without volume, of a source that has some: whether orders fill there.",
        choices=ZERO_VOLUMES, before="tradable",
    )  # fmt: skip
    drop_nan: bool = setting(
        False,
        MARKET,
        "Drop rows without a price or spread and take a missing volume as 0; false refuses both.",
    )
    exchange: str = setting("binance", MARKET, "Exchange, as ccxt names it (data=ccxt).")
    feed: str = setting("iex", MARKET, "Feed of the bars (data=alpaca).", choices=FEEDS)
    adjustment: str = setting(
        "all", MARKET, "Adjustment of prices for splits and dividends (data=alpaca, data=yfinance).",
        choices=ADJUSTMENTS,
    )  # fmt: skip
    folder: str = setting("databases/market", EXECUTION, "Folder where downloads are kept.")
    refresh: bool = setting(False, EXECUTION, "Append newer bars to a download.")
    check: bool = setting(False, EXECUTION, "Print the quality report only (walkforge data).")
    max_age: float | None = setting(
        None, EXECUTION, "Largest age of the last bar before the data count as stale.", unit="days", above=0,
        null="any age",
    )  # fmt: skip
    max_gap_days: float = setting(
        30.0, EXECUTION, "Longest gap between two bars; a longer one is a hole.", unit="days", above=0,
    )  # fmt: skip
    severity: dict[str, str] = setting(
        dict(CHECKS), EXECUTION, "Whether the findings of a check are refused, warned of or ignored.",
        choices=SEVERITIES,
    )  # fmt: skip
    synthetic: SyntheticSpec = group(SyntheticSpec, "The market that is made (data=synthetic).", role=MARKET)

    @property
    def target(self) -> str:
        """Return data.timeframe, where it is set or was resolved."""
        if self.timeframe is None:
            raise TypeError("data.timeframe is not resolved: call optimize.data.describe.resolve_data first")
        return self.timeframe

    def __post_init__(self) -> None:
        check_ranges(self, "data")
        if self.timeframe is not None:
            timeframe_ns(self.timeframe)
        if self.source_timeframe is not None:
            timeframe_ns(self.source_timeframe, "data.source_timeframe")
        _check_dates(self.start, self.end)
        for name in self.columns:
            require(
                name in COLUMN_KEYS, "data.columns", name, "keyed by " + ", ".join(COLUMN_KEYS), COLUMN_KEYS
            )
        _check_text(self)
        _check_severity(self.severity)
        named = EXCHANGE_ID.fullmatch(self.exchange) is not None
        require(named, "data.exchange", self.exchange, "an exchange as ccxt names it, like binance")
        require(bool(self.folder.strip()), "data.folder", self.folder, "the folder where downloads are kept")
        clean = all(symbol.strip() for symbol in self.symbols)
        distinct = len(set(self.symbols)) == len(self.symbols)
        require(clean and distinct, "data.symbols", self.symbols, "a list of distinct, non-empty names")
        known = is_clock(self.time_zone)
        near = () if known else clocks_like(self.time_zone)
        require(known, "data.time_zone", self.time_zone, ALLOWED, near)


def _check_dates(start: str | None, end: str | None) -> None:
    """Refuse a value that is not an ISO date, and an end before the start."""
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
        require(check in CHECKS, "data.severity", check, "keyed by " + ", ".join(CHECKS), CHECKS)
        require(wanted in SEVERITIES, f"data.severity.{check}", wanted, "refuse, warn or ignore", SEVERITIES)
        kept = check not in ALWAYS_REFUSED or wanted == "refuse"
        why = "refuse, which cannot be lowered: such bars make no market; repair the data"
        require(kept, f"data.severity.{check}", wanted, why)


def _check_text(spec: DataSpec) -> None:
    """Refuse settings of how a file is read that no file can have."""
    named = all(name.strip() for name in spec.names) and len(set(spec.names)) == len(spec.names)
    require(
        named, "data.names", spec.names, "a list of distinct names, such as [timestamp,open,high,low,close]"
    )
    apart = spec.decimal is None or spec.decimal != spec.thousands
    require(apart, "data.thousands", spec.thousands, "another mark than data.decimal")
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
