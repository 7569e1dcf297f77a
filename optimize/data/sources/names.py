"""The names that sources give their columns."""

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
DAYS = ("date", "dtyyyymmdd", "yyyymmdd", "day", "tradedate", "tradingday", "datum", "fecha", "data")
CLOCKS = (
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
STAMPS = (
    *OPEN_TIMES, "timestamp", "datetime", "dateandtime", "date", "time", "gmttime", "localtime", "utctime",
    "utc", "unix", "unixtime", "unixtimestamp", "epoch", "starttime", "startedat", "startat", "start",
    "dtyyyymmdd", "yyyymmdd", "day", "tradedate", "tradingday", "timeutc", "dateutc", "datetimeutc", "ts",
    "index", "tsevent", "datum", "fecha", "data", "datadate",
)  # fmt: skip
# In English; of Bloomberg, CRSP and Compustat; then as investing.com, stooq.pl and ariva.de have them.
PRICES = {
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
VOLUMES = (
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
FIELDS = ("open", "high", "low", "close", "volume")
LETTERS = {"t": "timestamp", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
SYMBOLS = (
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
ADJUSTED = ("adjclose", "adjustedclose", "closeadj", "adjustedclosingprice")
SPREADS = ("spread",)
OPEN_HIGH_LOW = frozenset(("open", "high", "low", "close", "o", "h", "l", "c"))


def plain(name: object) -> str:
    """Return a name in lower case without brackets, quotes, numbering and what separates words."""
    text = re.sub(r"^\d+[.:]\s*", "", str(name).strip(" <>[]\"'").lower())
    text = re.sub(r"\s\(\d+\)$", "", text)  # of a second column of that name
    return re.sub(r"[\s_.\-/(),']+", "", text)


def is_stamp_name(name: str) -> bool:
    """Return whether a name is one of a column of stamps."""
    return plain(name) in STAMPS or plain(name) in CLOSE_TIMES


def unit_of_volume(name: str) -> str | None:
    """Return the unit that a volume column names, as `Volume BTC` does."""
    found = UNIT_VOLUME.fullmatch(name)
    unit = (found[1] or found[2]) if found else None
    return None if unit in NO_UNITS else unit


def by_plain_name(columns: Iterable[object]) -> dict[str, list[str]]:
    """Return the columns under their plain names, without a ticker that all prices have before or behind.

    Single letters count only where all four prices have one.
    """
    known: dict[str, list[str]] = {}
    for column in columns:
        known.setdefault(plain(column), []).append(str(column))
    if {"o", "h", "l", "c"} <= known.keys():
        for letter, name in LETTERS.items():
            if letter in known:
                known.setdefault(name, known[letter])
    if not set(FIELDS[:4]) & known.keys():
        known |= _without_ticker(known)
    return known


def _without_ticker(known: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return columns such as SPY.Open and Close_SPY under open and close, where there is one such ticker."""
    tickers = {name.removesuffix("open") for name in known if name.endswith("open")}
    tickers |= {name.removeprefix("open") for name in known if name.startswith("open")}
    complete: list[dict[str, list[str]]] = []
    for ticker in tickers - {"", "bid", "ask"}:
        for form in (f"{ticker}{{}}", f"{{}}{ticker}"):
            found = {field: known[form.format(field)] for field in FIELDS if form.format(field) in known}
            if len(found.keys() & set(FIELDS[:4])) == 4:
                complete.append(found)
    return complete[0] if len(complete) == 1 else {}
