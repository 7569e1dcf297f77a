"""Checks of prices and volume over time: spikes, splits, changed units, constant columns."""

from collections.abc import Iterator

import numpy as np

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.bars import RawBars, utc_text
from optimize.data.quality.findings import QualityFinding, make_finding, pluralise, share_text
from optimize.data.spec import BAR_COLUMNS
from optimize.data.timeframes import DAY_NS

PARTS = (1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100, 1000)  # new shares per old share
SPLIT_LOGS = np.log(np.array([*PARTS, *(1 / part for part in PARTS)]))
SPLIT_TOLERANCE = 0.04  # log; ordinary overnight move allowed on top of the split ratio
ANY_RATIO = np.log(2.8)  # log; a larger lasting jump on an ordinary day counts as a split at any ratio
MAX_SPLIT_GAP_DAYS = 10  # after a longer gap any price is plausible
SESSIONS = 20  # sessions before and after a jump that are compared
SPLIT_RANGE = 2.5  # factor by which the price range may change: a split does not change it
SPLIT_TURNOVER = 3.0  # factor on the usual turnover; a crash of this size raises turnover more
SEEN_SHARE = 0.995  # share of opens equal to the previous close; sources with real opens reach 0.55
MIN_OPENS = 100
SYNTHETIC = "synthetic "  # generated bars open at the previous close by design
FREE_STRETCH = 24  # consecutive bars without a spread
FREE_SHARE = 0.05  # of all bars
EDGE_SESSIONS = 5  # sessions right before and after a step; slow growth does not reach the ratio over them
LEVEL_SESSIONS = 20
LEVEL_RATIO = 5.0  # of median volume; detects a tenfold change despite noise
KEPT_SESSIONS = 60
LEVEL_KEPT = 0.5  # share of the log change that must remain over KEPT_SESSIONS
RADIUS = 5  # bars on either side whose median close is the level; a longer move is no spike
SPIKE_FLOOR = 0.1  # log distance from the level; smaller moves are never spikes
SPIKE_CEILING = np.log(4.0)  # log distance; larger moves are always spikes
SPIKE_FACTOR = 15.0  # multiple of the 99 % quantile of distances; real crashes reach 11 times
PRICE_NAMES = ("open", "high", "low", "close")
SHOWN_SPIKES = 3


def level_findings(raw: RawBars) -> list[QualityFinding]:
    """Return the findings on prices, spreads and volumes of clean, ordered rows."""
    return [
        *_constant(raw),
        *spike_findings(raw),
        *_seen_opens(raw),
        *_zero_volume(raw),
        *_zero_spread(raw),
    ]


def jump_findings(
    raw: RawBars, session: IntArray, period: IntArray, split_remedy: str
) -> list[QualityFinding]:
    """Return the splits and volume changes within a period (P,), judged with the clean rows around it.

    session (R,) is the calendar row of each row.
    """
    kept: BoolArray = np.isin(raw.timestamp, period)
    return [*_splits(raw, session, kept, split_remedy), *_volume_levels(raw, session, kept)]


def _constant(raw: RawBars) -> Iterator[QualityFinding]:
    """Yield columns that never change; a volume of zero is left to the next check."""
    for name, column in zip(BAR_COLUMNS[1:6], raw.ohlcv.T, strict=True):
        if column[0] != 0 and (column == column[0]).all():
            check = "constant_close" if name == "close" else "constant"
            found = f"{name} is {column[0]:g} in all {len(column):,} bars"
            yield make_finding(check, raw, raw.timestamp, found, "check the file and data.columns")


def _seen_opens(raw: RawBars) -> Iterator[QualityFinding]:
    """Yield a finding if the source has no real opens: each equals the previous close."""
    count = len(raw.timestamp)
    if raw.source.startswith(SYNTHETIC) or count < MIN_OPENS:
        return
    same = float((raw.ohlcv[1:, 0] == raw.ohlcv[:-1, 3]).mean())
    if same >= SEEN_SHARE:
        found = f"the open is the close before on {100 * same:.4g} % of the bars"
        remedy = "env.fill=open then fills at the close that was seen, without a gap: costs must cover that"
        yield make_finding("seen_open", raw, raw.timestamp, found, remedy)


def _zero_volume(raw: RawBars) -> Iterator[QualityFinding]:
    """Yield the bars without volume."""
    silent = raw.ohlcv[:, 4] == 0
    stamps = raw.timestamp[silent]
    rest = "leave out the features that need volume"
    if not raw.has_volume:
        remedy = f"where the file has one under another name: data.columns.volume=NAME; else {rest}"
        yield make_finding("zero_volume", raw, stamps, "no volume column, so volume is 0", remedy)
    elif len(stamps):
        remedy = (
            rest
            if silent.all()
            else "those after volume came in do not trade, their price may be stale (data.zero_volume)"
        )
        yield make_finding("zero_volume", raw, stamps, f"{share_text(silent)} without volume", remedy)


def _zero_spread(raw: RawBars) -> Iterator[QualityFinding]:
    """Yield a finding if a source with spreads has many or many consecutive bars without one."""
    free = raw.spread == 0
    if free.all():  # no spread at all: cost.spread_from_data refuses that
        return
    edges = np.flatnonzero(np.diff(free.astype(np.int8), prepend=0, append=0))
    longest = int((edges[1::2] - edges[::2]).max(initial=0))
    if longest >= FREE_STRETCH or free.mean() >= FREE_SHARE:
        found = f"{share_text(free)} with a spread of 0, {longest:,} of them in one stretch"
        remedy = "trades at cost.spread_from_data=true pay none there: repair the file or use cost.spread_bps"
        yield make_finding("zero_spread", raw, raw.timestamp[free], found, remedy)


def _splits(raw: RawBars, session: IntArray, kept: BoolArray, remedy: str) -> Iterator[QualityFinding]:
    """Yield jumps that look like splits: a simple ratio, lasting, on an ordinary day."""
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
        listed = ", ".join(_split_text(raw, int(row)) for row in rows[:5])
        found = f"{pluralise(len(rows), 'jump')} like a split ({listed}{', ...' if rows[5:].size else ''})"
        yield make_finding("split", raw, raw.timestamp[rows], found, remedy)


def is_ordinary(raw: RawBars, row: int, block: int) -> bool:
    """Return whether prices stay after a jump while range and turnover remain as before.

    A crash continues or reverts, and its day has an unusual range and turnover. Blocks are sessions counted
    from the jump, so none contains it.
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
    """Return log range and turnover of each complete block of rows, or of all rows if none is complete."""
    ohlcv = raw.ohlcv[rows]
    whole = len(ohlcv) // block
    if whole:
        ohlcv = ohlcv[-whole * block :] if backwards else ohlcv[: whole * block]
    cut = ohlcv.reshape(max(1, whole), -1, 5)
    ranges = np.log(cut[:, :, 1].max(axis=1) / cut[:, :, 2].min(axis=1))
    return ranges, (cut[:, :, 3] * cut[:, :, 4]).sum(axis=1)


def _split_text(raw: RawBars, row: int) -> str:
    """Return a jump as text, `2:1 at 2005-02-28, 88.99 -> 44.68`."""
    before, after = raw.ohlcv[row - 1, 3], raw.ohlcv[row, 0]
    change = float(np.log(before / after))
    nearest = float(SPLIT_LOGS[np.abs(change - SPLIT_LOGS).argmin()])
    named = abs(change - nearest) <= SPLIT_TOLERANCE
    part = float(np.exp(abs(nearest if named else change)))
    new, old = (round(2 * part), 2) if abs(part - round(part)) > 0.1 and named else (round(part), 1)
    ratio = f"{new}:{old}" if change > 0 else f"{old}:{new}"
    return f"{ratio} at {utc_text(raw.timestamp[row])[:10]}, {before:g} -> {after:g}"


def _volume_levels(raw: RawBars, session: IntArray, kept: BoolArray) -> Iterator[QualityFinding]:
    """Yield the sessions at which volume changes by an order of magnitude abruptly and for good."""
    first = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
    volume = np.add.reduceat(raw.ohlcv[:, 4], first)
    first, volume = first[volume > 0], volume[volume > 0]
    if len(volume) < 2 * EDGE_SESSIONS:
        return
    level = np.log(volume)
    rows = [row for row in level_steps(level) if kept[first[row - 1]] and kept[first[row]]]
    if rows:
        stamps = raw.timestamp[first[rows]]
        listed = ", ".join(
            f"x {np.exp(_change(level, row, LEVEL_SESSIONS)):.3g} at {utc_text(stamp)[:10]}"
            for row, stamp in zip(rows[:5], stamps, strict=False)
        )
        found = f"{pluralise(len(rows), 'change')} of volume to another level for good ({listed})"
        remedy = "bring volume to one unit (shares, lots, coins), or leave out the features that need it"
        yield make_finding("volume_level", raw, stamps, found, remedy)


def level_steps(level: FloatArray) -> list[int]:
    """Return the sessions at which a log level (S,) steps abruptly and stays for weeks and months."""
    windows = np.lib.stride_tricks.sliding_window_view(level, EDGE_SESSIONS)
    middle, mean = np.median(windows, axis=1), windows.mean(axis=1)
    edge, height = (each[EDGE_SESSIONS:] - each[:-EDGE_SESSIONS] for each in (middle, mean))
    steps = np.flatnonzero(np.abs(edge) >= np.log(LEVEL_RATIO))
    steps = np.array([row for row in steps if _stays(level, int(row) + EDGE_SESSIONS)], dtype=np.int64)
    apart = (np.diff(steps) > EDGE_SESSIONS) | (np.diff(np.sign(edge[steps])) != 0)
    runs = np.split(steps, np.flatnonzero(apart) + 1) if len(steps) else []
    return [int(run[np.abs(height[run]).argmax()]) + EDGE_SESSIONS for run in runs]


def _stays(level: FloatArray, row: int) -> bool:
    """Return whether the level changes over weeks and most of the change remains over months."""
    change, kept = (_change(level, row, width) for width in (LEVEL_SESSIONS, KEPT_SESSIONS))
    return bool(abs(change) >= np.log(LEVEL_RATIO) and kept / change >= LEVEL_KEPT)


def _change(level: FloatArray, row: int, width: int) -> float:
    """Return the median of up to `width` sessions from row on minus that of up to `width` before it."""
    return float(np.median(level[row : row + width]) - np.median(level[max(0, row - width) : row]))


def spike_findings(raw: RawBars) -> Iterator[QualityFinding]:
    """Yield bars with a price far from the level before and after them that reverts at once."""
    chosen = spike_rows(raw.ohlcv[:, :4])
    if chosen.any():
        rows = np.flatnonzero(chosen)
        level = np.exp(_level(np.log(raw.ohlcv[:, 3])))
        shown = ", ".join(_describe(raw, int(row), float(level[row])) for row in rows[:SHOWN_SPIKES])
        more = ", ..." if len(rows) > SHOWN_SPIKES else ""
        remedy = "repair these prices; data.severity.spike=warn where the market did that"
        found = f"{pluralise(len(rows), 'bar')} with a price far from those around ({shown}{more})"
        yield make_finding("spike", raw, raw.timestamp[rows], found, remedy)


def spike_rows(prices: FloatArray) -> BoolArray:
    """Return which bars (R,) have a spike in open, high, low or close (R, 4)."""
    far = _distance(prices)
    limit = max(SPIKE_FLOOR, min(SPIKE_FACTOR * float(np.quantile(far, 0.99)), SPIKE_CEILING))
    rows: BoolArray = far > limit
    return rows


def _distance(prices: FloatArray) -> FloatArray:
    """Return the largest log distance (R,) of a bar's four prices from the level."""
    logs = np.log(prices)
    far: FloatArray = np.abs(logs - _level(logs[:, 3])[:, None]).max(axis=1)
    far[[0, -1]] = np.abs(logs[[0, -1]] - logs[[0, -1], 3:]).max(axis=1)  # no bar on one side to revert to
    return far


def _level(close: FloatArray) -> FloatArray:
    """Return the centred median of log closes over up to RADIUS bars on either side.

    A centred median follows a lasting move without delay and ignores one that reverts.
    """
    level = close.copy()
    for radius in range(1, RADIUS + 1):
        width = 2 * radius + 1
        if len(close) < width:
            break
        median = np.median(np.lib.stride_tricks.sliding_window_view(close, width), axis=1)
        level[radius : len(close) - radius] = median
    return level


def _describe(raw: RawBars, row: int, level: float) -> str:
    prices = raw.ohlcv[row, :4]
    name = int(np.abs(np.log(prices / level)).argmax())
    return f"{PRICE_NAMES[name]} {prices[name]:g} near {level:.4g} at {utc_text(raw.timestamp[row])}"
