"""Checks of what prices and volume do over time: splits, changed units, dead columns."""

from collections.abc import Iterator

import numpy as np

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.bars import RawBars, utc_text
from optimize.data.quality import Finding, counted, find, portion
from optimize.data.spec import COLUMNS, DAY_NS

PARTS = (1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100, 1000)  # new shares for an old one
SPLIT_LOGS = np.log(np.array([*PARTS, *(1 / part for part in PARTS)]))
SPLIT_TOLERANCE = 0.04  # log; what the price may have moved by itself over the night of a split
MAX_SPLIT_GAP_DAYS = 10  # over a longer silence any price can be reached
SESSIONS = 20  # before and after a jump that it is judged by
SPLIT_RANGE = 2.5  # times the range, a day's or a month's, that a split leaves alone
SPLIT_TURNOVER = 3.0  # times the day's turnover; a crash of that size is the talk of the day
LEVEL_SESSIONS = 10
LEVEL_RATIO = 7.0  # of median volume; ten times what it was, noise allowed for
EDGE_SESSIONS = 5
EDGE_RATIO = 5.0  # of median volume right after and right before, which growth over weeks does not reach
LEVEL_KEPT = 0.5  # of the new level's logarithm, over the KEPT_SESSIONS that follow
KEPT_SESSIONS = 60


def level_findings(raw: RawBars, session: IntArray) -> list[Finding]:
    """Return the findings on clean rows in order; session (R,) is the calendar row of each."""
    return [*_constant(raw), *_zero_volume(raw), *_splits(raw, session), *_volume_levels(raw, session)]


def _constant(raw: RawBars) -> Iterator[Finding]:
    """Yield columns that never change; a volume of zero is the next check's."""
    for name, column in zip(COLUMNS[1:6], raw.ohlcv.T, strict=True):
        if column[0] != 0 and (column == column[0]).all():
            check = "constant_close" if name == "close" else "constant"
            found = f"{name} is {column[0]:g} in all {len(column):,} bars"
            yield find(check, raw, raw.timestamp, found, "check the file and data.columns")


def _zero_volume(raw: RawBars) -> Iterator[Finding]:
    """Yield the bars without volume."""
    silent = raw.ohlcv[:, 4] == 0
    stamps = raw.timestamp[silent]
    rest = "leave out the features that need volume"
    if not raw.has_volume:
        remedy = f"where the file has one under another name: data.columns.volume=NAME; else {rest}"
        yield find("zero_volume", raw, stamps, "no volume column, so volume is 0", remedy)
    elif len(stamps):
        remedy = rest if silent.all() else "the price of such a bar may be stale"
        yield find("zero_volume", raw, stamps, f"{portion(silent)} without volume", remedy)


def _splits(raw: RawBars, session: IntArray) -> Iterator[Finding]:
    """Yield the jumps between bars that look like splits: a simple ratio, to stay, on an ordinary day."""
    gap = np.log(raw.ohlcv[1:, 0] / raw.ohlcv[:-1, 3])
    miss = np.abs(gap[:, None] - SPLIT_LOGS).min(axis=1) if len(gap) else gap
    close_by = np.diff(raw.timestamp) <= MAX_SPLIT_GAP_DAYS * DAY_NS
    rows = np.flatnonzero((miss <= SPLIT_TOLERANCE) & close_by) + 1
    block = max(1, round(len(session) / len(np.unique(session))))
    rows = np.array([row for row in rows if _is_ordinary(raw, int(row), block)], dtype=np.int64)
    if len(rows):
        remedy = (
            "use prices adjusted for splits (data.adjustment=split, or another file), or "
            "data.severity.split=warn where the price did move"
        )
        told = ", ".join(_tell_split(raw, int(row)) for row in rows[:5])
        found = f"{counted(len(rows), 'jump')} like a split ({told}{', ...' if rows[5:].size else ''})"
        yield find("split", raw, raw.timestamp[rows], found, remedy)


def _is_ordinary(raw: RawBars, row: int, block: int) -> bool:
    """Return whether prices stay where they jumped to, and range and turnover are what they were before.

    A crash goes on falling or comes back, and its day's range and turnover stand out. Blocks are
    sessions counted from the jump, so that it lies in none of them.
    """
    before, after = slice(max(0, row - SESSIONS * block), row), slice(row, row + SESSIONS * block)
    ranges, turnover = _blocks(raw, before, block, backwards=True)
    ranges_after, turnover_after = _blocks(raw, after, block, backwards=False)
    usual = float(np.median(ranges if len(ranges) >= 3 else ranges_after))
    jump = abs(np.log(raw.ohlcv[row, 0] / raw.ohlcv[row - 1, 3]))
    moved = abs(np.log(np.median(raw.ohlcv[after, 3]) / raw.ohlcv[row, 0]))
    calm = ranges_after[0] <= SPLIT_RANGE * usual
    part_of_a_session = len(raw.timestamp) - row < block
    alike = part_of_a_session or usual / SPLIT_RANGE <= np.median(ranges_after) <= SPLIT_RANGE * usual
    talked = float(np.median(turnover)) if len(turnover) else 0.0
    quiet = talked == 0 or turnover_after[0] <= SPLIT_TURNOVER * talked
    return bool(calm and alike and quiet and moved <= jump / 2)


def _blocks(raw: RawBars, rows: slice, block: int, *, backwards: bool) -> tuple[FloatArray, FloatArray]:
    """Return log range and turnover of each whole block of rows, of what there is where none is whole."""
    ohlcv = raw.ohlcv[rows]
    whole = len(ohlcv) // block
    if whole:
        ohlcv = ohlcv[-whole * block :] if backwards else ohlcv[: whole * block]
    cut = ohlcv.reshape(max(1, whole), -1, 5)
    ranges = np.log(cut[:, :, 1].max(axis=1) / cut[:, :, 2].min(axis=1))
    return ranges, (cut[:, :, 3] * cut[:, :, 4]).sum(axis=1)


def _tell_split(raw: RawBars, row: int) -> str:
    """Return a jump as `2:1 at 2005-02-28, 88.99 -> 44.68`."""
    before, after = raw.ohlcv[row - 1, 3], raw.ohlcv[row, 0]
    nearest = float(SPLIT_LOGS[np.abs(np.log(before / after) - SPLIT_LOGS).argmin()])
    part = float(np.exp(abs(nearest)))
    new, old = (round(2 * part), 2) if abs(part - round(part)) > 0.1 else (round(part), 1)
    ratio = f"{new}:{old}" if nearest > 0 else f"{old}:{new}"
    return f"{ratio} at {utc_text(raw.timestamp[row])[:10]}, {before:g} -> {after:g}"


def _volume_levels(raw: RawBars, session: IntArray) -> Iterator[Finding]:
    """Yield the sessions at which volume changes by an order of magnitude at once and stays there."""
    first = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
    volume = np.add.reduceat(raw.ohlcv[:, 4], first)
    first, volume = first[volume > 0], volume[volume > 0]
    if len(volume) < 2 * LEVEL_SESSIONS:
        return
    level = np.log(volume)
    change, edge = _change(level, LEVEL_SESSIONS), _change(level, EDGE_SESSIONS)
    chosen = (np.abs(change) >= np.log(LEVEL_RATIO)) & (np.abs(edge) >= np.log(EDGE_RATIO))
    rows = [row for row in _peaks(np.abs(edge), chosen) if _stays(level, row, change[row])]
    if rows:
        stamps = raw.timestamp[first[rows]]
        told = ", ".join(
            f"x {np.exp(change[row]):.3g} at {utc_text(stamp)[:10]}"
            for row, stamp in zip(rows[:5], stamps, strict=False)
        )
        remedy = "bring volume to one unit (shares, lots, coins), or leave out the features that need it"
        yield find("volume_level", raw, stamps, f"volume changes its level for good ({told})", remedy)


def _change(level: FloatArray, width: int) -> FloatArray:
    """Return the median of the `width` sessions from each on less that of those before, 0 at the ends."""
    median = np.median(np.lib.stride_tricks.sliding_window_view(level, width), axis=1)
    change = np.zeros(len(level))
    change[width : len(level) - width + 1] = median[width:] - median[:-width]
    return change


def _peaks(height: FloatArray, chosen: BoolArray) -> list[int]:
    """Return the row of the greatest height in each run of chosen rows."""
    rows = np.flatnonzero(chosen)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > LEVEL_SESSIONS) + 1) if len(rows) else []
    return [int(run[height[run].argmax()]) for run in runs]


def _stays(level: FloatArray, row: int, change: float) -> bool:
    """Return whether the sessions that follow keep most of a change that begins at row."""
    then = np.median(level[row - LEVEL_SESSIONS : row])
    kept = np.median(level[row : row + KEPT_SESSIONS]) - then
    return bool(kept / change >= LEVEL_KEPT)
