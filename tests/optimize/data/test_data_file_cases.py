"""Every file of the folder of cases gives the right value, or one line that names the remedy.

One table for each question: READING (formats, columns, numbers, stamps), QUALITY (calendar verdict and
findings) and JOINING (several symbols). A case is added to the table of its question.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest

from optimize.cli.dispatch import compose_configs
from optimize.data.bars import RawBars, utc_text
from optimize.data.market import load_bars
from optimize.data.quality.findings import QualityFinding
from optimize.data.quality.report import inspect_bars
from optimize.data.sources.providers import provider_of
from optimize.errors import BadInputError
from tests.conftest import REPOSITORY

CASES = REPOSITORY.parent / "shared" / "cases" / "files"
DAILY = ("data.timeframe=1d",)


@dataclass(frozen=True)
class Case:
    """One command with its right result: values where it loads, words of the line where it is refused."""

    file: str
    options: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    rows: int | None = None  # of the first symbol, as read
    first: str | None = None  # UTC start of its first bar
    last: str | None = None  # UTC start of its last bar
    open: float | None = None  # of its first bar
    close: float | None = None  # of its last bar
    volume: float | None = None  # of its first bar
    spread: float | None = None  # of its first bar
    assumed: tuple[str, ...] = ()  # words of its assumptions, one each
    refused: tuple[str, ...] = ()  # words of the one line that refuses to read or join it
    found: dict[str, tuple[str, ...]] = field(default_factory=dict)  # check -> words of finding and remedy
    absent: tuple[str, ...] = ()  # checks without a finding
    joined: int | None = None  # rows of the market
    known: str | None = None  # UTC end of its first bar


READING: list[Case] = [
    Case("C01_aa_1h.csv", rows=35, first="2024-01-08T14:30", close=95.8751, volume=969),
    Case("C05_EURUSD_H1_mt5.csv", rows=49, volume=909, spread=8e-5, assumed=("<TICKVOL>", "points of 1e-05")),
    Case("C06_DAT_ASCII_EURUSD_noheader.csv", rows=46, first="2024-07-11T18:00", assumed=("has no header",)),
    Case("C11_endstamps_ny_30m.csv", ("data.time_zone=America/New_York", "data.stamp=end"), rows=39,
         first="2024-01-08T14:30", last="2024-01-10T20:30", assumed=("ends of bars (data.stamp=end)",)),
    Case("C13_coinmarketcap.csv", DAILY, first="2024-01-01T00:00", last="2024-02-09T00:00",
         assumed=("timestamp 'timeOpen'",)),
    Case("C13_coinmarketcap.csv", (*DAILY, "data.columns.timestamp=timestamp"), first="2024-01-01T00:00",
         assumed=("1 ms before a whole minute",)),
    Case("C14_live_last_row.csv", DAILY, rows=40, last="2024-02-28T14:37:05"),
    Case("C17_XAUUSD_H1_mt5_spread_points.csv", spread=0.21, open=2030.0, assumed=("points of 0.01",)),
    Case("C17_XAUUSD_H1_mt5_spread_points.csv", ("data.point_size=0.1",), spread=2.1),
    Case("C17_XAUUSD_H1_mt5_spread_points.csv", ("data.point_size=100",), refused=("data.point_size",)),
    Case("C18_kraken_noheader.csv", rows=48, first="2024-01-01T00:00", open=42000.0, volume=895,
         assumed=("open, high, low, close, volume, trades",)),
    Case("C19_binance_noheader.csv", rows=48, first="2024-01-01T00:00", open=42000.0,
         assumed=("close_time",)),
    Case("C19_binance_noheader.csv", ("data.names=[timestamp,open]",), refused=("2 names", "12 fields")),
    Case("C19_binance_noheader.csv", ("data.names=[timestamp,open,high,low,close,volume,a,b,c,d,e,f]",),
         rows=48, open=42000.0),
    Case("C20_dukascopy_local_dst.csv", rows=48, first="2024-03-30T12:00", last="2024-04-01T11:00"),
    Case("C20_dukascopy_local_dst.csv", ('data.time_format="%d.%m.%Y %H:%M:%S.%f GMT%z"',),
         rows=48, first="2024-03-30T12:00", last="2024-04-01T11:00"),
    Case("C22_unnamed_index.parquet", rows=48, first="2024-01-01T00:00", assumed=("taken as timestamp",)),
    Case("C22_unnamed_index.csv", rows=48, first="2024-01-01T00:00", assumed=("taken as time",)),
    Case("C22_alpaca_multiindex.parquet", rows=48, first="2024-01-01T00:00", close=58139.6),
    Case("C23_yfinance_two_headers.csv", rows=48, open=60000.0, volume=538, assumed=("of BTC-USD",)),
    Case("C23_yfinance_multiindex.parquet", rows=48, open=60000.0, volume=538, assumed=("of BTC-USD",)),
    Case("C24_cryptodatadownload.csv", rows=48, first="2024-01-01T00:00", volume=879,
         assumed=("line 1", "Volume BTC", "newest first")),
    Case("C25_ms_then_us.csv", rows=48, first="2024-01-01T00:00", last="2024-01-02T23:00",
         assumed=("microseconds", "row 25")),
    Case("C26_weekly.csv", DAILY, refused=("7 days", "use the daily bars")),
    Case("C26_3m.csv", ("data.timeframe=3m",), rows=48, last="2024-01-01T02:21"),
    Case("C26_3m.csv", ("data.timeframe=15m",), rows=48, last="2024-01-01T02:21"),
    Case("C26_15s.csv", ("data.timeframe=1m",), rows=48, last="2024-01-01T00:11:45"),
    Case("C27_2400.csv", rows=48, first="2024-01-01T01:00", last="2024-01-03T00:00", assumed=("24:00",)),
    Case("C27_2400.csv", ('data.time_format="%Y-%m-%d %H:%M"',), last="2024-01-03T00:00"),
    Case("C29_tradingview_1971_seconds.csv", DAILY, rows=48, first="1971-01-04T00:00",
         last="1971-03-10T00:00"),
    Case("C29_1971_ms.csv", DAILY, rows=48, first="1971-01-04T00:00", last="1971-03-10T00:00"),
    Case("C30_yyyymmddhhmm.csv", rows=48, first="2024-01-01T01:00", last="2024-01-03T00:00",
         assumed=("%Y%m%d%H%M",)),
    Case("C31_finrl_long.csv", DAILY, refused=("3 symbols in column 'tic'", "data.columns.symbol=tic")),
    Case("C31_finrl_long.csv", (*DAILY, "data.symbols=[AAPL]"), ("AAPL",), rows=16, close=159.037,
         assumed=("'tic' is AAPL",)),
    Case("C31_finrl_long.csv", (*DAILY, "data.symbols=[MSFT,IBM]", "data.columns.symbol=tic"), ("MSFT",
         "IBM"),
         rows=16, close=163.3461),
    Case("C31_finrl_long.csv", (*DAILY, "data.symbols=[TSLA]", "data.columns.symbol=tic"),
         refused=("none of 'TSLA'", "AAPL, IBM, MSFT")),
    Case("C32_newest_first.csv", DAILY, rows=40, first="2024-01-02", close=520.8478,
         assumed=("newest first",)),
    Case("C33_exact_duplicates.csv", DAILY, rows=40, last="2024-02-28", assumed=("5 exact copies",)),
    Case("C34_decimal_comma.csv", DAILY, open=9400.0, close=10416.96, assumed=("decimal mark ','",)),
    Case("C34_thousands.csv", DAILY, open=9400.0, close=10416.96, volume=364, assumed=("between thousands",)),
    Case("C34_dollar.csv", DAILY, open=9400.0, close=10416.96, assumed=("currency $",)),
    Case("C34_investing.csv", DAILY, open=9400.0, close=10416.96, volume=55200, first="2024-01-02",
         assumed=("close 'Price'", "thousands", "newest first")),
    Case("C35_mt5_utf16.csv", rows=49, open=1.095, assumed=("utf-16",)),
    Case("C35_mt5_utf16.csv", ("data.encoding=utf-8",), refused=("data.encoding",)),
    Case("C36_trailing_comma.csv", DAILY, rows=40, open=470.0, volume=364, assumed=("separator more",)),
    Case("C36_comment_line.csv", DAILY, rows=40, open=470.0, assumed=("comments",)),
    Case("C36_excel_sep.csv", DAILY, rows=40, open=470.0, assumed=("sep=,",)),
    Case("C36_pipe.csv", DAILY, rows=40, open=470.0, volume=364),
    Case("C41_yahoo_adj_close.csv", DAILY, open=470.0, assumed=("data.adjust=true",)),
    Case("C41_yahoo_adj_close.csv", (*DAILY, "data.adjust=true"), rows=40, close=260.4239,
         open=470.0 * 234.2666 / 468.5333, absent=("split",)),
    Case("C41_yahoo_adj_close.csv", (*DAILY, 'data.columns.close="Adj Close"'),
         refused=("data.adjust=true",)),
    Case("C42_monthly", rows=40, first="2024-01-31T00:00", last="2024-02-01T15:00", assumed=("2 files",)),
    Case("C42_monthly/*.csv", symbols=("BTCUSDT",), rows=40, last="2024-02-01T15:00", assumed=("2 files",)),
    *(Case(f"C45.{suffix}", rows=40, first="2024-01-01T00:00", close=104.07, volume=825)
      for suffix in ("csv.gz", "zip", "txt", "tsv", "feather", "json")),
    Case("C45_price_array.npy", refused=("NumPy array", "to_csv")),
]  # fmt: skip

NEW_YORK = "data.time_zone=America/New_York"
MISREAD = ("time_zone", "calendar", "stamp_end", "outside_session", "gaps")
QUALITY: list[Case] = [
    Case("C05_EURUSD_H1_mt5.csv", found={"time_zone": (
        "refuse", "24/5 read as America/New_York+7 to 100 %", "data.time_zone=America/New_York+7",
        "MetaTrader")}, absent=("outside_session",)),
    Case("C05_EURUSD_H1_mt5.csv", ("data.time_zone=America/New_York+7",), first="2024-01-10T22:00",
         absent=MISREAD),
    Case("C06_DAT_ASCII_EURUSD_header.csv", found={"time_zone": ("refuse", "data.time_zone=Etc/GMT+5")},
         absent=("outside_session",)),
    Case("C06_DAT_ASCII_EURUSD_noheader.csv", found={"time_zone": ("refuse", "data.time_zone=Etc/GMT+5")}),
    Case("C06_DAT_ASCII_EURUSD_header.csv", ("data.time_zone=Etc/GMT+5",), first="2024-07-11T23:00",
         absent=("time_zone", "calendar", "stamp_end")),
    Case("C08_shanghai_naive_30m.csv", found={"time_zone": (
        "refuse", "XSHG read as Asia/Shanghai to 100 %",
        "set data.time_zone=Asia/Shanghai session.calendar=XSHG")}),
    Case("C08_shanghai_naive_30m.csv", (NEW_YORK,), found={"time_zone": (
        "refuse", "data.time_zone=Asia/Shanghai session.calendar=XSHG")}),
    Case("C08_shanghai_naive_30m.csv", ("data.time_zone=Asia/Shanghai", "session.calendar=XSHG"),
         first="2024-01-22T01:30", absent=MISREAD),
    Case("C10_london_utc_1h.csv", found={"calendar": (
        "refuse", "XLON read as UTC to 100 %", "session.calendar=XLON")}, absent=("gaps",)),
    Case("C10_london_utc_1h.csv", ("session.calendar=XLON",), absent=MISREAD),
    Case("C11_endstamps_ny_30m.csv", (NEW_YORK,), found={"stamp_end": (
        "refuse", "a bar begins at the close and none at the open", "data.stamp=end")},
         absent=("outside_session",)),
    Case("C11_endstamps_ny_30m.csv", (NEW_YORK, "data.stamp=end"), absent=MISREAD),
    Case("C14_live_last_row.csv", DAILY, found={"unfinished": (
        "warn", "2024-02-28T14:37:05Z, unlike all others", "leave it out")}),
    Case("C16_cent_row.csv", DAILY, found={"spike": ("refuse", "open 0.01 near 480.2 at 2024-01-31")},
         absent=("split",)),
    Case("C16_high_x100.csv", DAILY, found={"spike": ("refuse", "high 48314.9 near 480.2 at 2024-01-31")}),
    Case("C16_low_100th.csv", DAILY, found={"spike": ("refuse", "low 4.7772 near 480.2 at 2024-01-31")}),
    Case("C37_ny_summer_naive.csv", ("data.time_zone=EST",), found={"time_zone": (
        "refuse", "XNYS read as EST to 77 %", f"set {NEW_YORK}")}, absent=("outside_session",)),
    Case("C37_ny_summer_naive.csv", ("data.time_zone=Europe/London",), found={"time_zone": (
        "refuse", f"set {NEW_YORK} session.calendar=XNYS")}),
    Case("C37_ny_summer_naive.csv", (NEW_YORK,), first="2024-07-08T13:30", absent=MISREAD),
    Case("C38_future.csv", DAILY, found={"future": ("refuse", "40 bars begin after now")}),
    Case("C39_split_12for1.csv", DAILY, found={"split": ("refuse", "12:1 at 2024-01-31, 482.907 -> 40.2423")},
         absent=("spike",)),
    Case("C39_split_1for12.csv", DAILY, found={"split": ("refuse", "1:12 at 2024-01-31, 482.907 -> 5794.89")},
         absent=("spike",)),
    Case("C44_mixed_resolution.csv", ("data.timeframe=5m",), found={"spacing": (
        "refuse", "bars of 5m, but 1 h from 2024-01-01T00:00:00Z to 2024-01-01T18:00:00Z apart")}),
]  # fmt: skip

OVERLAP = ("1h bars overlap without beginning together", "from 2024-01-08T14:30:00Z to 2024-01-08T15:30:00Z")
JOINING: list[Case] = [
    *(Case(file, ("data.timeframe=1h", symbols, *severity), refused=OVERLAP)
      for file, symbols in (("C01_{symbol}_1h.csv", "data.symbols=[aa,bb]"),
                            ("C04_{symbol}_1h.csv", "data.symbols=[btc,spy]"))
      for severity in ((), ("data.severity.off_grid=warn",))),
    Case("C02_{symbol}_1d.csv", (*DAILY, "data.symbols=[btc,spy]"), ("btc", "spy"), rows=45, joined=45,
         first="2024-01-02T00:00", known="2024-01-03T05:00", absent=("ragged", "off_grid", "session_twice")),
]  # fmt: skip


@pytest.fixture(scope="session")
def cases() -> Path:
    """Return the folder of small files, or skip where it is absent."""
    if not CASES.is_dir():
        pytest.skip(f"no folder {CASES}")
    return CASES


def _name(case: Case) -> str:
    return " ".join((case.file, *case.options))


@pytest.mark.market_data
@pytest.mark.parametrize("case", [*READING, *QUALITY, *JOINING], ids=_name)
def test_a_file_gives_the_right_value_or_one_line_with_the_remedy(cases: Path, case: Case) -> None:
    path = f'data.path="{cases / case.file}"'
    (config,) = compose_configs("data", ["data=file", path, *case.options])
    if case.refused:
        with pytest.raises(BadInputError) as caught:
            load_bars(config.data)
        assert "\n" not in str(caught.value)
        missing = [words for words in case.refused if words not in str(caught.value)]
        assert not missing, str(caught.value)
        return
    raw, *_ = provider_of(config.data).read(config.data)
    _check_rows(case, raw)
    if case.found or case.absent:
        report = inspect_bars(config.data, config.session)
        found = {each.check: _text(each) for each in report.findings}
        assert not found.keys() & set(case.absent), found
        missing = [
            words
            for check, all_words in case.found.items()
            for words in all_words
            if words not in found.get(check, "")
        ]
        assert not missing, found
    if case.symbols:
        bars = load_bars(config.data)
        assert bars.symbols == case.symbols
        assert case.joined in (None, bars.n_bars)
        assert case.known is None or utc_text(bars.bar_end[0]).startswith(case.known)


@pytest.mark.market_data
def test_every_file_of_the_folder_stands_in_a_table(cases: Path) -> None:
    """The name of a case is that of a file, a folder, or of one file for each symbol."""
    patterns = {case.file.split("/")[0].replace("{symbol}", "*") for case in (*READING, *QUALITY, *JOINING)}
    there = {path.name for path in cases.iterdir()} - {"README.md"}
    assert there
    missing = {name for name in there if not any(fnmatch(name, pattern) for pattern in patterns)}
    assert missing == set()


def _check_rows(case: Case, raw: RawBars) -> None:
    """Compare the bars of the first symbol with those of the case."""
    stamps = raw.timestamp.astype("datetime64[ns]")
    came = {
        "rows": len(stamps),
        "first": str(stamps[0]),
        "last": str(stamps[-1]),
        "open": raw.ohlcv[0, 0],
        "close": raw.ohlcv[-1, 3],
        "volume": raw.ohlcv[0, 4],
        "spread": raw.spread[0],
    }
    for name, value in came.items():
        wanted = getattr(case, name)
        if isinstance(wanted, str):
            assert str(value).startswith(wanted), (name, value)
        elif wanted is not None:
            assert value == pytest.approx(wanted, rel=1e-9), name
    said = "; ".join(raw.assumptions)
    assert all(words in said for words in case.assumed), said


def _text(finding: QualityFinding) -> str:
    return f"{finding.severity} {finding.found}: {finding.remedy}"
