"""Checks that rows must pass before they become bars; nothing is repaired silently."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from envs.types import BoolArray, IntArray
from optimize.data.bars import Bars, RawBars, infer_timeframe, join_bars, make_bars, usual_spacing
from optimize.data.quality.findings import (
    QualityFinding,
    apply_severities,
    make_finding,
    pluralise,
    refuse_findings,
)
from optimize.data.spec import DataSpec
from optimize.data.timeframes import timeframe_ns
from optimize.errors import BadInputError

PRICE_TOLERANCE = 1e-9  # relative; allows for rounding in the file
MIN_BARS = 2
MAJORITY = 0.5
TELLING = 5  # spacings; with fewer, a weekend may be the most frequent one
REPAIR = "repair the file"


def row_findings(raw: RawBars) -> list[QualityFinding]:
    """Return the defects of single rows and of their order, most basic first."""
    if len(raw.timestamp) < MIN_BARS:
        rows = pluralise(len(raw.timestamp), "row")
        found = f"it has {rows}, but at least {MIN_BARS} bars are needed"
        return [make_finding("rows", raw, raw.timestamp, found, "give more data")]
    return [*_order(raw), *_values(raw), *_timeframe(raw)]


def checked_bars(parts: Sequence[RawBars], spec: DataSpec) -> Bars:
    """Return the bars of every symbol on one time axis; refuse rows that no market can be built from."""
    refuse_findings(apply_severities([found for raw in parts for found in row_findings(raw)], spec.severity))
    return join_bars([make_bars(raw, spec.zero_volume) for raw in parts])


def clean_rows(raw: RawBars) -> RawBars:
    """Return the rows ordered, one per timestamp, without missing or non-positive prices."""
    kept = ~(_missing(raw) | _not_positive(raw))
    order = np.flatnonzero(kept)[np.argsort(raw.timestamp[kept], kind="stable")]
    stamps = raw.timestamp[order]
    order = order[np.append(True, stamps[1:] != stamps[:-1])] if len(order) else order
    return replace(raw, timestamp=raw.timestamp[order], ohlcv=raw.ohlcv[order], spread=raw.spread[order])


def _order(raw: RawBars) -> Iterator[QualityFinding]:
    """Yield findings on timestamps that are out of order or duplicated."""
    step = np.diff(raw.timestamp)
    back = raw.timestamp[1:][step < 0]
    if len(back):
        found = f"unsorted: {pluralise(len(back), 'bar')} stamped before the one above"
        yield make_finding("order", raw, back, found, "sort the file by time")
    ordered = np.sort(raw.timestamp)
    same = ordered[1:][np.diff(ordered) == 0]
    if len(same):
        remedy = "keep one row a stamp (a file of several symbols must be split)"
        yield make_finding("duplicates", raw, same, f"{pluralise(len(same), 'duplicated stamp')}", remedy)


def _values(raw: RawBars) -> Iterator[QualityFinding]:
    """Yield findings on rows whose numbers are missing, impossible or contradictory."""
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
    for check, bad, defect, remedy in defects:
        if bad.any():
            stamps = raw.timestamp[bad]
            yield make_finding(check, raw, stamps, f"{pluralise(len(stamps), 'bar')} {defect}", remedy)


def _timeframe(raw: RawBars) -> Iterator[QualityFinding]:
    """Yield a finding if the spacing is not a timeframe, or differs from the stated one."""
    stamps = clean_rows(raw).timestamp
    if len(stamps) < MIN_BARS:
        return
    if raw.timeframe is not None:
        yield from _contradicted(raw, stamps, raw.timeframe)
        return
    try:
        infer_timeframe(stamps)
    except BadInputError as error:
        found, _, remedy = str(error).partition("; ")
        yield make_finding("timeframe", raw, stamps, found, remedy)


def _contradicted(raw: RawBars, stamps: IntArray, timeframe: str) -> Iterator[QualityFinding]:
    """Yield a finding if most spacings are shorter than timeframe, or most share another length."""
    spacing_ns, length_ns = np.diff(stamps), timeframe_ns(timeframe)
    usual, share = usual_spacing(stamps)
    overlapping = np.mean(spacing_ns < length_ns) > MAJORITY
    apart = share > MAJORITY and usual != timeframe and len(spacing_ns) >= TELLING
    if overlapping or apart:
        found = f"data.source_timeframe={timeframe}, but the most frequent spacing of the stamps is {usual}"
        remedy = "set data.source_timeframe to what the bars are, or null to read it off the stamps"
        yield make_finding("timeframe", raw, stamps, found, remedy)


def _missing(raw: RawBars) -> BoolArray:
    """Return the rows (R,) with a missing or infinite number."""
    missing: BoolArray = np.logical_not(np.isfinite(raw.ohlcv).all(axis=1) & np.isfinite(raw.spread))
    return missing


def _not_positive(raw: RawBars) -> BoolArray:
    """Return the rows (R,) with a price <= 0."""
    low: BoolArray = np.min(raw.ohlcv[:, :4], axis=1) <= 0
    return low
