"""Compute features of bars, those of higher timeframes joined when they are known."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optimize.data.bars import Bars, utc_text
from optimize.data.features.registry import FEATURES, AssetBars, Need, columns_of
from optimize.data.resample import resample
from optimize.data.sessions import SessionTable
from optimize.data.spec import DAY_NS, FeatureSpec, timeframe_ns
from optimize.errors import BadInputError, NumericError, require

HIGHER = "feature.higher_timeframes"
Computed = tuple[NDArray[np.float32], tuple[str, ...], int]  # features (T, A, F), F names, first usable row

REMEDIES: dict[Need, str] = {
    "volume": "use data with volume",
    "spread": "use data with a spread column",
    "closing_time": "use session.calendar of a market that closes",
    "intraday": "use an intraday data.timeframe",
}


def warmup_bars(names: Sequence[str]) -> int:
    """Return the bars that the slowest of the named features needs; refuse unknown or repeated names."""
    known = ", ".join(sorted(FEATURES))
    for name in names:
        require(name in FEATURES, "feature.indicators", name, f"one of {known}")
    distinct = len(set(names)) == len(names) > 0
    require(distinct, "feature.indicators", list(names), "a non-empty list without repeats")
    return max(FEATURES[name].warmup for name in names)


def check_features(bars: Bars, spec: FeatureSpec, table: SessionTable) -> None:
    """Refuse, by name, what cannot be computed on these bars; the tail that a live agent sees may do less."""
    warmup_bars(spec.indicators)
    _refuse_unmet(bars, spec.indicators, table)
    if spec.higher_timeframes:
        repeated = any(not FEATURES[name].clock for name in spec.indicators)
        require(repeated, HIGHER, spec.higher_timeframes, "empty where no indicator reads prices or volume")
    for timeframe in spec.higher_timeframes:
        length_ns, base_ns = timeframe_ns(timeframe, HIGHER), timeframe_ns(bars.timeframe)
        allowed = f"coarser than data.timeframe={bars.timeframe} and a multiple of it"
        require(length_ns > base_ns and length_ns % base_ns == 0, HIGHER, timeframe, allowed)


def compute(bars: Bars, spec: FeatureSpec, table: SessionTable) -> Computed:
    """Return features (T, A, F) float32, their F names in order, and the first row that may be used."""
    first = warmup_bars(spec.indicators)
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
    """Return the named features (T, A, F) of bars of one timeframe, and their columns' names."""
    columns = [column for name in names for column in columns_of(name, spec.zigzag_pct)]
    features = np.empty((bars.n_bars, len(bars.symbols), len(columns)), dtype=np.float32)
    session = table.index(bars)
    time = (bars.bar_end, table.date[session], table.close_ns[session])
    series = (bars.open, bars.high, bars.low, bars.close, bars.volume, bars.spread)
    for asset in range(len(bars.symbols)):
        open_, high, low, close, volume, spread = (np.ascontiguousarray(each[:, asset]) for each in series)
        one = AssetBars(*time, open_, high, low, close, volume, spread, tuple(spec.zigzag_pct))
        arrays = [array for name in names for array in FEATURES[name].compute(one)]
        features[:, asset] = np.stack(arrays, axis=1)
    return features, columns


def _of_higher(
    bars: Bars, timeframe: str, spec: FeatureSpec, table: SessionTable
) -> tuple[NDArray[np.float32], list[str], int]:
    """Return the features of the last coarser bar that has ended at each bar, and the rows that settle them.

    The first coarser bar may lack parts, so that one more is needed than the features say; and from whatever
    row a tail of that many rows starts, it holds all the coarser bars that its last row needs.
    """
    names = [name for name in spec.indicators if not FEATURES[name].clock]
    coarse = resample(bars, timeframe, table)
    needed = max(FEATURES[name].warmup for name in names) + 1
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
    """Refuse features that cannot be computed on this data, by name."""
    lacking: dict[Need, str | None] = {
        "volume": _silent(bars.symbols, bars.volume),
        "spread": _silent(bars.symbols, bars.spread),
        "closing_time": "a market on calendar 24/7" if table.calendar == "24/7" else None,
        "intraday": f"data.timeframe={bars.timeframe}" if timeframe_ns(bars.timeframe) >= DAY_NS else None,
    }
    for need, where in lacking.items():
        unmet = [name for name in names if need in FEATURES[name].needs]
        if where and unmet:
            what = need.replace("_", " ")
            raise BadInputError(
                f"feature.indicators: {', '.join(unmet)} cannot be computed, for {where} has no {what}: "
                f"take out what needs it or {REMEDIES[need]}"
            )


def _silent(symbols: Sequence[str], values: NDArray[np.float64]) -> str | None:
    """Return the symbols whose column of values (T, A) is all zero, or None."""
    return ", ".join(s for asset, s in enumerate(symbols) if not values[:, asset].any()) or None


def _refuse_undefined(features: NDArray[np.float32], columns: Sequence[str], first: int, bars: Bars) -> None:
    """Raise NumericError for the first value after the warm-up that is not finite."""
    rows, assets, fields = np.nonzero(~np.isfinite(features[first:]))
    if len(rows):
        at = utc_text(bars.timestamp[first + rows[0]])
        raise NumericError(
            f"feature {columns[fields[0]]} of {bars.symbols[assets[0]]} is not finite at {at} "
            f"({len(rows)} values): take it out of feature.indicators or repair the prices"
        )
