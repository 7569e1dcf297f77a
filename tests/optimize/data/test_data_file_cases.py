"""Every file of the folder of cases gives the right value, or one line that names what mends it.

One table for each question: READING (formats, columns, numbers, stamps), QUALITY (calendar verdict and
findings) and JOINING (several symbols). A case is added to the table of its question.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from optimize.cli.dispatch import compose
from optimize.data.bars import RawBars
from optimize.data.dataset import load_bars
from optimize.data.providers import provider_of
from optimize.data.quality.findings import Finding
from optimize.data.quality.report import inspect
from optimize.errors import BadInputError
from tests.conftest import REPOSITORY

CASES = REPOSITORY.parent / "shared" / "cases" / "files"
DAILY = ("data.timeframe=1d",)


@dataclass(frozen=True)
class Case:
    """One command, and what is right: values where it loads, words where it is refused or found."""

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


READING: list[Case] = [
    Case("C01_aa_1h.csv", rows=35, first="2024-01-08T14:30", close=95.8751, volume=969),
]

QUALITY: list[Case] = []

JOINING: list[Case] = []


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
    (config,) = compose("data", ["data=file", path, *case.options])
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
        report = inspect(config.data, config.session)
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
        assert load_bars(config.data).symbols == case.symbols


def _check_rows(case: Case, raw: RawBars) -> None:
    """Compare what was read of the first symbol with what the case names."""
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


def _text(finding: Finding) -> str:
    return f"{finding.severity} {finding.found}: {finding.remedy}"
