"""The checks that every row must pass before bars can be made of them: nothing is repaired in silence."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from envs.types import BoolArray, IntArray
from optimize.data.bars import RawBars, infer_timeframe, usual_spacing
from optimize.data.quality.findings import Finding, counted, find
from optimize.data.spec import timeframe_ns
from optimize.errors import BadInputError

PRICE_TOLERANCE = 1e-9  # relative; a file rounded to fewer digits than it was computed in still passes
MIN_BARS = 2
MOSTLY = 0.5
TELLING = 5  # spacings; of fewer a weekend may be the most frequent one
REPAIR = "repair the file"


def row_findings(raw: RawBars) -> list[Finding]:
    """Return the defects of single rows and of their order, the most basic first."""
    if len(raw.timestamp) < MIN_BARS:
        rows = counted(len(raw.timestamp), "row")
        found = f"it has {rows}, but at least {MIN_BARS} bars are needed"
        return [find("rows", raw, raw.timestamp, found, "give more data")]
    return [*_order(raw), *_values(raw), *_timeframe(raw)]


def clean(raw: RawBars) -> RawBars:
    """Return the rows in order, one a stamp, without missing or non-positive prices, for further checks."""
    kept = ~(_missing(raw) | _not_positive(raw))
    order = np.flatnonzero(kept)[np.argsort(raw.timestamp[kept], kind="stable")]
    stamps = raw.timestamp[order]
    order = order[np.append(True, stamps[1:] != stamps[:-1])] if len(order) else order
    return replace(raw, timestamp=raw.timestamp[order], ohlcv=raw.ohlcv[order], spread=raw.spread[order])


def _order(raw: RawBars) -> Iterator[Finding]:
    """Yield stamps that go back, and stamps seen before."""
    step = np.diff(raw.timestamp)
    back = raw.timestamp[1:][step < 0]
    if len(back):
        found = f"unsorted: {counted(len(back), 'bar')} stamped before the one above"
        yield find("order", raw, back, found, "sort the file by time")
    ordered = np.sort(raw.timestamp)
    same = ordered[1:][np.diff(ordered) == 0]
    if len(same):
        remedy = "keep one row a stamp (a file of several symbols must be split)"
        yield find("duplicates", raw, same, f"{counted(len(same), 'duplicated stamp')}", remedy)


def _values(raw: RawBars) -> Iterator[Finding]:
    """Yield rows whose numbers are missing, impossible or contradict each other."""
    missing = _missing(raw)
    open_, high, low, close, volume = np.where(missing[:, None], 1.0, raw.ohlcv).T  # broken otherwise
    top, bottom, slack = np.maximum(open_, close), np.minimum(open_, close), PRICE_TOLERANCE * np.abs(close)
    holes = int((~np.isfinite(raw.ohlcv)).sum() + (~np.isfinite(raw.spread)).sum())
    drop = (
        f"{REPAIR}, or set data.drop_nan=true to drop those without a price or spread and to count a "
        "missing volume as 0"
    )
    crossed = (high < top - slack) | (low > bottom + slack)
    defects = (
        ("nan", missing, f"with NaN or infinite values ({holes:,} in all)", drop),
        ("price", _not_positive(raw), "with a price <= 0", f"prices must be positive; {REPAIR}"),
        ("negative", (volume < 0) | (raw.spread < 0), "with a negative volume or spread", REPAIR),
        ("ohlc", crossed, "that break low <= open, close <= high", f"{REPAIR} or check data.columns"),
    )
    for check, bad, what, remedy in defects:
        if bad.any():
            stamps = raw.timestamp[bad]
            yield find(check, raw, stamps, f"{counted(len(stamps), 'bar')} {what}", remedy)


def _timeframe(raw: RawBars) -> Iterator[Finding]:
    """Yield a spacing of stamps that is no timeframe, or not the one that the source is said to have."""
    stamps = clean(raw).timestamp
    if len(stamps) < MIN_BARS:
        return
    if raw.timeframe is not None:
        yield from _contradicted(raw, stamps, raw.timeframe)
        return
    try:
        infer_timeframe(stamps)
    except BadInputError as error:
        found, _, remedy = str(error).partition("; ")
        yield find("timeframe", raw, stamps, found, remedy)


def _contradicted(raw: RawBars, stamps: IntArray, timeframe: str) -> Iterator[Finding]:
    """Yield stamps most of which are closer than timeframe, or all alike at another distance."""
    spacing_ns, length_ns = np.diff(stamps), timeframe_ns(timeframe)
    usual, share = usual_spacing(stamps)
    overlapping = np.mean(spacing_ns < length_ns) > MOSTLY
    apart = share > MOSTLY and usual != timeframe and len(spacing_ns) >= TELLING
    if overlapping or apart:
        found = f"data.source_timeframe={timeframe}, but the most frequent spacing of the stamps is {usual}"
        remedy = "set data.source_timeframe to what the bars are, or null to read it off the stamps"
        yield find("timeframe", raw, stamps, found, remedy)


def _missing(raw: RawBars) -> BoolArray:
    """Return the rows (R,) with a number that is none."""
    missing: BoolArray = np.logical_not(np.isfinite(raw.ohlcv).all(axis=1) & np.isfinite(raw.spread))
    return missing


def _not_positive(raw: RawBars) -> BoolArray:
    """Return the rows (R,) with a price of zero or less."""
    low: BoolArray = np.min(raw.ohlcv[:, :4], axis=1) <= 0
    return low
