"""Calendar sessions: the trading day of each bar, the forced exit, sessions per year, and the next bars."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.types import BoolArray, IntArray
from optimize.data.bars import Bars
from optimize.data.calendars.exchanges import MARGIN_DAYS, exchange_schedule, sessions_per_year
from optimize.data.calendars.spec import SessionSpec
from optimize.data.timeframes import DAY_NS, HOUR_NS, MINUTE_NS, timeframe_ns
from optimize.errors import BadInputError

SessionDates = NDArray[np.datetime64]

AROUND_THE_CLOCK = ("24/7", "24/5")
DEFAULT = SessionSpec()
NEW_YORK = "America/New_York"
FX_CLOSE_NS = 17 * HOUR_NS  # New York; the FX day rolls here
DAYS_PER_YEAR = 365.25
BARS_TO_TRADE = 2
BarSpan = tuple[int, int]  # start and end, UTC nanoseconds


@dataclass(frozen=True, slots=True, eq=False)
class SessionTable:
    """The sessions of a calendar over whole years around the data."""

    calendar: str
    date: SessionDates  # (S,) datetime64[D] labels
    open_ns: IntArray  # (S,) UTC
    close_ns: IntArray  # (S,) UTC
    stretches: IntArray  # (I, 2) UTC start and end of trading: a session, or its parts around a lunch break
    exit_ns: IntArray  # (S,) UTC; where sessions end flat, positions close at the first open at or after it
    per_year: float
    time_zone: str
    roll_ns: int  # added to local time; the date of the sum labels the session

    def index(self, bars: Bars) -> IntArray:
        """Return the row of each bar's session (T,); bars between sessions belong to the next one."""
        day = self.day_of(bars.timestamp, bars.bar_end, bars.timeframe)
        row = np.searchsorted(self.date, day)
        return np.minimum(row, len(self.date) - 1).astype(np.int64)  # a calendar may end with the data's year

    def day_of(self, timestamp: IntArray, bar_end: IntArray, timeframe: str) -> SessionDates:
        """Return the day (T,) of each bar, as the date that labels its session.

        An intraday bar belongs to the day in which it ends. A daily bar stamped 00:00Z states a date rather
        than an instant and belongs to that date on every calendar. A daily bar with another stamp, such as
        local midnight or the session's open, belongs to the local date of its middle. All are known at their
        bar_end.
        """
        if timeframe_ns(timeframe) < DAY_NS:
            return self._local_date(bar_end - 1)
        middle = self._local_date((timestamp + bar_end) // 2)
        dated = timestamp % DAY_NS == 0
        return np.where(dated, timestamp.astype("datetime64[ns]").astype("datetime64[D]"), middle)

    def _local_date(self, stamps: IntArray) -> SessionDates:
        """Return the local date of each timestamp; the day begins roll_ns before midnight."""
        local = pd.DatetimeIndex(stamps, tz="UTC").tz_convert(self.time_zone).tz_localize(None)
        rolled: SessionDates = (local.asi8 + self.roll_ns).astype("datetime64[ns]").astype("datetime64[D]")
        return rolled


def sessions_end_flat(spec: SessionSpec, calendar: str, source_timeframe: str) -> bool:
    """Return whether every session ends flat; the default is yes for intraday source bars of an exchange."""
    if spec.flat_overnight is not None:
        return spec.flat_overnight
    return calendar not in AROUND_THE_CLOCK and timeframe_ns(source_timeframe) < DAY_NS


def exit_flags(bars: Bars, table: SessionTable) -> tuple[BoolArray, BoolArray]:
    """Return exit_at_open (T,), true from the forced exit on, and exit_at_close (T,), the last bar."""
    row = table.index(bars)
    at_open: BoolArray = bars.timestamp >= table.exit_ns[row]
    return at_open, np.append(row[1:] != row[:-1], True)


def missing_exits(bars: Bars, table: SessionTable) -> SessionDates:
    """Return the sessions with bars in which some symbol has no traded bar from the exit time on.

    These close at their last bar. If the data end before the exit of the last session, that one is included.
    """
    row = table.index(bars)
    first = np.flatnonzero(np.append(True, row[1:] != row[:-1]))
    late = bars.tradable & (bars.timestamp >= table.exit_ns[row])[:, None]
    has_exit = np.logical_or.reduceat(late, first, axis=0).all(axis=1)
    return table.date[row[first[~has_exit]]]


def refuse_without_exit(bars: Bars, table: SessionTable) -> None:
    """Refuse a timeframe that leaves no session a bar to decide on and one to fill at before its exit."""
    row = table.index(bars)
    early = np.bincount(row[bars.timestamp < table.exit_ns[row]] - row[0], minlength=1)
    if early.max() < BARS_TO_TRADE:
        raise BadInputError(
            f"data.timeframe={bars.timeframe} leaves nothing to trade on {table.calendar}: no session has "
            f"{BARS_TO_TRADE} bars that start before its forced exit (session.exit_time and "
            "session.exit_minutes_before_close), one to decide on and one to fill at: use a finer "
            "data.timeframe, or session.flat_overnight=false to hold overnight"
        )


def open_time(table: SessionTable, stamps: IntArray) -> IntArray:
    """Return the open market time from the table's start to each timestamp, in nanoseconds."""
    begin, end = table.stretches.T
    length = end - begin
    row = np.maximum(np.searchsorted(begin, stamps, side="right") - 1, 0)  # a calendar may begin after them
    before = np.concatenate([[0], np.cumsum(length)])[row]
    open_ns: IntArray = before + np.clip(stamps - begin[row], 0, length[row])
    return open_ns


def session_table(calendar: str, first_ns: int, last_ns: int, spec: SessionSpec = DEFAULT) -> SessionTable:
    """Build the table for the calendar years from first_ns to last_ns, plus a margin."""
    first_year, last_year = (
        np.datetime64(int(ns), "ns").astype("datetime64[Y]") for ns in (first_ns, last_ns)
    )
    years = (first_year.astype("datetime64[D]"), (last_year + 1).astype("datetime64[D]"))
    if calendar == "24/7":
        return _round_the_clock(years, spec)
    if calendar == "24/5":
        return _foreign_exchange(years, spec)
    return _exchange(calendar, years, spec)


def _days(years: tuple[np.datetime64, np.datetime64]) -> SessionDates:
    """Return every day of the years and the margin around them."""
    return np.arange(years[0] - MARGIN_DAYS, years[1] + MARGIN_DAYS, dtype="datetime64[D]")


def _round_the_clock(years: tuple[np.datetime64, np.datetime64], spec: SessionSpec) -> SessionTable:
    """Return sessions of whole UTC days."""
    days = _days(years)
    midnight = days.astype("datetime64[ns]").astype(np.int64)
    close = midnight + DAY_NS
    return SessionTable(
        calendar="24/7",
        date=days,
        open_ns=midnight,
        close_ns=close,
        stretches=np.stack([midnight, close], axis=1),
        exit_ns=_before_close(close, spec),
        per_year=DAYS_PER_YEAR,
        time_zone="UTC",
        roll_ns=0,
    )


def _foreign_exchange(years: tuple[np.datetime64, np.datetime64], spec: SessionSpec) -> SessionTable:
    """Return sessions from 17:00 to 17:00 New York, Monday to Friday."""
    days = _days(years)
    days = days[np.is_busday(days)]
    opens, close = _in_utc(days - 1, FX_CLOSE_NS, NEW_YORK), _in_utc(days, FX_CLOSE_NS, NEW_YORK)
    return SessionTable(
        calendar="24/5",
        date=days,
        open_ns=opens,
        close_ns=close,
        stretches=np.stack([opens, close], axis=1),
        exit_ns=_before_close(close, spec),
        per_year=float(np.busday_count(*years)) / _year_count(years),
        time_zone=NEW_YORK,
        roll_ns=DAY_NS - FX_CLOSE_NS,
    )


def _in_utc(days: SessionDates, time_ns: int, zone: str) -> IntArray:
    """Return a local time of each day in UTC nanoseconds; a skipped or repeated time is the later instant."""
    local = pd.DatetimeIndex(days.astype("datetime64[ns]").astype(np.int64) + time_ns)
    there = local.tz_localize(zone, ambiguous=np.zeros(len(days), bool), nonexistent="shift_forward")
    return there.tz_convert("UTC").asi8


def _before_close(close: IntArray, spec: SessionSpec) -> IntArray:
    """Return the times session.exit_minutes_before_close before each close."""
    return close - spec.exit_minutes_before_close * MINUTE_NS


def _forced_exit(date: SessionDates, close: IntArray, zone: str, spec: SessionSpec) -> IntArray:
    """Return the forced exit: the earlier of the exit time and the minutes before the close."""
    hours, minutes = spec.exit_time.split(":")
    time_ns = int(hours) * HOUR_NS + int(minutes) * MINUTE_NS
    return np.minimum(_in_utc(date, time_ns, zone), _before_close(close, spec))


def _exchange(name: str, years: tuple[np.datetime64, np.datetime64], spec: SessionSpec) -> SessionTable:
    """Return the sessions of an exchange_calendars calendar, holidays and early closes included."""
    schedule, zone = exchange_schedule(name, *years)
    date = np.asarray(pd.DatetimeIndex(schedule.index).asi8).astype("datetime64[ns]").astype("datetime64[D]")
    opens, close = pd.DatetimeIndex(schedule["open"]), _nanos(pd.DatetimeIndex(schedule["close"]))
    return SessionTable(
        calendar=name,
        date=date,
        open_ns=_nanos(opens),
        close_ns=close,
        stretches=_stretches(schedule),
        exit_ns=_forced_exit(date, close, zone, spec),
        per_year=sessions_per_year(date, *years),
        time_zone=zone,
        roll_ns=_overnight_roll(opens, date, zone),
    )


def _stretches(schedule: pd.DataFrame) -> IntArray:
    """Return start and end (I, 2) of each stretch of trading in order, lunch breaks left out."""
    broken = schedule["break_start"].notna()
    begin = pd.concat([schedule["open"], schedule.loc[broken, "break_end"]])
    end = pd.concat([schedule.loc[broken, "break_start"], schedule["close"]])
    return np.stack([np.sort(_nanos(pd.DatetimeIndex(each))) for each in (begin, end)], axis=1)


def _overnight_roll(opens: pd.DatetimeIndex, date: SessionDates, zone: str) -> int:
    """Return how long before midnight sessions open on the eve of their date; 0 for day sessions."""
    local = opens.tz_convert(zone).tz_localize(None).as_unit("ns").asi8
    before_midnight = date.astype("datetime64[ns]").astype(np.int64) - local
    return max(0, int(np.median(before_midnight)))


def _nanos(stamps: pd.DatetimeIndex) -> IntArray:
    """Return UTC nanoseconds."""
    return stamps.tz_convert("UTC").as_unit("ns").asi8


def _year_count(years: tuple[np.datetime64, np.datetime64]) -> int:
    """Return the number of whole calendar years."""
    return int((years[1].astype("datetime64[Y]") - years[0].astype("datetime64[Y]")).astype(np.int64))


def append_expected_bars(bars: Bars, table: SessionTable, count: int) -> Bars:
    """Append `count` placeholder bars at the last close, at the times the calendar expects the next bars.

    They provide the time and session at which an order decided on the newest bar would fill. No feature of an
    earlier bar reads their prices.
    """
    for _ in range(count):
        start, end = next_bar_span(bars, table)
        close = bars.close[-1:]
        bars = replace(
            bars,
            timestamp=np.append(bars.timestamp, start),
            bar_end=np.append(bars.bar_end, end),
            open=np.concatenate([bars.open, close]),
            high=np.concatenate([bars.high, close]),
            low=np.concatenate([bars.low, close]),
            close=np.concatenate([bars.close, close]),
            volume=np.concatenate([bars.volume, bars.volume[-1:]]),
            tradable=np.concatenate([bars.tradable, np.ones_like(bars.tradable[-1:])]),
            spread=np.concatenate([bars.spread, bars.spread[-1:]]),
        )
    return bars


def next_bar_span(bars: Bars, table: SessionTable) -> BarSpan:
    """Return the start and end of the bar after the last one."""
    start, end = int(bars.timestamp[-1]), int(bars.bar_end[-1])
    row = int(table.index(bars)[-1])
    if timeframe_ns(bars.timeframe) == DAY_NS:
        return _next_day(start, end, row, table)
    return _next_intraday(start, end, row, timeframe_ns(bars.timeframe), table)


def _next_day(start: int, end: int, row: int, table: SessionTable) -> BarSpan:
    """Return the next session's bar: at 00:00Z if bars are stamped so, else as far from the open."""
    if start % DAY_NS == 0:
        begins = int(table.date[row + 1].astype("datetime64[ns]").astype(np.int64))
    else:
        begins = start + int(table.open_ns[row + 1] - table.open_ns[row])
    begins = max(begins, end)
    return begins, begins + (end - start)


def _next_intraday(start: int, end: int, row: int, length_ns: int, table: SessionTable) -> BarSpan:
    """Return the following bar if the market stays open, else the first bar of the next trading stretch."""
    place = int(np.searchsorted(table.stretches[:, 1], end, side="right"))
    opens = int(table.stretches[place, 0])
    if end >= opens:
        return end, end + length_ns
    anchored = (start - int(table.open_ns[row])) % length_ns == 0
    begins = opens if anchored else opens - (opens - start) % length_ns
    begins = max(begins, end)
    return begins, begins + length_ns
