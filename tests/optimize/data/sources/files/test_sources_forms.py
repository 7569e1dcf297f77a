# ruff: noqa: E501  (a form a line)
"""One market in the forms that sources write, and files that hold none."""

import bz2
import gzip
import json
import lzma
import os
import zipfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimize.data.bars import RawBars
from optimize.data.sources.files.read import read_bars_files
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

ROWS = 30
STAMPS = pd.date_range("2024-01-01", periods=ROWS, freq="h")
CLOSE = np.round(100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, ROWS))), 2)
OPEN = np.append(100.0, CLOSE[:-1])
HIGH, LOW = np.round(np.maximum(OPEN, CLOSE) + 0.5, 2), np.round(np.minimum(OPEN, CLOSE) - 0.25, 2)
VOLUME = np.arange(100, 100 + ROWS)
FRAME = pd.DataFrame(
    {"timestamp": STAMPS, "open": OPEN, "high": HIGH, "low": LOW, "close": CLOSE, "volume": VOLUME}
)
CSV = FRAME.to_csv(index=False)
BARS = FRAME[["open", "high", "low", "close", "volume"]].to_numpy(dtype=object).tolist()
MS = [int(each) for each in STAMPS.as_unit("ms").asi8]


def read(path: Path, **settings: Any) -> RawBars:
    return read_bars_files(DataSpec(provider="file", path=str(path), **settings))[0]


def table(form: str, header: str = "", stamps: Sequence[object] = tuple(STAMPS)) -> str:
    """Return a line a bar, in a form of {t}, {o}, {h}, {l}, {c} and {v}."""
    rows = (
        form.format(t=t, **dict(zip("ohlcv", bar, strict=True))) for t, bar in zip(stamps, BARS, strict=True)
    )
    return "\n".join([*([header] if header else []), *rows]) + "\n"


def dated(form: str) -> list[str]:
    return [str(each) for each in STAMPS.strftime(form)]


def comma(text: str) -> str:
    return text.replace(".", ",")


TEXTS: dict[str, str | bytes] = {
    "plain": CSV,
    "byte order mark": CSV.encode("utf-8-sig"),
    "utf-16": CSV.encode("utf-16"),
    "utf-16 without a mark": CSV.encode("utf-16-le"),
    "utf-32": CSV.encode("utf-32"),
    "latin-1": ("# B\u00f6rse\n" + CSV).encode("latin-1"),
    "carriage returns": CSV.replace("\n", "\r\n"),
    "old carriage returns": CSV.replace("\n", "\r"),
    "mixed line ends": CSV.replace("\n", "\r\n", 9),
    "blank lines": CSV.replace("\n", "\n\n"),
    "quoted fields": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in CSV.split("\n")[:-1]),
    "a note that holds the separator": table('{t},{o},{h},{l},{c},{v},"a, b"', "timestamp,open,high,low,close,volume,note"),
    "footer": CSV + '"Downloaded from Barchart.com as of 03-01-2024 02:01pm CST"\n',
    "total": CSV + "Total,,,,,1234\n",
    "rows of a spreadsheet": CSV + ",,,,,\n,,,,,\n",
    "two files one behind the other": CSV + CSV,
    "comments among the rows": CSV.replace("\n2024-01-01 05", "\n# five\n2024-01-01 05"),
    "header in a comment": "#" + CSV,
    "title": "Bars of mine\n\n" + CSV,
    "blanks": table("{t:%Y-%m-%d %H:%M}  {o}  {h} {l}   {c} {v}"),
    "blanks under names": table("{t:%Y-%m-%d %H:%M}  {o}  {h} {l}   {c} {v}", "timestamp open high low close volume"),
    "table of Markdown": table("| {t} | {o} | {h} | {l} | {c} | {v} |", "| timestamp | open | high | low | close | volume |\n|---|---|---|---|---|---|"),
    "row numbers": FRAME.to_csv(),
    "days of a spreadsheet": FRAME.assign(timestamp=(STAMPS - pd.Timestamp("1899-12-30")) / pd.Timedelta("1D")).to_csv(index=False),
    "MetaStock": table("SPY,{t},{o},{h},{l},{c},{v}", stamps=dated("%Y%m%d%H%M")),
    "Sierra Chart": table("{t}, {o}, {h}, {l}, {c}, {v}, 5", "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades", dated("%Y/%m/%d, %H:%M:%S.0")),
    "Finam": table("SBER;60;{t};{o};{h};{l};{c};{v}", "<TICKER>;<PER>;<DATE>;<TIME>;<OPEN>;<HIGH>;<LOW>;<CLOSE>;<VOL>", dated("%Y%m%d;%H%M%S")),
    "Dukascopy ticks of the day": table("{t},{o},{h},{l},{c},{v}", "Date,Timestamp,Open,High,Low,Close,Volume", dated("%Y%m%d,%H:%M:%S")),
    "quantmod": table('"{t}",{o},{h},{l},{c},{v},9', '"","SPY.Open","SPY.High","SPY.Low","SPY.Close","SPY.Volume","SPY.Adjusted"'),
    "Databento": table("{t},33,1,5,{o},{h},{l},{c},{v},ESH4", "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol", [ms * 1_000_000 for ms in MS]),
    "Bybit": table("{t},{o},{h},{l},{c},{v},1", "startTime,openPrice,highPrice,lowPrice,closePrice,volume,turnover", MS),
    "names of months": table("{t},{o},{h},{l},{c},{v}", "Date,Open,High,Low,Close,Volume", dated("%d-%b-%Y %H:%M")),
    "zone of its own": table("{t} UTC,{o},{h},{l},{c},{v}", "Date,Open,High,Low,Close,Volume"),
    "German": "\n".join(
        ["Datum;Zeit;Er\u00f6ffnung;Hoch;Tief;Schluss;Volumen"]
        + [";".join([t, *map(comma, map(str, bar))]) for t, bar in zip(dated("%d.%m.%Y;%H:%M"), BARS, strict=True)]
    ),
    "lakhs": table('"{t}","{o:,.2f}","{h:,.2f}","{l:,.2f}","{c:,.2f}",{v}', '"Date ","OPEN ","HIGH ","LOW ","close ","VOLUME "'),
    "minutes before midnight": table("{t:%Y-%m-%d %H:59:59.999},{o},{h},{l},{c},{v}", "timestamp,open,high,low,close,volume"),
}  # fmt: skip


@pytest.mark.parametrize("form", TEXTS)
def test_text_in_any_form_is_the_same_bars(tmp_path: Path, form: str) -> None:
    text = TEXTS[form]
    (tmp_path / "x.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    check(read(tmp_path / "x.csv"))


def check(raw: RawBars) -> None:
    np.testing.assert_array_equal(raw.timestamp, STAMPS.as_unit("ns").asi8)
    np.testing.assert_allclose(
        raw.ohlcv, FRAME[["open", "high", "low", "close", "volume"]].to_numpy(), rtol=1e-12
    )
    assert raw.has_volume


JSONS: dict[str, Any] = {
    "records": [dict(zip("tohlcv", [t, *bar], strict=True)) for t, bar in zip(MS, BARS, strict=True)],
    "Bitfinex": [[t, bar[0], bar[3], bar[1], bar[2], bar[4]] for t, bar in zip(MS, BARS, strict=True)][::-1],
    "KuCoin": {"code": "200000", "data": [[str(t // 1000), *(str(bar[at]) for at in (0, 3, 1, 2, 4)), "1.5"] for t, bar in zip(MS, BARS, strict=True)]},
    "OKX": {"code": "0", "data": [[str(t), *map(str, bar), "1", "2", "1"] for t, bar in zip(MS, BARS, strict=True)]},
    "OANDA": {"candles": [{"complete": True, "volume": bar[4], "time": f"{t.isoformat()}.000000000Z", "mid": dict(zip("ohlc", map(str, bar), strict=False))} for t, bar in zip(STAMPS, BARS, strict=True)]},
    "Alpha Vantage": {"Meta Data": {"1. Information": "60min"}, "Time Series (60min)": {
        str(t): {f"{at}. {name}": str(value)
                 for at, (name, value) in enumerate(zip(["open", "high", "low", "close", "volume"], bar, strict=True), 1)}
        for t, bar in zip(STAMPS, BARS, strict=True)}},
    "Yahoo's chart": {"chart": {"error": None, "result": [{"meta": {"currency": "USD"}, "timestamp": [t // 1000 for t in MS],
                      "indicators": {"quote": [{name: FRAME[name].tolist() for name in FRAME.columns[1:]}]}}]}},
    "columns": {name: [str(each) for each in FRAME[name]] for name in FRAME},
}  # fmt: skip


@pytest.mark.parametrize("form", JSONS)
def test_json_in_any_form_is_the_same_bars(tmp_path: Path, form: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps(JSONS[form]))
    check(read(tmp_path / "x.json"))


@pytest.mark.parametrize("orient", ["records", "split", "index", "columns", "table"])
def test_json_of_pandas_is_the_same_bars(tmp_path: Path, orient: Any) -> None:
    FRAME.set_index("timestamp").to_json(tmp_path / "x.json", orient=orient, date_format="iso")
    if orient == "records":
        FRAME.to_json(tmp_path / "x.json", orient=orient, date_format="iso", lines=True)
    check(read(tmp_path / "x.json"))


FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "index without a name": lambda: FRAME.set_index("timestamp").rename_axis(None),
    "levels": lambda: FRAME.assign(symbol="X").set_index(["symbol", "timestamp"]),
    "levels without names": lambda: FRAME.assign(symbol="X").set_index(["symbol", "timestamp"]).rename_axis([None, None]),
    "columns of tuples": lambda: pd.concat({"SPY": FRAME.set_index("timestamp")}, axis=1),
    "names with a ticker": lambda: FRAME.set_index("timestamp").add_suffix("_SPY"),
    "categories": lambda: FRAME.assign(open=FRAME["open"].astype(str).astype("category")),
    "decimals": lambda: FRAME.assign(open=pd.Series(map(Decimal, map(str, OPEN)), dtype=object)),
    "stamps of another zone": lambda: FRAME.assign(timestamp=STAMPS.tz_localize("UTC").tz_convert("Asia/Tokyo")),
    "stamps as text": lambda: FRAME.assign(timestamp=STAMPS.astype(str).astype("category")),
    "nullable types": lambda: FRAME.convert_dtypes(),
}  # fmt: skip


@pytest.mark.parametrize("form", FRAMES)
def test_parquet_and_feather_in_any_form_are_the_same_bars(tmp_path: Path, form: str) -> None:
    frame = FRAMES[form]()
    frame.to_parquet(tmp_path / "x.parquet")
    check(read(tmp_path / "x.parquet"))
    (tmp_path / "x.csv").write_bytes((tmp_path / "x.parquet").read_bytes())  # content decides
    check(read(tmp_path / "x.csv"))
    if isinstance(frame.index, pd.RangeIndex):
        frame.to_feather(tmp_path / "x.feather")
        check(read(tmp_path / "x.feather"))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "x.csv.gz": gzip.compress,
    "x.csv.gz.gz": lambda data: gzip.compress(gzip.compress(data)),
    "x.csv.bz2": bz2.compress,
    "x.csv.xz": lzma.compress,
    "x.csv": gzip.compress,
    "x.txt": lambda data: data,
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_files_are_the_same_bars(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[name](CSV.encode()))
    check(read(tmp_path / name))


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, CSV if name.endswith(".csv") else "a report")
    return path


def test_a_zip_gives_its_one_file_of_bars(tmp_path: Path) -> None:
    check(read(zipped(tmp_path / "a.zip", "DAT.csv", "DAT.txt", "__MACOSX/._DAT.csv")))
    with pytest.raises(BadInputError, match=r"holds a\.csv, b\.csv, and one file of bars is read from a zip"):
        read(zipped(tmp_path / "b.zip", "a.csv", "b.csv"))


LINES = CSV.split("\n")
REFUSED: dict[str, tuple[str, bytes | str, str]] = {
    "NUL bytes": ("x.csv", CSV.replace("2024-01-01 05", "\0\0"), "line 7 holds NUL bytes"),
    "NUL bytes at the end": ("x.csv", CSV + "\0" * 99, "line 32 holds NUL bytes"),
    "nothing": ("x.csv", "", "is empty"),
    "line ends": ("x.csv", "\n\n", "is empty"),
    "a header": ("x.csv", LINES[0], "has no rows, only the line 'timestamp,open"),
    "noise": ("x.csv", bytes(range(1, 256)) * 20, "is neither text"),
    "words": ("x.csv", "one\ntwo\nthree\n", "holds no rows of numbers .* 'one'"),
    "more fields": ("x.csv", CSV.replace(LINES[6], LINES[6] + ",5"), "line 7 has 7 fields, and those above it 6"),
    "a cut row": ("x.csv", CSV + "2024-01-03 11:00:00,100.1", "line 32, the last, has 2 of 6 fields"),
    "an open quote": ("x.csv", CSV.replace(LINES[6], '"' + LINES[6]), "a quote that is opened and not closed"),
    "two columns of a name": ("x.csv", CSV.replace("volume", "Close"), "'close' and 'Close' could both be"),
    "more names": ("x.csv", CSV.replace("volume", "volume,a,b"), "header has 8 names .* line 2 has 6 fields"),
    "a page": ("x.csv", "<!DOCTYPE html><html>log in</html>", "is a web page"),
    "an answer": ("x.csv", '{"error": "limit"}', "holds no table of bars in its JSON"),
    "cut JSON": ("x.json", '[{"open": 1,', "cannot be read as json"),
    "deep JSON": ("x.json", "[" * 100_000, "cannot be read as json"),
    "a cut gz": ("x.csv.gz", gzip.compress(CSV.encode())[:99], "cut or damaged"),
    "a cut zip": ("x.zip", b"PK\x03\x04" + b"x" * 99, "cut or damaged"),
    "an array": ("x.csv", b"\x93NUMPY" + b"x" * 99, "is a NumPy array"),
    "a pickle": ("x.pkl", b"\x80\x04\x95x", "is a pickle, which runs code"),
    "a spreadsheet": ("x.xlsx", b"PK\x03\x04", "is a spreadsheet: save its sheet as CSV"),
    "a database": ("x.csv", b"SQLite format 3\0", "is a database"),
    "another suffix": ("x.xyz", CSV, "suffix '.xyz' is unknown"),
    "an unknown layout": ("x.csv", "1,2,3,4,5,6\n2,3,4,5,6,7\n", "has no header .* data.names="),
    "row numbers as time": ("x.csv", CSV.replace("2024-01-01 0", "").replace(":00:00", ""), "data.columns|data.time_format"),
    "time of day": ("x.csv", table("{t},{o},{h},{l},{c},{v}", LINES[0], range(34_200_000, 37_200_000, 100_000)), "milliseconds since midnight"),
    "either mark": ("x.csv", table('{t},"1,234","1,234","1,234","1,234",5', LINES[0]), "decimal comma or with thousands"),
    "now": ("x.csv", CSV.replace("2024-01-01 05:00:00", "now"), "'now' and 'today' are not timestamps|cannot be read as time"),
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED)
def test_what_holds_no_bars_is_one_line_that_names_it(tmp_path: Path, form: str) -> None:
    name, content, words = REFUSED[form]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInputError, match=words) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (FRAME["open"] > 100, "holds true and false, not numbers"),
        (FRAME["timestamp"], "holds dates, not numbers"),
        (pd.Series([[1.0]] * ROWS), "not a number"),
    ],
    ids=["truth", "dates", "lists"],
)
def test_columns_of_another_kind_are_no_prices(tmp_path: Path, column: "pd.Series[Any]", words: str) -> None:
    FRAME.assign(open=column).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(BadInputError, match=words):
        read(tmp_path / "x.parquet")


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(BadInputError, match=r"is not a regular file"):
        read(tmp_path / "x.csv")


def test_options_decide_what_content_does_not(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("made by hand, 1, 2\nin two lines, 3, 4\n" + CSV)
    check(read(path, skip_rows=2))
    path.write_text(table("{t},{o},{h},{l},{c},{v},7"))
    check(read(path, names=["timestamp", "open", "high", "low", "close", "volume", "other"]))
    with pytest.raises(BadInputError, match=r"data.names has 2 names and a row has 7 fields"):
        read(path, names=["timestamp", "open"])
    path.write_text(CSV)
    with pytest.raises(
        BadInputError, match=r"holds '100.0' in data row 1, not a number with decimal mark ','"
    ):
        read(path, decimal=",")
    with pytest.raises(BadInputError, match=r"no rows below data.skip_rows=99"):
        read(path, skip_rows=99)
    with pytest.raises(BadInputError, match="no column of adjusted closes"):
        read(path, adjust=True)


def test_parts_must_follow_one_another(tmp_path: Path) -> None:
    first, second = FRAME[:20], FRAME[20:]
    second.to_csv(tmp_path / "SPY-1h-b.csv", index=False)
    first.to_csv(tmp_path / "SPY-1h-c.csv", index=False)
    check(read(tmp_path))
    assert read(tmp_path).symbol == "SPY"
    FRAME[15:].to_csv(tmp_path / "SPY-1h-b.csv", index=False)
    with pytest.raises(BadInputError, match=r"begins at .*before .* ends .*: parts of one symbol follow"):
        read(tmp_path)
    FRAME[20:].assign(timestamp=pd.date_range("2024-02-01", periods=10, freq="D")).to_csv(
        tmp_path / "SPY-1h-b.csv", index=False
    )
    with pytest.raises(BadInputError, match="use parts of one timeframe"):
        read(tmp_path)


def test_a_spread_in_points_is_refused_by_the_option_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    FRAME.assign(spread=20).to_csv(path, index=False)
    with pytest.raises(BadInputError, match=r"more than 1% of it.* data.point_size=0.01"):
        read(path)
    np.testing.assert_allclose(read(path, point_size=0.01).spread, 0.2)


def test_rows_of_one_stamp_that_differ_are_kept_for_the_report(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(CSV + LINES[-2].replace(",129", ",130") + "\n" + LINES[-2] + "\n")
    raw = read(tmp_path / "x.csv")
    assert len(raw.timestamp) == ROWS + 1
    assert any("1 exact copy" in each for each in raw.assumptions)


def test_daily_ends_begin_a_local_day_before_where_the_clock_changes(tmp_path: Path) -> None:
    days = pd.date_range("2024-03-08", "2024-03-13", freq="D")
    FRAME[: len(days)].assign(timestamp=days.strftime("%Y-%m-%d")).to_csv(tmp_path / "x.csv", index=False)
    raw = read(tmp_path / "x.csv", stamp="end", time_zone="America/New_York")
    starts = (days - pd.Timedelta("1D")).tz_localize("America/New_York").tz_convert("UTC").as_unit("ns")
    np.testing.assert_array_equal(raw.timestamp, starts.asi8)
