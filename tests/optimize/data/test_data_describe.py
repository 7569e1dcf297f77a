from pathlib import Path

import numpy as np
import pytest

from optimize.data.calendars.spec import SessionSpec
from optimize.data.describe import (
    check_timeframes,
    refuse_unread,
    resolve_data,
    source_line,
    summarise_source,
)
from optimize.data.quality.report import inspect_bars
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from tests.optimize.data.samples import stamps


def five_minutes(folder: Path) -> DataSpec:
    """Return a file of two days of 5m bars; no timeframe is asked for."""
    rows = [f"{np.datetime64(int(each), 'ns')}Z,1,2,1,{1 + row % 2}" for row, each in enumerate(stamps("2024-01-02", 576, "5m"))]  # fmt: skip  # noqa: E501
    path = folder / "tqqq_5m.csv"
    path.write_text("\n".join(["timestamp,open,high,low,close", *rows]))
    return DataSpec("file", path=str(path), symbols=["TQQQ"])


@pytest.mark.parametrize(("asked", "resolved", "end"), [(None, "5m", ""), ("1h", "1h", ", resampled to 1h")])
def test_the_timeframe_is_the_files_own_unless_one_is_asked_for(
    tmp_path: Path, asked: str | None, resolved: str, end: str
) -> None:
    data = resolve_data(DataSpec("file", path=five_minutes(tmp_path).path, symbols=["TQQQ"], timeframe=asked))
    assert data.timeframe == resolved
    line = source_line(summarise_source(inspect_bars(data, SessionSpec(calendar="24/7")), data))
    assert line == f"TQQQ: 5m bars of tqqq_5m.csv, 2024-01-02 to 2024-01-03{end}"


def test_where_no_file_is_named_bars_are_hourly() -> None:
    assert resolve_data(DataSpec()).timeframe == "1h"
    assert resolve_data(DataSpec("synthetic")).timeframe == "1h"
    assert resolve_data(DataSpec("ccxt", source_timeframe="5m")).timeframe == "5m"


@pytest.mark.parametrize(
    ("data", "reader"),
    [
        (DataSpec(path="x.csv"), "data.path='x.csv' is not read by data.provider=embedded.*data=file"),
        (DataSpec("synthetic", time_zone="Asia/Tokyo"), "data.time_zone='Asia/Tokyo' .*data=file"),
        (DataSpec("file", path="x.csv", exchange="kraken"), "data.exchange='kraken' .*=ccxt, which reads"),
        (DataSpec("ccxt", adjustment="split"), "data.adjustment='split' .*data=yfinance or data=alpaca"),
        (DataSpec("yfinance", path="x.csv"), "data.path='x.csv' is not read by data.provider=yfinance"),
    ],
)  # fmt: skip
def test_keys_that_the_provider_does_not_read_are_refused_by_name(data: DataSpec, reader: str) -> None:
    with pytest.raises(BadInputError, match=reader):
        refuse_unread(data)


def test_a_timeframe_of_phase_one_that_the_bars_cannot_make_is_named_by_its_key(tmp_path: Path) -> None:
    data = five_minutes(tmp_path)
    source = summarise_source(inspect_bars(data, SessionSpec(calendar="24/7")), data)
    check_timeframes(source, ["5m", "1h"])
    with pytest.raises(BadInputError, match=r"phase.timeframe.timeframes=\['1m', '1h'\]: 1m is finer than"):
        check_timeframes(source, ["1m", "1h"])
