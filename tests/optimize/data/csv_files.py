"""Small CSV files to read."""

from pathlib import Path
from typing import Any

from optimize.data.bars import Bars
from optimize.data.market import load_bars
from optimize.data.sources.files.read import read_bars_files
from optimize.data.spec import DataSpec

HOURS = [f"2024-03-01 {hour:02d}:00:00" for hour in range(6)]


def write(path: Path, stamp_column: list[Any], names: str = "timestamp,open,high,low,close,volume") -> Path:
    rows = [f"{value},10,12,9,{11 + 0.1 * (row % 10)},5" for row, value in enumerate(stamp_column)]
    path.write_text("\n".join([names, *rows]) + "\n")
    return path


def load(path: Path | str, **settings: Any) -> Bars:
    return load_bars(DataSpec(provider="file", path=str(path), **settings))


def assumed(path: Path | str, **settings: Any) -> tuple[str, ...]:
    """Return the assumptions made in reading the first symbol."""
    spec = DataSpec(provider="file", path=str(path), **settings)
    return read_bars_files(spec)[0].assumptions
