"""Every command of docs/sources runs on a small made-up file of the form that its page describes."""

import gzip
import json
import re
import shlex
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import REPOSITORY
from tests.optimize.cli.conftest import Run, run

__all__ = ["run"]

PAGES = REPOSITORY / "docs" / "sources"
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
NAMES = ["open", "high", "low", "close", "volume"]


def commands() -> list[tuple[str, str]]:
    """Return the page and the text of every command."""
    return [
        (page.stem, line)
        for page in sorted(PAGES.glob("*.md"))
        for block in BLOCK.findall(page.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if line.startswith("walkforge ")
    ]


def bars(stamps: pd.DatetimeIndex, digits: int = 2, start: float = 100.0, seed: int = 1) -> pd.DataFrame:
    """Return a random walk of bars; every second opens a point above the close before."""
    steps = np.random.default_rng(seed).normal(0, 0.001, len(stamps))
    close = np.round(start * np.exp(np.cumsum(steps)), digits)
    point = 10.0**-digits
    open_ = np.append(start, close[:-1]) + point * (np.arange(len(stamps)) % 2)
    prices = {
        "open": open_,
        "high": np.maximum(open_, close) + point,
        "low": np.minimum(open_, close) - point,
    }
    volume = np.random.default_rng(seed).integers(100, 200, len(stamps))
    return pd.DataFrame({**prices, "close": close, "volume": volume}, index=stamps).round(digits)


def crypto(days: int = 4) -> pd.DataFrame:
    return bars(pd.date_range("2024-01-01", periods=24 * days, freq="h", tz="UTC"))


def currency(freq: str = "h", periods: int = 120) -> pd.DataFrame:
    """Return bars of the currency week, from Sunday 17:00 New York."""
    first = pd.Timestamp("2024-01-07 17:00", tz="America/New_York").tz_convert("UTC")
    return bars(pd.date_range(first, periods=periods, freq=freq), 5, 1.1)


def stock(freq: str = "30min", seed: int = 1) -> pd.DataFrame:
    """Return bars of New York's sessions of one week."""
    days = [pd.Timestamp(f"2024-01-{day:02d} 09:30", tz="America/New_York") for day in (8, 9, 10, 11, 12)]
    spans = [pd.date_range(day, day + pd.Timedelta("6h29min"), freq=freq) for day in days]
    stamps = pd.DatetimeIndex([stamp for span in spans for stamp in span])
    return bars(stamps.tz_convert("UTC"), seed=seed)


def daily(seed: int = 1) -> pd.DataFrame:
    return bars(pd.bdate_range("2024-01-16", "2024-02-16"), seed=seed)


def epoch(frame: pd.DataFrame, unit: str) -> list[int]:
    return [int(each) for each in pd.DatetimeIndex(frame.index).as_unit(unit).asi8]  # type: ignore[arg-type]


def lines(rows: Sequence[Sequence[object]], separator: str = ",", header: str = "") -> str:
    return header + "".join(separator.join(map(str, row)) + "\n" for row in rows)


def rows_of(frame: pd.DataFrame, stamps: Sequence[object]) -> list[list[object]]:
    return [
        [stamp, *row] for stamp, row in zip(stamps, frame[NAMES].to_numpy(dtype=object).tolist(), strict=True)
    ]


def text_of(frame: pd.DataFrame, form: str) -> list[str]:
    return [str(each) for each in pd.DatetimeIndex(frame.index).strftime(form)]


def zipped(path: Path, **members: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "."), text)


def binance(folder: Path) -> None:
    frame = crypto()
    stamps = epoch(frame, "ms")
    rows = [[*row, row[0] + 3_599_999, 1.5, 9, 1.1, 1.2, 0] for row in rows_of(frame, stamps)]  # type: ignore[operator]
    zipped(folder / "BTCUSDT-1h-2024-01.zip", **{"BTCUSDT-1h-2024-01__csv": lines(rows)})
    (folder / "klines").mkdir()
    (folder / "klines" / "BTCUSDT-1h-2024-01.csv").write_text(lines(rows[:50]))
    later = [[row[0] * 1000, *row[1:6], row[6] * 1000, *row[7:]] for row in rows[50:]]  # type: ignore[operator]
    (folder / "klines" / "BTCUSDT-1h-2024-02.csv").write_text(lines(later))


def kraken(folder: Path) -> None:
    frame = crypto()
    rows = [[*row, 9] for row in rows_of(frame, epoch(frame, "s"))]
    (folder / "XBTUSD_60.csv").write_text(lines(rows))


def coinbase(folder: Path) -> None:
    frame = crypto().iloc[::-1]
    rows = [[s, l, h, o, c, v] for s, o, h, l, c, v in rows_of(frame, epoch(frame, "s"))]  # noqa: E741
    (folder / "BTC-USD.json").write_text(json.dumps(rows))
    (folder / "candles.csv").write_text(lines(rows))


def cryptodatadownload(folder: Path) -> None:
    frame = crypto().iloc[::-1]
    head = "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USDT\n"
    stamps = [
        f"{ms},{text},BTC/USDT"
        for ms, text in zip(epoch(frame, "ms"), text_of(frame, "%Y-%m-%d %H:%M:%S"), strict=True)
    ]
    rows = [[*row, 7] for row in rows_of(frame, stamps)]
    (folder / "Binance_BTCUSDT_1h.csv").write_text(lines(rows, header=head))


def metatrader(folder: Path) -> None:
    frame = currency()
    local = frame.set_axis(
        pd.DatetimeIndex(frame.index).tz_convert("America/New_York").tz_localize(None) + pd.Timedelta("7h")
    )
    names = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
    rows = [[*row, 0, 8] for row in rows_of(local, text_of(local, "%Y.%m.%d\t%H:%M:%S"))]
    (folder / "EURUSD_H1.csv").write_text(lines(rows, "\t", names), encoding="utf-16")
    (folder / "EURUSD60.csv").write_text(lines(rows_of(local, text_of(local, "%Y.%m.%d,%H:%M"))))


def histdata(folder: Path) -> None:
    frame = currency("min", 2880)
    est = frame.set_axis(pd.DatetimeIndex(frame.index).tz_convert("Etc/GMT+5")).assign(volume=0)
    text = lines(rows_of(est, text_of(est, "%Y%m%d %H%M%S")), ";")
    zipped(folder / "DAT_ASCII_EURUSD_M1_2024.zip", DAT_ASCII__csv=text, DAT_ASCII__txt="gaps: none")


def dukascopy(folder: Path) -> None:
    frame = currency()
    head = "Gmt time,Open,High,Low,Close,Volume\n"
    rows = rows_of(frame, text_of(frame, "%d.%m.%Y %H:%M:%S.000"))
    (folder / "EURUSD_Candlestick_1_Hour_BID.csv").write_text(lines(rows, header=head))
    local = frame.set_axis(pd.DatetimeIndex(frame.index).tz_convert("Europe/Zurich"))
    rows = rows_of(local, text_of(local, "%d.%m.%Y %H:%M:%S.000 GMT%z"))
    (folder / "EURUSD_local.csv").write_text(lines(rows, header=head.replace("Gmt", "Local")))


def yahoo(folder: Path) -> None:
    frame, other = daily(), daily(2)
    names, stamps = "Open,High,Low,Close,Volume", text_of(frame, "%Y-%m-%d")
    head = f"Price,{names}\nTicker,SPY,SPY,SPY,SPY,SPY\nDate,,,,,\n"
    (folder / "SPY.csv").write_text(lines(rows_of(frame, stamps), header=head))
    head = f"Price,{names},{names}\nTicker{',SPY' * 5}{',QQQ' * 5}\nDate{',' * 10}\n"
    both = [[*one, *two[1:]] for one, two in zip(rows_of(frame, stamps), rows_of(other, stamps), strict=True)]
    (folder / "portfolio.csv").write_text(lines(both, header=head))
    rows = [[*row[:5], round(float(str(row[4])) / 2, 4), row[5]] for row in rows_of(frame, stamps)]
    (folder / "SPY_site.csv").write_text(lines(rows, header="Date,Open,High,Low,Close,Adj Close,Volume\n"))


def alpaca(folder: Path) -> None:
    frame, other = stock(), stock(seed=2)
    pd.concat({"SPY": frame, "QQQ": other}, names=["symbol", "timestamp"]).to_parquet(folder / "bars.parquet")
    rows = [
        dict(zip("tohlcv", row, strict=True)) for row in rows_of(frame, text_of(frame, "%Y-%m-%dT%H:%M:%SZ"))
    ]
    (folder / "bars.json").write_text(json.dumps({"bars": {"SPY": rows}, "next_page_token": None}))


def polygon(folder: Path) -> None:
    frame, other = stock(), stock(seed=2)
    (folder / "minute_aggs").mkdir()
    for day in sorted(set(text_of(frame, "%Y-%m-%d"))):
        text = "ticker,volume,open,close,high,low,window_start,transactions\n"
        for ticker, each in (("A", other), ("AAPL", frame)):
            part = each[pd.DatetimeIndex(each.index).strftime("%Y-%m-%d") == day]
            for s, o, h, l, c, v in rows_of(part, epoch(part, "ns")):  # noqa: E741
                text += f"{ticker},{v},{o},{c},{h},{l},{s},3\n"
        (folder / "minute_aggs" / f"{day}.csv.gz").write_bytes(gzip.compress(text.encode()))
    rows = [dict(zip("tohlcv", row, strict=True)) for row in rows_of(frame, epoch(frame, "ms"))]
    (folder / "aggs.json").write_text(json.dumps({"ticker": "AAPL", "results": rows, "status": "OK"}))


def stooq(folder: Path) -> None:
    frame = daily()
    rows = rows_of(frame, text_of(frame, "%Y-%m-%d"))
    (folder / "spy_us_d.csv").write_text(lines(rows, header="Date,Open,High,Low,Close,Volume\n"))
    head = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    rows = [["SPY.US", "D", *row, 0] for row in rows_of(frame, text_of(frame, "%Y%m%d,000000"))]
    (folder / "spy.us.txt").write_text(lines(rows, header=head))


def interactive_brokers(folder: Path) -> None:
    frame = stock()
    local = frame.set_axis(pd.DatetimeIndex(frame.index).tz_convert("America/New_York"))
    stamps = [f"{at},{each}" for at, each in enumerate(local.index)]
    rows = [[*row, 1.0, 3] for row in rows_of(local, stamps)]
    names = "open,high,low,close,volume,average,barCount\n"
    (folder / "SPY_30m.csv").write_text(lines(rows, header=f",date,{names}"))
    rows = [[*row, 1.0, 3] for row in rows_of(local, text_of(local, "%Y%m%d %H:%M:%S US/Eastern"))]
    (folder / "SPY_native.csv").write_text(lines(rows, header=f"date,{names}"))


def ninjatrader(folder: Path) -> None:
    frame = stock("min")
    ends = frame.set_axis(pd.DatetimeIndex(frame.index) + pd.Timedelta("1min"))
    (folder / "SPY.Last.txt").write_text(lines(rows_of(ends, text_of(ends, "%Y%m%d %H%M%S")), ";"))


def finrl(folder: Path) -> None:
    parts = [
        daily(seed).rename_axis("date").reset_index().assign(tic=tic, day=1)
        for seed, tic in ((1, "AAPL"), (2, "MSFT"))
    ]
    frame = pd.concat(parts).sort_values(["date", "tic"])
    frame.to_csv(folder / "train_data.csv", index=False)


def freqtrade(folder: Path) -> None:
    frame = crypto()
    for pair, seed in (("BTC", 1), ("ETH", 2)):
        each = bars(pd.DatetimeIndex(frame.index), seed=seed).rename_axis("date").reset_index()
        each.to_feather(folder / f"{pair}_USDT-1h.feather")
    (folder / "BTC_USDT-1h.json").write_text(json.dumps(rows_of(frame, epoch(frame, "ms"))))


MAKERS: dict[str, Callable[[Path], None]] = {
    "alpaca": alpaca,
    "binance": binance,
    "coinbase": coinbase,
    "cryptodatadownload": cryptodatadownload,
    "dukascopy": dukascopy,
    "finrl": finrl,
    "freqtrade": freqtrade,
    "histdata": histdata,
    "interactive-brokers": interactive_brokers,
    "kraken": kraken,
    "metatrader": metatrader,
    "ninjatrader": ninjatrader,
    "polygon": polygon,
    "stooq": stooq,
    "yahoo": yahoo,
}


@pytest.mark.parametrize(("page", "command"), commands())
def test_the_command_of_a_page_works_on_a_file_of_its_form(
    run: Run, tmp_path: Path, page: str, command: str
) -> None:
    MAKERS[page](tmp_path)
    code, out, err = run(*shlex.split(command)[1:], "data.check=true")
    assert (code, err) == (0, ""), out + err
    findings = [line for line in out.splitlines() if line.startswith(("  warn", "  refuse"))]
    expected = {"zero_volume", "short", "constant"}  # of so few bars, and of sources without volume
    assert all(line.split()[1] in expected for line in findings), out


def test_every_page_has_a_command_and_stands_in_the_table() -> None:
    pages = {page.stem for page in PAGES.glob("*.md")} - {"README"}
    assert pages == MAKERS.keys() == {page for page, _ in commands()}
    table = (PAGES / "README.md").read_text(encoding="utf-8")
    assert all(f"({page}.md)" in table for page in pages)
