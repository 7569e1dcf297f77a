"""Tables off a terminal fit 120 columns, and name the details that they leave out."""

from collections.abc import Sequence
from typing import Any

import pytest

from optimize.report import tables
from optimize.report.tables import PLAIN_WIDTH, Column, say, show

ROW = {f"key{index}": 0.25 for index in range(11)}
DETAILS = {3, 10}
COLUMNS = [Column(key, f"title_{index:02}", detail=index in DETAILS) for index, key in enumerate(ROW)]


def shown(capsys: pytest.CaptureFixture[str], columns: Sequence[Column]) -> list[str]:
    show([ROW], columns, "table")
    return capsys.readouterr().out.splitlines()


def test_a_pipe_gets_as_few_details_as_fit(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, COLUMNS)
    assert max(map(len, lines)) <= PLAIN_WIDTH
    assert lines[-1].startswith("left out of 120 columns: title_10; COLUMNS=200 ")
    assert sum(line.count("0.25") for line in lines) == len(ROW) - 1


def test_columns_that_are_no_details_follow_in_a_second_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, [Column(each.key, each.title) for each in COLUMNS])
    assert max(map(len, lines)) <= PLAIN_WIDTH
    assert not any("left out" in line for line in lines)
    assert all(any(each.title in line for line in lines) for each in COLUMNS)


def test_a_second_table_repeats_the_columns_by_which_its_rows_differ(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [ROW | {"trial": 7, "window": window} for window in (0, 1)]
    columns = [Column("trial", "trial"), Column("window", "window")]
    show(rows, [*columns, *(Column(each.key, each.title) for each in COLUMNS)], "table")
    headings = [line for line in capsys.readouterr().out.splitlines() if "title_" in line]
    assert len(headings) == 2
    assert all(heading.split()[:2] == ["trial", "window"] for heading in headings)


def test_a_stated_width_shows_every_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    (values,) = [line for line in shown(capsys, COLUMNS) if "0.25" in line]
    assert values.count("0.25") == len(ROW)


def test_a_table_that_fits_keeps_its_details_and_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, COLUMNS[-3:])
    assert lines[1].split() == ["title_08", "title_09", "title_10"]


def test_each_column_is_measured_at_most_twice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    made = tables._table

    def counted(rows: Any, columns: Any, title: str, *, folded: bool) -> Any:
        measured.append(len(columns))
        return made(rows, columns, title, folded=folded)

    monkeypatch.setattr(tables, "_table", counted)
    shown(capsys, [Column(each.key, each.title) for each in COLUMNS])
    *alone, first, second = measured  # two tables are printed
    assert alone == [1] * 2 * len(COLUMNS)
    assert first + second == len(COLUMNS) + 1


def test_text_between_colons_stays_text(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"key": "a:100:b"}], [Column("key", ":100:", right=False)], "table")
    say("c:100:d")
    out = capsys.readouterr().out
    assert all(text in out for text in ("a:100:b", " :100: ", "c:100:d"))


def test_a_span_of_dates_stays_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    span = "2018-05-06 .. 2018-08-15"
    columns = [Column("test", "test (end exclusive)", right=False, whole=True), *COLUMNS[:4]]
    show([ROW | {"test": span}], columns, "table")
    assert span in capsys.readouterr().out
