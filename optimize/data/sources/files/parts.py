"""Find the files of each symbol: one file, or the parts in a folder or glob."""

import glob
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np

from optimize.data.bars import RawBars, usual_spacing, utc_text
from optimize.data.sources.files.formats import READ, READABLE_SUFFIXES, check_suffix
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError, require

TIMEFRAME_WORD = re.compile(r"\d+(m|min|h|d)|(m|h|d)\d+|daily|hourly|minute|\d+minute|\d+hour", re.IGNORECASE)
GLOB = re.compile(r"[*?\[]")
BESIDE = ("readme", "license", "licence", "changelog")  # text files that are no parts
ENOUGH = 5  # rows needed to determine a part's spacing


def symbol_parts(spec: DataSpec) -> dict[str, tuple[Path, ...]]:
    """Return the existing files of each symbol; without data.symbols the file's name gives the symbol."""
    if not spec.path:
        raise BadInputError("data.path is missing: name a CSV or Parquet file, such as data.path=prices.csv")
    template = str(spec.path)
    if "{symbol}" in template:
        given = "given where data.path holds {symbol}, such as data.symbols=[btc,eth]"
        require(bool(spec.symbols), "data.symbols", spec.symbols, given)
        return {name: _files(template.replace("{symbol}", name)) for name in spec.symbols}
    parts = _files(template)
    return dict.fromkeys(spec.symbols or [_symbol(parts)], parts)


def symbol_files(spec: DataSpec) -> dict[str, Path]:
    """Return all files to be read, by symbol, or by symbol and part if it has several."""
    found: dict[str, Path] = {}
    for symbol, parts in symbol_parts(spec).items():
        several = {f"{symbol}, part {at}": path for at, path in enumerate(parts, start=1)}
        found |= {symbol: parts[0]} if len(parts) == 1 else several
    return found


def symbol_of(stem: str) -> str:
    """Return the word next to a timeframe (eurusd_1h_2017, daily_aapl), or the whole name without one."""
    words = stem.split("_")
    if len(words) == 1 or words[1].isdigit():
        return words[0].upper()
    at = next((row for row, word in enumerate(words) if TIMEFRAME_WORD.fullmatch(word)), None)
    if at is None:
        return stem.upper()
    return words[at - 1 if at else 1].upper()


def stated_symbol(path: str | None) -> str | None:
    """Return the symbol that a file's name states next to a timeframe or a year, else None."""
    if path is None or "{symbol}" in path or GLOB.search(path):
        return None
    words = Path(path).name.partition(".")[0].split("_")
    stated = any(TIMEFRAME_WORD.fullmatch(word) for word in words) or (len(words) > 1 and words[1].isdigit())
    return symbol_of("_".join(words)) if stated and len(words) > 1 else None


def join_parts(parts: Sequence[RawBars], source: str) -> RawBars:
    """Concatenate the parts of one symbol in order of time; refuse overlaps and different spacings."""
    if len(parts) == 1:
        return parts[0]
    ordered = sorted(parts, key=lambda part: int(part.timestamp[0]))
    _refuse_other_spacing(ordered)
    for one, two in pairwise(ordered):
        if two.timestamp[0] <= one.timestamp[-1]:
            raise BadInputError(
                f"{two.source} begins at {utc_text(two.timestamp[0])}, before {one.source} ends at "
                f"{utc_text(one.timestamp[-1])}: parts of one symbol follow one another; of several symbols "
                "name "
                "each file with 'data.path=\"{symbol}.csv\"' data.symbols=[...]"
            )
    notes = dict.fromkeys(note for part in ordered for note in part.assumptions)
    return replace(
        ordered[0],
        source=source,
        timestamp=np.concatenate([part.timestamp for part in ordered]),
        ohlcv=np.concatenate([part.ohlcv for part in ordered]),
        spread=np.concatenate([part.spread for part in ordered]),
        has_volume=any(part.has_volume for part in ordered),
        assumptions=(f"{len(ordered)} files read as parts of one symbol", *notes),
    )


def _refuse_other_spacing(parts: Sequence[RawBars]) -> None:
    """Refuse parts whose spacings differ."""
    spacings = {
        part.source: usual_spacing(part.timestamp)[0] for part in parts if len(part.timestamp) > ENOUGH
    }
    first = next(iter(spacings), None)
    other = next((source for source in spacings if spacings[source] != spacings[str(first)]), None)
    if first is not None and other is not None:
        raise BadInputError(
            f"{first} has bars of {spacings[first]} and {other} of {spacings[other]}: use parts of one "
            "timeframe"
        )


def _symbol(parts: Sequence[Path]) -> str:
    """Return the symbol common to the names of the parts, or the name of their folder."""
    if len(parts) == 1:
        return symbol_of(_stem(parts[0]))
    stems = [_stem(path) for path in parts]
    pairs = list(takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False)))
    shared = stems[0][: len(pairs)]
    words = re.split(r"[-_. ]", re.sub(r"[-_. \d]*$", "", shared))
    return symbol_of("_".join(words)) if words[0] else parts[0].parent.name.upper()


def _stem(path: Path) -> str:
    """Return a file name without its format suffixes."""
    name = path.name
    while Path(name).suffix.lower() in READ:
        name = Path(name).stem
    return name


def _files(text: str) -> tuple[Path, ...]:
    """Return the absolute paths that data.path names; refuse missing files and unknown suffixes."""
    path, mode = _resolved(text)
    if stat.S_ISREG(mode):
        check_suffix(path, text)
        return (path,)
    if stat.S_ISDIR(mode):
        return _in_folder(path, text)
    if mode:
        raise BadInputError(f"data.path={text} is not a regular file ({path}): type data.path=FILE.csv")
    if GLOB.search(text):
        return _matching(path, text)
    raise BadInputError(f"data.path={text}: no such file {path}; type data.path=FILE.csv or FILE.parquet")


def _resolved(text: str) -> tuple[Path, int]:
    """Return the absolute path and its mode, 0 if it does not exist."""
    try:
        path = Path(text).expanduser().resolve()
        return path, path.stat().st_mode if path.exists() else 0
    except (OSError, RuntimeError, ValueError) as error:  # too long, no access, unknown user, NUL byte
        reason = getattr(error, "strerror", None) or error
        raise BadInputError(f"data.path={text} cannot be opened ({reason}): give another path") from None


def _in_folder(path: Path, text: str) -> tuple[Path, ...]:
    """Return the supported files of a folder as the parts of one symbol."""
    try:
        found = sorted(each for each in path.iterdir() if _is_part(each))
    except OSError as error:
        raise BadInputError(
            f"data.path={text} cannot be opened ({error.strerror}): give another path"
        ) from None
    if not found:
        raise BadInputError(
            f"data.path={text} is a folder ({path}) without a readable file: name one file in "
            f"it, {READABLE_SUFFIXES}"
        )
    return tuple(found)


def _matching(path: Path, text: str) -> tuple[Path, ...]:
    """Return the supported files that a glob matches as the parts of one symbol."""
    found = sorted(each for each in map(Path, glob.glob(str(path), recursive=True)) if _is_part(each))
    if not found:
        raise BadInputError(f"data.path={text}: no file of {READABLE_SUFFIXES} matches {path}")
    return tuple(found)


def _is_part(path: Path) -> bool:
    """Return whether a path is a file of a supported format; refuse a broken link, which would hide a gap."""
    if path.suffix.lower() not in READ or path.name.startswith(".") or path.stem.lower() in BESIDE:
        return False
    if path.is_symlink() and not path.exists():
        raise BadInputError(f"{path} is a link to a file that is not there: restore that, or remove the link")
    return path.is_file()
