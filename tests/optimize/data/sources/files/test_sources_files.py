from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.data.calendars.spec import SessionSpec
from optimize.data.market import load_bars
from optimize.data.quality.report import inspect_bars
from optimize.data.sources.files.read import symbol_of
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from tests.optimize.data.csv_files import HOURS, assumed, load, write
from tests.optimize.data.samples import stamp, stamps


def test_columns_are_found_in_any_case_and_volume_may_be_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Date, Open ,High,LOW,Close,Adj Close\n2024-01-01,1,2,1,1.5,9\n2024-01-02,1,2,1,1.25,9\n")
    bars = load(path)
    np.testing.assert_array_equal(bars.close[:, 0], [1.5, 1.25])
    np.testing.assert_array_equal(bars.volume, 0)


def test_a_missing_column_is_named_with_the_override_to_type(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HOURS, "Date,Open,High,Low,Close*,Volume")
    with pytest.raises(
        BadInputError,
        match=r"no column for 'close' \(it has: Date, .*, Close\*, Volume\).* by data.columns.close=NAME",
    ):
        load(path)
    assert load(path, columns={"close": "Close*"}).close[0, 0] == 11.0
    with pytest.raises(BadInputError, match=r"data.columns.close='Shut' is not a column of .*it has: Date"):
        load(path, columns={"close": "Shut"})


def test_all_missing_columns_are_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HOURS, "When,O,high,L,close,volume")
    with pytest.raises(BadInputError) as caught:
        load(path)
    settings = "data.columns.timestamp=NAME data.columns.open=NAME data.columns.low=NAME"
    assert "no column for 'timestamp', 'open', 'low' (it has: When, O, high" in str(caught.value)
    assert str(caught.value).endswith(f"name them by {settings}")
    columns: dict[str, str | None] = {"timestamp": "When", "open": "O", "low": "L", "close": None}
    assert load(path, columns=columns).n_bars == 6


def test_a_volume_under_another_name_is_asked_for_and_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HOURS, "timestamp,open,high,low,close,turnover")
    report = inspect_bars(DataSpec(provider="file", path=str(path)), SessionSpec(calendar="24/7"))
    (finding,) = [each for each in report.findings if each.check == "zero_volume"]
    assert finding.count == 6
    assert "data.columns.volume=NAME" in finding.remedy
    np.testing.assert_array_equal(load(path, columns={"volume": "turnover"}).volume, 5)


@pytest.mark.parametrize("separator", [";", "\t"], ids=["semicolon", "tab"])
def test_what_separates_columns_is_read_off_the_header(tmp_path: Path, separator: str) -> None:
    path = write(tmp_path / "a.csv", HOURS)
    expected = load(path)
    path.write_text(path.read_text().replace(",", separator))
    np.testing.assert_array_equal(load(path).close, expected.close)


def test_a_decimal_comma_is_read_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HOURS)
    expected = load(path)
    path.write_text(path.read_text().replace(",", ";").replace(".", ","))
    np.testing.assert_array_equal(load(path).close, expected.close)
    assert any("decimal mark ','" in each for each in assumed(path))


@pytest.mark.parametrize(
    ("names", "stamps_text", "settings"),
    [
        ("Date,Time", [f"2024-03-01,{hour:02d}:00:00" for hour in range(6)], {}),
        ("<DATE>,<TIME>", [f"2024-03-01,{hour:02d}:00" for hour in range(6)], {}),
        ("date,time", [f"01.03.2024,{hour:02d}:00" for hour in range(6)], {}),
        ("Date,Time", [f"20240301,{hour:02d}0000" for hour in range(6)], {"time_format": "%Y%m%d %H%M%S"}),
        ("Date,Time", [f"20240301,{hour:02d}00" for hour in range(6)], {"time_format": "%Y%m%d %H%M"}),
    ],
)
def test_date_and_time_columns_are_one_stamp(
    tmp_path: Path, names: str, stamps_text: list[str], settings: dict[str, str]
) -> None:
    bars = load(write(tmp_path / "a.csv", stamps_text, f"{names},open,high,low,close,volume"), **settings)
    np.testing.assert_array_equal(bars.timestamp, stamps("2024-03-01", 6, "1h"))


def test_a_stamp_column_beats_date_and_time(tmp_path: Path) -> None:
    rows = [f"{text},2020-01-01,12:00" for text in HOURS]
    path = write(tmp_path / "a.csv", rows, "datetime,date,time,open,high,low,close,volume")
    assert load(path).timestamp[0] == stamp("2024-03-01")
    assert load(path, columns={"timestamp": "datetime"}).timestamp[0] == stamp("2024-03-01")


def test_a_spread_column_is_kept_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{text},1,2,1,1.5,5,0.012" for text in HOURS]
    path.write_text("\n".join(["timestamp,open,high,low,close,volume,Spread", *rows]))
    bars = load(path)
    np.testing.assert_array_equal(bars.spread[:, 0], 0.012)
    path.write_text(path.read_text().replace("0.012", "-0.012", 1))
    with pytest.raises(BadInputError, match="with a negative volume or spread"):
        load(path)
    path.write_text(path.read_text().replace("-0.012", "", 1))
    with pytest.raises(BadInputError, match="with NaN"):
        load(path)
    assert load(path, drop_nan=True).n_bars == 5


@pytest.mark.parametrize(
    ("stem", "symbol"),
    [
        ("prices", "PRICES"),
        ("eurusd_1h_gymanytrading_2017", "EURUSD"),
        ("daily_aapl_bokeh_2000_2013", "AAPL"),
        ("binance_btcusdt_5m", "BTCUSDT"),
        ("EURUSD_H1", "EURUSD"),
        ("BTC-USD", "BTC-USD"),
        ("aapl_2020", "AAPL"),
        ("my_own_prices", "MY_OWN_PRICES"),
        ("1d", "1D"),
    ],
)
def test_a_symbol_is_read_off_the_name_of_its_file(stem: str, symbol: str) -> None:
    assert symbol_of(stem) == symbol


def test_text_among_numbers_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("date,open,high,low,close\n2024-01-01,1,2,1,1.5\n2024-01-02,1,2,1,n.a.!\n")
    with pytest.raises(BadInputError, match=r"column 'close' holds 'n.a.!' in data row 2, not a number"):
        load(path)


def _nothing(folder: Path) -> Path:
    return folder / "absent.csv"


def _folder(folder: Path) -> Path:
    return folder


def _suffix(folder: Path) -> Path:
    return write(folder / "prices.xlsx", HOURS)


def _long_name(folder: Path) -> Path:
    return folder / ("a" * 300 + ".csv")


def _no_name(folder: Path) -> Path:
    return folder / "a\0.csv"


def _header_only(folder: Path) -> Path:
    return write(folder / "a.csv", [])


def _zero_bytes(folder: Path) -> Path:
    (folder / "a.csv").touch()
    return folder / "a.csv"


def _not_parquet(folder: Path) -> Path:
    return write(folder / "a.parquet", HOURS)


def _no_stamp(folder: Path) -> Path:
    return write(folder / "a.csv", ["2024-03-01", "", "2024-03-03"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_nothing, r"no such file .*/absent\.csv; type data.path=FILE"),
        (_folder, "is a folder .*without a readable file: name one file in it"),
        (_suffix, r"is a spreadsheet: save its sheet as CSV"),
        (_long_name, r"a\.csv cannot be opened \(File name too long\): give another path"),
        (_no_name, r"cannot be opened \(embedded null byte\): give another path"),
        (_header_only, "has no rows"),
        (_zero_bytes, "is empty: choose another"),
        (_not_parquet, "cannot be read as parquet"),
        (_no_stamp, "data row 2 has no timestamp"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        load(make(tmp_path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_missing_prices_are_refused_by_stamp_or_dropped_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HOURS)
    path.write_text(path.read_text().replace("03:00:00,10", "03:00:00,"))
    with pytest.raises(
        BadInputError, match=r"1 bar with NaN .*; at 2024-03-01T03:00:00Z: .*data.drop_nan=true"
    ):
        load(path)
    np.testing.assert_array_equal(load(path, drop_nan=True).timestamp // 3600 // 10**9 % 24, [0, 1, 2, 4, 5])


def test_dropping_keeps_a_row_that_lacks_its_volume_alone_and_drops_what_is_infinite(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = ["1,2,1,1.5,5", "1,2,1,1.5,", "1,2,1,1.5,inf", "1,inf,1,1.5,5", "1,2,1,,5", "1,2,1,1.25,5"]
    lines = [f"{text},{row}" for text, row in zip(HOURS, rows, strict=True)]
    path.write_text("\n".join(["timestamp,open,high,low,close,volume", *lines]))
    bars = load(path, drop_nan=True)
    np.testing.assert_array_equal(bars.timestamp // 3600 // 10**9 % 24, [0, 1, 2, 5])
    np.testing.assert_array_equal(bars.volume[:, 0], [5, 0, 0, 5])
    data = DataSpec(provider="file", path=str(path), drop_nan=True)
    found = {each.check: each.count for each in inspect_bars(data, SessionSpec(calendar="24/7")).findings}
    assert found["zero_volume"] == 2
    with pytest.raises(BadInputError, match=r"4 bars with NaN or infinite values \(4 in all\)"):
        load(path)


def test_parquet_equals_csv_with_stamps_as_column_or_index(tmp_path: Path) -> None:
    csv = write(tmp_path / "a.csv", HOURS)
    frame = pd.read_csv(csv, parse_dates=["timestamp"])
    frame.to_parquet(tmp_path / "column.parquet")
    frame.set_index("timestamp").tz_localize("UTC").to_parquet(tmp_path / "index.parquet")
    expected = load(csv)
    for name in ("column", "index"):
        bars = load(tmp_path / f"{name}.parquet")
        np.testing.assert_array_equal(bars.timestamp, expected.timestamp)
        np.testing.assert_array_equal(bars.close, expected.close)


def test_a_file_a_symbol_is_joined_from_the_first_bar_all_have(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", HOURS)
    write(tmp_path / "b.csv", [HOURS[1], HOURS[2], HOURS[4]])
    bars = load(tmp_path / "{symbol}.csv", symbols=["a", "b"])
    np.testing.assert_array_equal(bars.timestamp, stamps("2024-03-01T01:00", 5, "1h"))
    np.testing.assert_array_equal(bars.tradable[:, 1], [True, True, False, True, False])
    np.testing.assert_allclose(bars.close[:, 1], [11.0, 11.1, 11.1, 11.2, 11.2])
    np.testing.assert_allclose(bars.high[:, 1], [12, 12, 11.1, 12, 11.2])
    np.testing.assert_array_equal(bars.volume[:, 1], [5, 5, 0, 5, 0])
    assert bars.tradable[:, 0].all()


def test_symbols_and_path_must_agree(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HOURS)
    quoted = (
        r"data.symbols=.*a file a symbol is 'data.path=\"\{symbol\}.csv\"' data.symbols=\[btc,eth\], quoted"
    )
    with pytest.raises(BadInputError, match=quoted):
        load(path, symbols=["a", "b"])
    with pytest.raises(BadInputError, match=r"data.symbols=\[\] .* data.path holds \{symbol\}"):
        load(tmp_path / "{symbol}.csv")
    with pytest.raises(BadInputError, match=r"data.path is missing: .* such as data.path=prices.csv"):
        load_bars(DataSpec(provider="file"))


def test_files_of_different_timeframes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", HOURS)
    write(tmp_path / "b.csv", [f"2024-03-0{day}" for day in range(1, 4)])
    with pytest.raises(BadInputError, match=r"differ in timeframe \(a 1h, b 1d\)"):
        load(tmp_path / "{symbol}.csv", symbols=["a", "b"])


@pytest.mark.market_data
def test_a_real_file_with_a_nan_row_is_refused(market_data: Path) -> None:
    path = market_data / "spy_1m_yahoo_201912.parquet"
    with pytest.raises(BadInputError, match="with NaN"):
        load(path)
    assert load(path, drop_nan=True).timeframe == "1m"
