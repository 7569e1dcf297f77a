"""Parse numbers written as text: decimal marks, thousands separators, currency signs, K and M."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from envs.types import FloatArray
from optimize.data.sources.files.tables import Table, line_of_row
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

CURRENCY = r"[$€£¥₹₽₩฿]|\b(?:USDT|USD|EUR|GBP|JPY|CHF|AUD|CAD|INR)\b"
BLANKS = r"[\s\u00a0\u202f\u2009\u2019'_]"  # allowed between groups of digits
GROUPED = re.compile(r"[-+]?\d{1,3}(?:[.,]\d{3})+")
WRITTEN_NUMBER = r"[-+]?[\d.,]+(?:[eE][-+]?\d+)?[kmbtKMBT]?"
MISSING = frozenset(("", "-", "--", "nan", "null", "none", "n/a", "na", "."))
POWERS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
SUFFIXED = re.compile(r"([-+]?[\d.]+)([kmbt])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NumberMarks:
    """Decimal mark and thousands separator; None if there is no separator."""

    decimal: str
    thousands: str | None


def read_numbers(
    table: Table, names: Mapping[str, str | None], spec: DataSpec
) -> tuple[dict[str, FloatArray], tuple[str, ...]]:
    """Return our columns as float64 (T,), zeros for absent ones, and notes; refuse other text."""
    frame = table.frame
    present = {ours: column for ours, column in names.items() if column is not None}
    _refuse_other_kinds(frame, present, table)
    written = [column for column in present.values() if not _is_numeric(frame[column])]
    notes: list[str] = []
    values: dict[str, FloatArray] = {ours: np.zeros(len(frame)) for ours in names if names[ours] is None}
    if not written and spec.decimal in (None, ".") and spec.thousands is None:
        return values | {ours: _plain(frame[column]) for ours, column in present.items()}, ()
    if table.text is not None:
        frame = (
            table.text.as_text()
        )  # pandas reads 1.234 as a number even if other columns show decimal commas
        written = list(present.values())
    values |= {ours: _plain(frame[column]) for ours, column in present.items() if column not in written}
    present = {ours: column for ours, column in present.items() if column in written}
    texts = {ours: _cleaned(frame[column], notes) for ours, column in present.items()}
    marks, mark_notes = _marks(texts, spec, table)
    for ours, column in present.items():
        values[ours] = _parse(texts[ours], marks, column, table, frame[column], volume=ours == "volume")
    if "volume" in texts and texts["volume"].str.contains("[KMBTkmbt]$", regex=True).any():
        notes.append("volume with K, M or B read as thousands, millions or billions")
    return values, tuple(dict.fromkeys([*mark_notes, *notes]))


def _is_numeric(values: "pd.Series[Any]") -> bool:
    return pd.api.types.is_numeric_dtype(values) and not isinstance(values.dtype, pd.CategoricalDtype)


def _plain(values: "pd.Series[Any]") -> FloatArray:
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def _refuse_other_kinds(frame: pd.DataFrame, present: Mapping[str, str], table: Table) -> None:
    """Refuse columns of dates, durations, booleans and complex numbers, which would convert to float."""
    for ours, column in present.items():
        values = frame[column]
        kinds = (
            ("dates", pd.api.types.is_datetime64_any_dtype(values)),
            ("lengths of time", pd.api.types.is_timedelta64_dtype(values)),
            ("true and false", pd.api.types.is_bool_dtype(values)),
            ("complex numbers", pd.api.types.is_complex_dtype(values)),
        )
        kind = next((name for name, held in kinds if held), None)
        if kind is not None:
            raise BadInputError(
                f"{table.path}: column {column!r} holds {kind}, not numbers: name another with "
                f"data.columns.{ours}=NAME"
            )


def _cleaned(values: "pd.Series[Any]", notes: list[str]) -> "pd.Series[str]":
    """Return numbers as text without currency signs, blanks and words for missing values."""
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip()
    text = text.str.replace("\u2212", "-", regex=False)
    signed = text.str.contains(CURRENCY, regex=True)
    if signed.any():
        shown = re.search(CURRENCY, str(text[signed].iloc[0]))
        notes.append(f"the sign of currency {shown[0] if shown else ''} left out of numbers")
        text = text.str.replace(CURRENCY, "", regex=True)
    text = text.str.replace(BLANKS, "", regex=True)
    text = text.str.replace(r"^\((.*)\)$", r"-\1", regex=True)
    return text.where(~text.str.lower().isin(MISSING), "")


def _marks(
    texts: Mapping[str, "pd.Series[str]"], spec: DataSpec, table: Table
) -> tuple[NumberMarks, list[str]]:
    """Return the marks of the numbers: from the settings, or as the prices show unambiguously."""
    if spec.decimal is not None or spec.thousands is not None:
        decimal = spec.decimal or ("." if spec.thousands != "." else ",")
        return NumberMarks(decimal, spec.thousands or _implied(texts, decimal)), []
    prices = [text for ours, text in texts.items() if ours not in ("volume", "spread")]
    marks = _shown(prices or list(texts.values()))
    if marks is None:
        sample = next(value for text in texts.values() for value in text if "," in value)
        raise BadInputError(
            f"{table.path}: {sample!r} is a number with a decimal comma or with thousands: choose one by "
            "'data.decimal=\",\"' or 'data.thousands=\",\"'"
        )
    marks = _with_groups(marks, texts)
    if marks == NumberMarks(".", None):
        return marks, []
    between = f" and {marks.thousands!r} between thousands" if marks.thousands else ""
    return marks, [f"numbers read with decimal mark {marks.decimal!r}{between}"]


def _implied(texts: Mapping[str, "pd.Series[str]"], decimal: str) -> str | None:
    """Return the thousands separator implied by a decimal mark, if some number contains it."""
    other = "," if decimal == "." else "."
    return other if any(text.str.contains(other, regex=False).any() for text in texts.values()) else None


def _with_groups(marks: NumberMarks, texts: Mapping[str, "pd.Series[str]"]) -> NumberMarks:
    """Add the thousands separator if only the volume has one."""
    other = "," if marks.decimal == "." else "."
    if marks.thousands is not None or "volume" not in texts:
        return marks
    marked = texts["volume"][texts["volume"].str.contains(other, regex=False)]
    grouped = len(marked) > 0 and bool(marked.str.fullmatch(GROUPED).all())
    return NumberMarks(marks.decimal, other) if grouped else marks


def _shown(texts: Iterable["pd.Series[str]"]) -> NumberMarks | None:
    """Return the marks that the numbers show; None if they are ambiguous."""
    values = pd.concat(list(texts), ignore_index=True).drop_duplicates()
    values = values[values.str.fullmatch(WRITTEN_NUMBER)]
    comma, dot = values.str.contains(",", regex=False), values.str.contains(".", regex=False)
    both = values[comma & dot]
    if len(both):
        last_comma = bool((both.str.rfind(",") > both.str.rfind(".")).all())
        return NumberMarks(",", ".") if last_comma else NumberMarks(".", ",")
    if not comma.any():
        many = bool((values.str.count(r"\.") > 1).any())
        return NumberMarks(",", ".") if many else NumberMarks(".", None)
    if dot.any():  # 999.50 beside 1,000
        return NumberMarks(".", ",")
    grouped = values[comma].str.fullmatch(GROUPED)
    if not grouped.all() or values[comma].str.match(r"[-+]?0").any():
        return NumberMarks(",", None)
    if (values.str.count(",") > 1).any():
        return NumberMarks(".", ",")
    return None


def _with_mark(marks: NumberMarks) -> str:
    return "" if marks.decimal == "." else f" with decimal mark {marks.decimal!r}"


def _parse(
    text: "pd.Series[str]",
    marks: NumberMarks,
    column: str,
    table: Table,
    came: "pd.Series[Any]",
    *,
    volume: bool,
) -> FloatArray:
    """Convert text to numbers (T,); refuse the first value that is not a number, naming its row."""
    wrong = pd.Series(False, index=text.index)
    if marks.thousands in (",", "."):
        marked = text.str.contains(marks.thousands, regex=False)
        mark, point = re.escape(marks.thousands), re.escape(marks.decimal)
        grouped = rf"[-+]?\d{{1,3}}(?:{mark}\d{{2,3}})*{mark}\d{{3}}(?:{point}\d*)?\D*"  # 1,234.5 or 1,23,456
        wrong = marked & ~text.str.fullmatch(grouped)
        text = text.str.replace(marks.thousands, "", regex=False)
    if marks.decimal == ",":
        text = text.str.replace(",", ".", regex=False)
    numbers = pd.to_numeric(text.where(text != "", None), errors="coerce")
    bad = wrong | (numbers.isna() & (text != ""))
    if volume and bad.any():
        parts = text[bad].str.extract(SUFFIXED)
        scaled = pd.to_numeric(parts[0], errors="coerce") * parts[1].str.lower().map(POWERS)
        numbers = numbers.astype(np.float64)
        numbers[bad] = scaled
        bad = wrong | (numbers.isna() & (text != ""))
    if bad.any():
        row = int(bad.to_numpy().argmax())
        where = f" (line {line_of_row(table.text, row)} of the file)" if table.text is not None else ""
        raise BadInputError(
            f"{table.path}: column {column!r} holds {came.iloc[row]!r} in data row {row + 1}, not a "
            f"number{_with_mark(marks)}{where}; repair the file or choose another column with data.columns"
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)
