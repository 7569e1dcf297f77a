"""Compute the features of bars, including those of higher timeframes, and check them for leaks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optimize.data.bars import Bars, select_rows, utc_text
from optimize.data.features.registry import (
    FEATURES,
    AssetBars,
    DataNeed,
    check_feature_keys,
    columns_of,
    keys_in_use,
    warmup_of,
)
from optimize.data.features.spec import FeatureSpec
from optimize.data.resample import resample
from optimize.data.sessions import SessionTable
from optimize.data.timeframes import DAY_NS, timeframe_ns
from optimize.errors import BadInputError, NumericError, require

HIGHER = "feature.higher_timeframes"
ComputedFeatures = tuple[
    NDArray[np.float32], tuple[str, ...], int
]  # features (T, A, F), F names, first usable row

NEED_REMEDIES: dict[DataNeed, str] = {
    "volume": "use data with volume",
    "spread": "use data with a spread column",
    "closing_time": "use session.calendar of a market that closes",
    "intraday": "use an intraday data.timeframe",
}
MOST_BARS = 20_000  # newest bars on which the check runs
CUTS = (0.55, 0.7, 0.85, 0.97)  # shares of the rows after the warm-up at which the bars are cut
ROWS = 50  # rows before each cut that are compared
LEAK_TOLERANCE = 1e-5  # relative; the order of summation may differ


def warmup_bars(spec: FeatureSpec) -> int:
    """Return the longest warm-up of the features, in bars; refuse unknown names, repeated ones and keys."""
    names, known = spec.indicators, ", ".join(sorted(FEATURES))
    for name in names:
        require(name in FEATURES, "feature.indicators", name, f"one of {known}", FEATURES)
    distinct = len(set(names)) == len(names) > 0
    require(distinct, "feature.indicators", list(names), "a non-empty list without repeats")
    check_feature_keys(spec)
    return max(warmup_of(name, spec) for name in names)


def check_features(bars: Bars, spec: FeatureSpec, table: SessionTable) -> None:
    """Refuse features that cannot be computed on these bars.

    Called for whole data sets only: a short tail of live bars may lack volume without being wrong.
    """
    warmup_bars(spec)
    _refuse_unmet(bars, spec.indicators, table)
    if spec.higher_timeframes:
        repeated = any(not FEATURES[name].clock for name in spec.indicators)
        require(repeated, HIGHER, spec.higher_timeframes, "empty where no indicator reads prices or volume")
    for timeframe in spec.higher_timeframes:
        length_ns, base_ns = timeframe_ns(timeframe, HIGHER), timeframe_ns(bars.timeframe)
        allowed = f"coarser than data.timeframe={bars.timeframe} and a multiple of it"
        require(length_ns > base_ns and length_ns % base_ns == 0, HIGHER, timeframe, allowed)


def compute_features(bars: Bars, spec: FeatureSpec, table: SessionTable) -> ComputedFeatures:
    """Return features (T, A, F) float32, their F names in order, and the first usable row."""
    first = warmup_bars(spec)
    columns, names = _compute(bars, spec.indicators, spec, table)
    parts, all_names = [columns], list(names)
    for timeframe in spec.higher_timeframes:
        columns, names, settled = _of_higher(bars, timeframe, spec, table)
        parts.append(columns)
        all_names += names
        first = max(first, settled)
    features = np.concatenate(parts, axis=2)
    _refuse_undefined(features, all_names, first, bars)
    return features, tuple(all_names), first


def _compute(
    bars: Bars, names: Sequence[str], spec: FeatureSpec, table: SessionTable
) -> tuple[NDArray[np.float32], list[str]]:
    """Return the named features (T, A, F) of bars of one timeframe, and the names of their columns."""
    columns = [column for name in names for column in columns_of(name, spec.zigzag_pct)]
    features = np.empty((bars.n_bars, len(bars.symbols), len(columns)), dtype=np.float32)
    session = table.index(bars)
    time = (bars.bar_end, table.date[session], table.close_ns[session])
    series = (bars.open, bars.high, bars.low, bars.close, bars.volume, bars.spread)
    keys = keys_in_use(spec)
    for asset in range(len(bars.symbols)):
        open_, high, low, close, volume, spread = (np.ascontiguousarray(each[:, asset]) for each in series)
        one = AssetBars(*time, open_, high, low, close, volume, spread, tuple(spec.zigzag_pct), keys)
        arrays = [array for name in names for array in FEATURES[name].compute(one)]
        features[:, asset] = np.stack(arrays, axis=1)
    return features, columns


def _of_higher(
    bars: Bars, timeframe: str, spec: FeatureSpec, table: SessionTable
) -> tuple[NDArray[np.float32], list[str], int]:
    """Return, for each bar, the features of the last coarser bar that has ended, and their warm-up in rows.

    One coarser bar more than the features' own warm-up is needed, because the first may lack parts. The
    warm-up is long enough that a tail of that many rows holds all coarser bars that its last row needs.
    """
    names = [name for name in spec.indicators if not FEATURES[name].clock]
    coarse = resample(bars, timeframe, table)
    needed = max(warmup_of(name, spec) for name in names) + 1
    if coarse.n_bars <= needed:
        raise BadInputError(
            f"{HIGHER}={timeframe}: {', '.join(bars.symbols)} has {coarse.n_bars} bars at {timeframe}, but "
            f"feature.indicators need {needed + 1} to settle: use more data, a finer timeframe or faster "
            "indicators"
        )
    values, columns = _compute(coarse, names, spec, table)
    known = np.searchsorted(coarse.bar_end, bars.bar_end, side="right") - 1
    joined = values[np.maximum(known, 0)]
    joined[known < 0] = np.nan
    settled = int(np.searchsorted(known, needed))
    rows = np.arange(settled, bars.n_bars)
    first_part = np.searchsorted(bars.timestamp, coarse.timestamp[known[settled:] - needed])
    lag = int((rows - first_part).max(initial=0))
    return joined, [f"{column}_{timeframe}" for column in columns], max(settled, lag)


def _refuse_unmet(bars: Bars, names: Sequence[str], table: SessionTable) -> None:
    """Refuse the features whose required data is missing."""
    lacking: dict[DataNeed, str | None] = {
        "volume": _silent(bars.symbols, bars.volume),
        "spread": _silent(bars.symbols, bars.spread),
        "closing_time": "a market on calendar 24/7" if table.calendar == "24/7" else None,
        "intraday": f"data.timeframe={bars.timeframe}" if timeframe_ns(bars.timeframe) >= DAY_NS else None,
    }
    for need, where in lacking.items():
        unmet = [name for name in names if need in FEATURES[name].needs]
        if where and unmet:
            lacking_text = need.replace("_", " ")
            raise BadInputError(
                f"feature.indicators: {', '.join(unmet)} cannot be computed, for {where} has no "
                f"{lacking_text}: "
                f"take out what needs it or {NEED_REMEDIES[need]}"
            )


def _silent(symbols: Sequence[str], values: NDArray[np.float64]) -> str | None:
    """Return the symbols whose values (T, A) are all zero, as text; None if there are none."""
    return ", ".join(s for asset, s in enumerate(symbols) if not values[:, asset].any()) or None


def _refuse_undefined(features: NDArray[np.float32], columns: Sequence[str], first: int, bars: Bars) -> None:
    """Raise NumericError if any value after the warm-up is not finite."""
    rows, assets, fields = np.nonzero(~np.isfinite(features[first:]))
    if len(rows):
        at = utc_text(bars.timestamp[first + rows[0]])
        raise NumericError(
            f"feature {columns[fields[0]]} of {bars.symbols[assets[0]]} is not finite at {at} "
            f"({len(rows)} values): take it out of feature.indicators or repair the prices"
        )


def refuse_leaks(bars: Bars, spec: FeatureSpec, table: SessionTable) -> None:
    """Raise BadInputError for the first column whose past values change when later bars are left out."""
    recent = select_rows(bars, np.arange(bars.n_bars) >= bars.n_bars - MOST_BARS)
    whole, columns, settled = compute_features(recent, spec, table)
    usable = recent.n_bars - settled
    for cut in sorted({settled + int(share * usable) for share in CUTS}):
        rows = np.arange(recent.n_bars)
        part, _, first = compute_features(select_rows(recent, rows < cut), spec, table)
        begin = max(settled, first, cut - ROWS)
        now, then = whole[begin:cut], part[begin:cut]
        differs = ~np.isclose(now, then, rtol=LEAK_TOLERANCE, atol=LEAK_TOLERANCE, equal_nan=True)
        if differs.any():
            row, asset, column = np.argwhere(differs)[0]
            at, end = (utc_text(recent.timestamp[each]) for each in (begin + row, cut))
            raise BadInputError(
                f"feature {columns[column]!r} reads the future: at {at} of {recent.symbols[asset]} "
                f"it is {now[row, asset, column]:.6g} with all bars, but {then[row, asset, column]:.6g} when "
                f"the bars end before {end}: compute it of bars up to its own, or take it out of "
                "feature.indicators"
            )
