"""Checks of what prices and volume do over time: splits, changed units, dead columns."""

from collections.abc import Iterator

import numpy as np

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.bars import RawBars, utc_text
from optimize.data.quality.findings import Finding, counted, find, portion
from optimize.data.quality.spikes import spike_findings, spike_rows
from optimize.data.spec import COLUMNS, DAY_NS

PARTS = (1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100, 1000)  # new shares for an old one
SPLIT_LOGS = np.log(np.array([*PARTS, *(1 / part for part in PARTS)]))
SPLIT_TOLERANCE = 0.04  # log; what the price may have moved by itself over the night of a split
ANY_RATIO = np.log(2.8)  # a jump beyond 3x that stays on an ordinary day is one, whatever its ratio
MAX_SPLIT_GAP_DAYS = 10  # over a longer silence any price can be reached
SESSIONS = 20  # before and after a jump that it is judged by
SPLIT_RANGE = 2.5  # times the range, a day's or a month's, that a split leaves alone
SPLIT_TURNOVER = 3.0  # times the day's turnover; a crash of that size is the talk of the day
SEEN_SHARE = 0.995  # of opens that equal the close before; sources with opens of their own reach 0.55
MIN_OPENS = 100
SYNTHETIC = "synthetic "  # made bars have no opens of their own, as anybody expects
FREE_STRETCH = 24  # bars without a spread that follow one another
FREE_SHARE = 0.05  # of all bars
EDGE_SESSIONS = 5  # right before and right after, over which growth of weeks does not reach the ratio
LEVEL_SESSIONS = 20
LEVEL_RATIO = 5.0  # of median volume; ten times what it was, noise allowed for
KEPT_SESSIONS = 60
LEVEL_KEPT = 0.5  # of the change's logarithm, from the KEPT_SESSIONS before to those after


def level_findings(raw: RawBars) -> list[Finding]:
    """Return the findings on the prices, spreads and volumes of clean rows in order."""
    return [
        *_constant(raw),
        *spike_findings(raw),
        *_seen_opens(raw),
        *_zero_volume(raw),
        *_zero_spread(raw),
    ]


def jump_findings(raw: RawBars, session: IntArray, period: IntArray, split_remedy: str) -> list[Finding]:
    """Return the jumps from bar to bar of a period (P,), by clean rows of it and around it.

    session (R,) is the calendar row of each row.
    """
    kept: BoolArray = np.isin(raw.timestamp, period)
    return [*_splits(raw, session, kept, split_remedy), *_volume_levels(raw, session, kept)]


def _constant(raw: RawBars) -> Iterator[Finding]:
    """Yield columns that never change; a volume of zero is the next check's."""
    for name, column in zip(COLUMNS[1:6], raw.ohlcv.T, strict=True):
        if column[0] != 0 and (column == column[0]).all():
            check = "constant_close" if name == "close" else "constant"
            found = f"{name} is {column[0]:g} in all {len(column):,} bars"
            yield find(check, raw, raw.timestamp, found, "check the file and data.columns")


def _seen_opens(raw: RawBars) -> Iterator[Finding]:
    """Yield that the source has no opens of its own: each is the close before."""
    count = len(raw.timestamp)
    if raw.source.startswith(SYNTHETIC) or count < MIN_OPENS:
        return
    same = float((raw.ohlcv[1:, 0] == raw.ohlcv[:-1, 3]).mean())
    if same >= SEEN_SHARE:
        found = f"the open is the close before on {100 * same:.4g} % of the bars"
        remedy = "env.fill=open then fills at the close that was seen, without a gap: costs must cover that"
        yield find("seen_open", raw, raw.timestamp, found, remedy)


def _zero_volume(raw: RawBars) -> Iterator[Finding]:
    """Yield the bars without volume."""
    silent = raw.ohlcv[:, 4] == 0
    stamps = raw.timestamp[silent]
    rest = "leave out the features that need volume"
    if not raw.has_volume:
        remedy = f"where the file has one under another name: data.columns.volume=NAME; else {rest}"
        yield find("zero_volume", raw, stamps, "no volume column, so volume is 0", remedy)
    elif len(stamps):
        remedy = (
            rest
            if silent.all()
            else "those after volume came in do not trade, their price may be stale (data.zero_volume)"
        )
        yield find("zero_volume", raw, stamps, f"{portion(silent)} without volume", remedy)


def _zero_spread(raw: RawBars) -> Iterator[Finding]:
    """Yield the bars without a spread, where the source has one and they are many or follow one another."""
    free = raw.spread == 0
    if free.all():  # no spread at all: cost.spread_from_data refuses that by name
        return
    edges = np.flatnonzero(np.diff(free.astype(np.int8), prepend=0, append=0))
    longest = int((edges[1::2] - edges[::2]).max(initial=0))
    if longest >= FREE_STRETCH or free.mean() >= FREE_SHARE:
        found = f"{portion(free)} with a spread of 0, {longest:,} of them in one stretch"
        remedy = "trades at cost.spread_from_data=true pay none there: repair the file or use cost.spread_bps"
        yield find("zero_spread", raw, raw.timestamp[free], found, remedy)


def _splits(raw: RawBars, session: IntArray, kept: BoolArray, remedy: str) -> Iterator[Finding]:
    """Yield the jumps between bars that look like splits: a simple ratio, to stay, on an ordinary day."""
    gap = np.log(raw.ohlcv[1:, 0] / raw.ohlcv[:-1, 3])
    miss = np.abs(gap[:, None] - SPLIT_LOGS).min(axis=1) if len(gap) else gap
    close_by = np.diff(raw.timestamp) <= MAX_SPLIT_GAP_DAYS * DAY_NS
    looked_for = (miss <= SPLIT_TOLERANCE) | (np.abs(gap) >= ANY_RATIO)
    spike = spike_rows(raw.ohlcv[:, :4])
    rows = np.flatnonzero(looked_for & close_by & kept[1:] & kept[:-1] & ~(spike[1:] | spike[:-1])) + 1
    block = max(1, round(len(session) / len(np.unique(session))))
    rows = np.array([row for row in rows if is_ordinary(raw, int(row), block)], dtype=np.int64)
    if len(rows):
        remedy = f"{remedy}, or data.severity.split=warn where the price did move"
        told = ", ".join(_tell_split(raw, int(row)) for row in rows[:5])
        found = f"{counted(len(rows), 'jump')} like a split ({told}{', ...' if rows[5:].size else ''})"
        yield find("split", raw, raw.timestamp[rows], found, remedy)


def is_ordinary(raw: RawBars, row: int, block: int) -> bool:
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
    change = float(np.log(before / after))
    nearest = float(SPLIT_LOGS[np.abs(change - SPLIT_LOGS).argmin()])
    named = abs(change - nearest) <= SPLIT_TOLERANCE
    part = float(np.exp(abs(nearest if named else change)))
    new, old = (round(2 * part), 2) if abs(part - round(part)) > 0.1 and named else (round(part), 1)
    ratio = f"{new}:{old}" if change > 0 else f"{old}:{new}"
    return f"{ratio} at {utc_text(raw.timestamp[row])[:10]}, {before:g} -> {after:g}"


def _volume_levels(raw: RawBars, session: IntArray, kept: BoolArray) -> Iterator[Finding]:
    """Yield the sessions at which volume changes by an order of magnitude at once and stays there."""
    first = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
    volume = np.add.reduceat(raw.ohlcv[:, 4], first)
    first, volume = first[volume > 0], volume[volume > 0]
    if len(volume) < 2 * EDGE_SESSIONS:
        return
    level = np.log(volume)
    rows = [row for row in level_steps(level) if kept[first[row - 1]] and kept[first[row]]]
    if rows:
        stamps = raw.timestamp[first[rows]]
        told = ", ".join(
            f"x {np.exp(_change(level, row, LEVEL_SESSIONS)):.3g} at {utc_text(stamp)[:10]}"
            for row, stamp in zip(rows[:5], stamps, strict=False)
        )
        found = f"{counted(len(rows), 'change')} of volume to another level for good ({told})"
        remedy = "bring volume to one unit (shares, lots, coins), or leave out the features that need it"
        yield find("volume_level", raw, stamps, found, remedy)


def level_steps(level: FloatArray) -> list[int]:
    """Return the sessions from which on a log level (S,) is another: at once, for weeks and for months."""
    windows = np.lib.stride_tricks.sliding_window_view(level, EDGE_SESSIONS)
    middle, mean = np.median(windows, axis=1), windows.mean(axis=1)
    edge, height = (each[EDGE_SESSIONS:] - each[:-EDGE_SESSIONS] for each in (middle, mean))
    steps = np.flatnonzero(np.abs(edge) >= np.log(LEVEL_RATIO))
    steps = np.array([row for row in steps if _stays(level, int(row) + EDGE_SESSIONS)], dtype=np.int64)
    apart = (np.diff(steps) > EDGE_SESSIONS) | (np.diff(np.sign(edge[steps])) != 0)
    runs = np.split(steps, np.flatnonzero(apart) + 1) if len(steps) else []
    return [int(run[np.abs(height[run]).argmax()]) + EDGE_SESSIONS for run in runs]


def _stays(level: FloatArray, row: int) -> bool:
    """Return whether the level changes over weeks, and months keep most of that."""
    change, kept = (_change(level, row, width) for width in (LEVEL_SESSIONS, KEPT_SESSIONS))
    return bool(abs(change) >= np.log(LEVEL_RATIO) and kept / change >= LEVEL_KEPT)


def _change(level: FloatArray, row: int, width: int) -> float:
    """Return the median of the `width` sessions from row on less that of those before, of what there is."""
    return float(np.median(level[row : row + width]) - np.median(level[max(0, row - width) : row]))
