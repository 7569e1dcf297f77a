"""Column names used by data sources."""

import re
from collections.abc import Iterable, Mapping

OPEN_TIMES = (
    "opentime",
    "timeopen",
    "opentimestamp",
    "candlebegintime",
    "candleopentime",
    "windowstart",
    "barstart",
)
CLOSE_TIMES = ("closetime", "timeclose", "closetimestamp", "endtime", "barend")
DATE_NAMES = ("date", "dtyyyymmdd", "yyyymmdd", "day", "tradedate", "tradingday", "datum", "fecha", "data")
CLOCK_NAMES = (
    "time",
    "timestamp",
    "clock",
    "hhmm",
    "hhmmss",
    "timeofday",
    "zeit",
    "uhrzeit",
    "heure",
    "hora",
    "ora",
)
TIMESTAMP_NAMES = (
    *OPEN_TIMES, "timestamp", "datetime", "dateandtime", "date", "time", "gmttime", "localtime", "utctime",
    "utc", "unix", "unixtime", "unixtimestamp", "epoch", "starttime", "startedat", "startat", "start",
    "dtyyyymmdd", "yyyymmdd", "day", "tradedate", "tradingday", "timeutc", "dateutc", "datetimeutc", "ts",
    "index", "tsevent", "datum", "fecha", "data", "datadate",
)  # fmt: skip
# English; Bloomberg, CRSP and Compustat; then local names of investing.com, stooq.pl and ariva.de.
PRICE_ALIASES = {
    "open": (
        "open", "openprice", "openingprice", "first", "mido", "pxopen", "openprc", "prcod",
        "eröffnung", "eröffn", "erster", "ouverture", "ouv", "apertura", "abertura", "otwarcie",
    ),
    "high": (
        "high", "highprice", "highest", "max", "midh", "pxhigh", "askhi", "prchd",
        "hoch", "plushaut", "máximo", "máxima", "massimo", "najwyzszy",
    ),
    "low": (
        "low", "lowprice", "lowest", "min", "midl", "pxlow", "bidlo", "prcld",
        "tief", "plusbas", "mínimo", "mínima", "minimo", "najnizszy",
    ),
    "close": (
        "close", "closeprice", "closingprice", "closelast", "last", "lastprice", "latest", "price", "midc",
        "pxlast", "prc", "prccd",
        "schlusskurs", "schluss", "zuletzt", "dernier", "último", "ultimo", "zamkniecie",
    ),
}  # fmt: skip
VOLUME_NAMES = (
    "volume", "vol", "realvolume", "tickvolume", "tickvol", "basevolume", "volumebase", "volumefrom",
    "baseassetvolume", "totalvolume", "volumetraded", "tradedvolume", "volumes", "sharevolume", "volumen",
    "wolumen", "pxvolume", "cshtrd",
)  # fmt: skip
UNIT_VOLUME = re.compile(r"volume([a-z]{2,5})|([a-z]{2,5})volume")
NO_UNITS = (
    "quote",
    "to",
    "from",
    "real",
    "tick",
    "base",
    "total",
    "share",
    "avg",
    "mean",
    "buy",
    "sell",
    "up",
    "down",
)
QUOTES = (
    "usd",
    "usdt",
    "usdc",
    "busd",
    "tusd",
    "fdusd",
    "eur",
    "gbp",
    "jpy",
    "aud",
    "cad",
    "chf",
    "krw",
    "try",
)
OHLCV = ("open", "high", "low", "close", "volume")
LETTERS = {"t": "timestamp", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
SYMBOL_NAMES = (
    "symbol",
    "ticker",
    "tickers",
    "tic",
    "instrument",
    "asset",
    "pair",
    "sym",
    "code",
    "secid",
    "name",
)
ADJUSTED_NAMES = ("adjclose", "adjustedclose", "closeadj", "adjustedclosingprice")
SPREAD_NAMES = ("spread",)
OPEN_HIGH_LOW = frozenset(("open", "high", "low", "close", "o", "h", "l", "c"))


def plain_name(name: object) -> str:
    """Return a name in lower case without brackets, quotes, numbering and word separators."""
    text = re.sub(r"^\d+[.:]\s*", "", str(name).strip(" <>[]\"'").lower())
    text = re.sub(r"\s\(\d+\)$", "", text)  # number of a repeated name
    return re.sub(r"[\s_.\-/(),']+", "", text)


def is_stamp_name(name: str) -> bool:
    """Return whether a name is that of a timestamp column."""
    return plain_name(name) in TIMESTAMP_NAMES or plain_name(name) in CLOSE_TIMES


def unit_of_volume(name: str) -> str | None:
    """Return the unit in a volume column's name, such as `Volume BTC`; None if there is none."""
    found = UNIT_VOLUME.fullmatch(name)
    unit = (found[1] or found[2]) if found else None
    return None if unit in NO_UNITS else unit


def columns_by_plain_name(columns: Iterable[object]) -> dict[str, list[str]]:
    """Return the columns by plain name; a ticker before or after all four prices is removed.

    Single letters are recognised only if all four prices have one.
    """
    known: dict[str, list[str]] = {}
    for column in columns:
        known.setdefault(plain_name(column), []).append(str(column))
    if {"o", "h", "l", "c"} <= known.keys():
        for letter, name in LETTERS.items():
            if letter in known:
                known.setdefault(name, known[letter])
    if not set(OHLCV[:4]) & known.keys():
        known |= _without_ticker(known)
    return known


def _without_ticker(known: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return columns such as SPY.Open or Close_SPY as open and close, if there is exactly one ticker."""
    tickers = {name.removesuffix("open") for name in known if name.endswith("open")}
    tickers |= {name.removeprefix("open") for name in known if name.startswith("open")}
    complete: list[dict[str, list[str]]] = []
    for ticker in tickers - {"", "bid", "ask"}:
        for form in (f"{ticker}{{}}", f"{{}}{ticker}"):
            found = {field: known[form.format(field)] for field in OHLCV if form.format(field) in known}
            if len(found.keys() & set(OHLCV[:4])) == 4:
                complete.append(found)
    return complete[0] if len(complete) == 1 else {}
