"""Files that could be read as something else than they are: each doubt is one line that names it."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.errors import BadInputError
from tests.optimize.data.sources.files.test_sources_forms import BARS, FRAME, MS, STAMPS, read, table

HEADER = "time,open,high,low,close,volume"
WEEKDAYS = pd.bdate_range("2024-01-02", periods=len(FRAME))


def days_since(start: str, dates: pd.DatetimeIndex) -> list[int]:
    return [(each - pd.Timestamp(start)).days for each in dates]


@pytest.mark.parametrize("form", ["{t}", "{t}.0"])
def test_whole_days_of_a_spreadsheet_are_dates(tmp_path: Path, form: str) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(table(form + ",{o},{h},{l},{c},{v}", HEADER, days_since("1899-12-30", WEEKDAYS)))
    np.testing.assert_array_equal(read(path).timestamp, WEEKDAYS.as_unit("ns").asi8)


@pytest.mark.parametrize(
    ("stamps", "words"),
    [
        ([f"{day}.0" for day in days_since("1970-01-01", WEEKDAYS)], r"from 2024-01-02 on since 1970"),
        (days_since("1970-01-01", WEEKDAYS), r"or from 1953-12-31 on as a spreadsheet does"),
        ([34_200 + 60 * row for row in range(len(FRAME))], "seconds of a day"),
        ([45_000 + row for row in range(len(FRAME))], r"row numbers, .* days of a spreadsheet \(from 2023"),
    ],
    ids=["days since 1970", "the same as integers", "seconds of a day", "row numbers"],
)
def test_numbers_that_count_days_or_not_are_refused(tmp_path: Path, stamps: list[object], words: str) -> None:
    path = tmp_path / "days.csv"
    path.write_text(table("{t},{o},{h},{l},{c},{v}", HEADER, stamps))
    with pytest.raises(BadInputError, match=words):
        read(path)


def test_rows_that_alternate_between_symbols_are_no_series(tmp_path: Path) -> None:
    mixed = FRAME.assign(symbol=np.where(np.arange(len(FRAME)) % 2, "AA", "BB"))
    mixed.to_csv(tmp_path / "mixed.csv", index=False)
    with pytest.raises(BadInputError, match=r"goes back and forth between symbols \(BB, AA; 29 changes\)"):
        read(tmp_path / "mixed.csv")
    rolls = FRAME.assign(symbol=np.where(np.arange(len(FRAME)) < 12, "ESH4", "ESM4"))
    rolls.loc[13, "symbol"] = "ESH4"  # the older contract had more volume once again
    rolls.to_csv(tmp_path / "rolls.csv", index=False)
    assert "read as one series" in "; ".join(read(tmp_path / "rolls.csv").assumptions)


def test_a_stamp_unlike_the_others_is_named_with_its_row(tmp_path: Path) -> None:
    stamps = [*map(str, STAMPS[:-1]), "Average"]
    (tmp_path / "footer.csv").write_text(table("{t},{o},{h},{l},{c},{v}", HEADER, stamps))
    with pytest.raises(BadInputError, match=r"'Average' in data row 30"):
        read(tmp_path / "footer.csv")


def test_rows_of_json_of_other_lengths_are_named(tmp_path: Path) -> None:
    rows = [[stamp, *bar] for stamp, bar in zip(MS, BARS, strict=True)]
    rows[6] = rows[6][:-1]
    (tmp_path / "rows.json").write_text(json.dumps(rows, default=int))
    with pytest.raises(BadInputError, match="row 7 of its JSON has 5 values and the first has 6"):
        read(tmp_path / "rows.json")


@pytest.mark.parametrize("name", ["bars.tar.gz", "bars.csv"])
def test_a_tar_archive_is_named_as_one(tmp_path: Path, name: str) -> None:
    FRAME.to_csv(tmp_path / "inside.csv", index=False)
    with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as archive:
        archive.add(tmp_path / "inside.csv", "inside.csv")
    with pytest.raises(BadInputError, match="is a tar archive: unpack it"):
        read(tmp_path / name)


def test_a_link_to_nothing_among_parts_is_refused_and_a_text_beside_them_left_out(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    FRAME[:15].to_csv(parts / "btc_1.csv", index=False)
    (parts / "README.txt").write_text("Bars of an exchange\n")
    FRAME[15:].to_csv(parts / "btc_2.csv", index=False)
    assert len(read(parts).timestamp) == len(FRAME)
    (parts / "btc_3.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(BadInputError, match=r"btc_3.csv is a link to a file that is not there"):
        read(parts)


def test_fixed_point_prices_are_named(tmp_path: Path) -> None:
    prices = ["open", "high", "low", "close"]
    scaled = FRAME.assign(**{name: (FRAME[name] * 1e9).round().astype("int64") for name in prices})
    scaled.to_parquet(tmp_path / "scaled.parquet")
    assert "Databento's unit is 1e-9" in "; ".join(read(tmp_path / "scaled.parquet").assumptions)
    FRAME.to_parquet(tmp_path / "plain.parquet")
    assert "Databento" not in "; ".join(read(tmp_path / "plain.parquet").assumptions)


@pytest.mark.parametrize(
    "header",
    [
        "Date,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME",
        "date,OPENPRC,ASKHI,BIDLO,PRC,VOL",
        "datadate,prcod,prchd,prcld,prccd,cshtrd",
    ],
    ids=["Bloomberg", "CRSP", "Compustat"],
)
def test_columns_of_terminals_and_of_research_databases_are_known(tmp_path: Path, header: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(table("{t},{o},{h},{l},{c},{v}", header, [str(each.date()) for each in WEEKDAYS]))
    raw = read(path)
    np.testing.assert_array_equal(raw.ohlcv, np.array(BARS, dtype=np.float64))
    assert "columns taken as" in "; ".join(raw.assumptions)
