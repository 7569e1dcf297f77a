"""The period selected by data.start, data.end and data.months."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from envs.types import BoolArray, IntArray
from optimize.data.bars import Bars, dates_of, select_rows, utc_text
from optimize.data.spec import DataSpec
from optimize.data.timeframes import DAY_NS, timeframe_ns
from optimize.errors import BadInputError


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time in which bars begin; None means unbounded on that side."""

    start_ns: int | None  # UTC
    end_ns: int | None  # UTC, exclusive
    asked: str  # the settings as typed, for messages

    def holds(self, timestamp: IntArray, timeframe: str) -> BoolArray:
        """Return which bars (T,) begin in the period; a daily bar counts by its date."""
        begin = dates_of(timestamp) if timeframe_ns(timeframe) == DAY_NS else timestamp
        kept = np.ones(len(begin), dtype=np.bool_)
        if self.start_ns is not None:
            kept &= begin >= self.start_ns
        if self.end_ns is not None:
            kept &= begin < self.end_ns
        return kept


def period_of(spec: DataSpec, last_end_ns: int) -> Period:
    """Return the period that a spec selects from bars whose last one ends at last_end_ns.

    data.months counts back from data.end or from the end of the last bar, whichever is earlier; data.start
    overrides it.
    """
    words = [f"data.{key}={getattr(spec, key)}" for key in ("start", "end") if getattr(spec, key) is not None]
    start = None if spec.start is None else midnight_ns(spec.start)
    end = None if spec.end is None else midnight_ns(spec.end) + DAY_NS
    if spec.start is None and spec.months is not None:
        words.insert(0, f"data.months={spec.months}")
        start = months_before(last_end_ns if end is None else min(end, last_end_ns), spec.months)
    return Period(start, end, " ".join(words))


def months_before(stamp_ns: int, months: int) -> int:
    """Return the timestamp that many calendar months earlier."""
    return int((pd.Timestamp(stamp_ns, tz="UTC") - pd.DateOffset(months=months)).as_unit("ns").value)


def midnight_ns(date: str) -> int:
    """Return 00:00 UTC of an ISO date."""
    return int(np.datetime64(date, "ns").astype(np.int64))


def cut_to_period(bars: Bars, spec: DataSpec) -> Bars:
    """Return the bars of the period that the spec selects; refuse a period without bars."""
    if spec.start is None and spec.end is None and spec.months is None:
        return bars
    period = period_of(spec, int(bars.bar_end[-1]))
    kept = period.holds(bars.timestamp, bars.timeframe)
    if not kept.any():
        raise BadInputError(
            f"{period.asked} leaves no bar of {', '.join(bars.symbols)}, whose source holds "
            f"{utc_text(bars.timestamp[0])} to {utc_text(bars.timestamp[-1])}: choose dates inside that span"
        )
    return select_rows(bars, kept)
