"""Score how well each calendar, clock and stamp convention fits the bars.

A fit has two shares: bars inside the calendar's open time, and open time covered by bars. Its score is their
overlap (Jaccard index): 1 if every bar is inside and every open hour has bars.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from envs.types import BoolArray, IntArray
from optimize.data.bars import Bars, select_rows
from optimize.data.calendars.exchanges import canonical_name
from optimize.data.calendars.hours import SLOT_MINUTES, SLOTS_A_DAY, SLOTS_A_WEEK, TRADING_HOURS, TradingHours
from optimize.data.calendars.spec import SessionSpec
from optimize.data.calendars.zones import Clock, parse_clock, wall_time
from optimize.data.sessions import session_table
from optimize.data.timeframes import DAY_NS, MINUTE_NS, timeframe_ns
from optimize.errors import BadInputError

NEW_YORK_ZONE = "America/New_York"
BROKER = f"{NEW_YORK_ZONE}+7"
EXTENDED = "extended"  # US stocks including pre-market and after-hours trading
AUTO_ORDER = ("XNYS", "24/5", "24/7")  # candidates of session.calendar=auto; of equal fits the first wins
CANDIDATE_CLOCKS = (
    BROKER, "Etc/GMT+5", NEW_YORK_ZONE, "Europe/London", "Europe/Berlin", "Europe/Athens", "America/Chicago",
)  # fmt: skip
SHIFTS = tuple(f"UTC{hours:+d}" for hours in (*range(-12, 0), *range(1, 15)))
LARGE = tuple(TRADING_HOURS)[:28]  # exchanges compared with daily bars, by their holidays
SAMPLE_NS = 730 * DAY_NS  # two years show today's hours and every clock change
CELL_NS = 15 * MINUTE_NS  # finer bars are counted in cells of this length
SLOT_NS = SLOT_MINUTES * MINUTE_NS
WEEK_NS = 7 * DAY_NS
TIE = 0.002
SUPPOSED_TWICE = (
    0.1  # by which a fit of another calendar, another clock and ends is better than a plainer one
)
INSIDE, COVERED = 0.995, 0.75  # from these shares on bars fit, and no other calendar is tried
EVER = 0.9  # share of a week's open hours with a bar in any week; a daily lunch break leaves fewer
LONG_GAP_DAYS = 10


@dataclass(frozen=True, slots=True)
class CalendarFit:
    """Agreement of bars with a calendar, given the clock and stamp convention used to read them."""

    calendar: str
    clock: str | None  # in the form of data.time_zone; None: the clock already applied
    ends: bool  # timestamps taken as the ends of bars
    inside: float  # share of bars in open time
    covered: float  # share of open time with bars
    ever: float = 1.0  # share of a week's open hours with a bar in any week

    @property
    def score(self) -> float:
        """Return the overlap of bars and open time, 0 to 1."""
        if not self.inside or not self.covered:
            return 0.0
        return 1 / (1 / self.inside + 1 / self.covered - 1)

    @property
    def shape(self) -> float:
        """Return the overlap if one bar in any week suffices to cover an hour of the week."""
        if not self.inside or not self.ever:
            return 0.0
        return 1 / (1 / self.inside + 1 / self.ever - 1)

    @property
    def clean(self) -> bool:
        """Return whether the fit is good enough to keep this calendar and clock."""
        return self.inside >= INSIDE and self.covered >= COVERED and self.ever >= EVER


class WeeklyHours:
    """Bars of the last two years, counted by 5-minute slot of the local week in any zone and on any clock."""

    def __init__(self, bars: Bars, clock: str | None) -> None:
        recent = bars.timestamp >= bars.timestamp[-1] - SAMPLE_NS
        length_ns = timeframe_ns(bars.timeframe)
        self.length_ns = max(length_ns, CELL_NS)
        stamps = bars.timestamp[recent]
        folded = stamps // CELL_NS * CELL_NS if length_ns < CELL_NS else stamps
        self.stamps, self.weight = np.unique(folded, return_counts=True)
        self.clock = parse_clock(clock or "UTC")

    @cached_property
    def wall(self) -> pd.DatetimeIndex:
        """Return the timestamps as the source has them, without a zone."""
        return wall_time(pd.DatetimeIndex(self.stamps, tz="UTC"), self.clock)

    def local(self, zone: str, clock: str | None = None, *, ends: bool = False) -> IntArray:
        """Return the timestamps (N,) as a zone's local nanoseconds, optionally read on another clock."""
        shift = self.length_ns if ends else 0
        if clock is None:
            there = pd.DatetimeIndex(self.stamps - shift, tz="UTC")
        else:
            there = _instants(self.wall, parse_clock(clock)) - pd.Timedelta(shift, unit="ns")
        return there.tz_convert(zone).tz_localize(None).as_unit("ns").asi8

    def fit(
        self, calendar: str, clock: str | None, local: IntArray, week: BoolArray, *, ends: bool = False
    ) -> CalendarFit:
        """Return how well the bars at local timestamps fill the open slots of a week."""
        slots = max(1, self.length_ns // SLOT_NS)
        start = (local // SLOT_NS + 3 * SLOTS_A_DAY) % SLOTS_A_WEEK  # 1970-01-01 was a Thursday
        starts = np.bincount(start, minlength=SLOTS_A_WEEK)
        weights = np.bincount(start, weights=self.weight, minlength=SLOTS_A_WEEK)
        width = int(min(slots, SLOTS_A_WEEK))
        touched = np.zeros(SLOTS_A_WEEK, dtype=np.bool_)
        filled = np.zeros(SLOTS_A_WEEK)
        for step in range(width):
            touched |= np.roll(week, -step)
            filled += np.roll(starts, step)
        expected = self._occurrences(local)
        open_slots = float(expected[week].sum())
        covered = float(np.minimum(filled, expected)[week].sum()) / open_slots if open_slots else 0.0
        inside = float(weights[touched].sum() / weights.sum())
        return CalendarFit(calendar, clock, ends, inside, covered, float((filled[week] > 0).mean()))

    def _occurrences(self, local: IntArray) -> IntArray:
        """Return how often each slot of a week occurs between first and last bar, missing weeks left out."""
        first, last = local[0] // SLOT_NS, (local[-1] + self.length_ns - 1) // SLOT_NS
        count = int(last - first) + 1
        whole, rest = divmod(count, SLOTS_A_WEEK)
        expected: IntArray = np.full(SLOTS_A_WEEK, whole, dtype=np.int64)
        begin = int(first + 3 * SLOTS_A_DAY) % SLOTS_A_WEEK
        expected[(begin + np.arange(rest)) % SLOTS_A_WEEK] += 1
        skipped = int((np.maximum(np.diff(local) - SLOT_NS, 0) // WEEK_NS).sum()) if len(local) > 1 else 0
        left: IntArray = np.maximum(expected - skipped, 0)
        return left


def _instants(wall: pd.DatetimeIndex, clock: Clock) -> pd.DatetimeIndex:
    """Convert local times to instants: the later of two; a skipped time moves past the clock change."""
    winter = np.zeros(len(wall), dtype=np.bool_)
    return (wall - clock.shift).tz_localize(clock.zone, ambiguous=winter, nonexistent="shift_forward")


def _weeks() -> dict[str, tuple[str, list[BoolArray]]]:
    """Return the zone and the open slots of a week of every calendar; 24/5 has two variants."""
    every = np.ones(SLOTS_A_WEEK, dtype=np.bool_)
    forex = TradingHours(NEW_YORK_ZONE, "17:00", "17:00", eve=True).open_slots()
    metals = TradingHours(NEW_YORK_ZONE, "18:00", "17:00", eve=True).open_slots()  # closed for an hour a day
    weeks = {"XNYS": (NEW_YORK_ZONE, [TRADING_HOURS["XNYS"].open_slots()])}
    weeks |= {"24/5": (NEW_YORK_ZONE, [forex, metals]), "24/7": ("UTC", [every])}
    weeks[EXTENDED] = (NEW_YORK_ZONE, [TradingHours(NEW_YORK_ZONE, "04:00", "20:00").open_slots()])
    return weeks | {name: (hours.zone, [hours.open_slots()]) for name, hours in TRADING_HOURS.items()}


WEEKS = _weeks()


def infer_calendar(bars: Bars) -> str:
    """Return the calendar of AUTO that fits the bars best; of equal fits the first."""
    if _is_daily(bars):
        return _best(list(_daily_fits(bars, AUTO_ORDER))).calendar
    *fits, extended = _given(WeeklyHours(bars, None), (*AUTO_ORDER, EXTENDED))
    best = _best(fits)
    return "XNYS" if extended.score > max(best.score, COVERED) else best.calendar


def resolve_calendar(spec: SessionSpec, bars: Bars) -> str:
    """Return the calendar's name, inferred from the bars if the spec has auto."""
    return infer_calendar(bars) if spec.calendar == "auto" else spec.calendar


def fit_of(bars: Bars, calendar: str) -> CalendarFit:
    """Return the fit of bars to a calendar on the clock already applied."""
    if _is_daily(bars):
        return next(_daily_fits(bars, (calendar,)))
    return next(_given(WeeklyHours(bars, None), (canonical_name(calendar),)))


def rank_fits(bars: Bars, clock: str | None, calendar: str) -> list[CalendarFit]:
    """Return the fits of all calendars, clocks and stamp conventions, best first; ties go to the simplest.

    `clock` is data.time_zone if it was applied, None if the timestamps had a zone of their own.
    """
    calendar = canonical_name(calendar)
    if _is_daily(bars):
        recent = select_rows(bars, bars.timestamp >= bars.timestamp[-1] - SAMPLE_NS)
        fits = list(_daily_fits(recent, (calendar, *AUTO_ORDER, *LARGE)))
    else:
        hours = WeeklyHours(bars, clock)
        fits = [*_given(hours, (calendar, *WEEKS)), *_read_otherwise(hours, calendar)]
        fits += _plainly_better(_ends_of_others(hours, calendar), _best(fits).score)
    best = _best(fits)
    ranked = sorted(fits, key=lambda fit: -fit.score)
    return [best, *(fit for fit in ranked if fit is not best)]


def _given(hours: WeeklyHours, calendars: Sequence[str]) -> Iterator[CalendarFit]:
    """Yield the fits of calendars on the clock already applied; each zone is converted only once."""
    local: dict[str, IntArray] = {}
    for name in dict.fromkeys(calendars):
        zone, weeks = WEEKS[name]
        if zone not in local:
            local[zone] = hours.local(zone)
        yield _best([hours.fit(name, None, local[zone], week) for week in weeks])


def _read_otherwise(hours: WeeklyHours, calendar: str) -> Iterator[CalendarFit]:
    """Yield the fits of timestamps read on other clocks, and of timestamps taken as ends of bars."""
    as_read, own = hours.clock.text, hours.wall.as_unit("ns").asi8
    around = [name for name in dict.fromkeys((calendar, "24/5", "XNYS")) if name != "24/7"]
    yield from _ending(hours, around[:1])
    yield from _on_clocks(hours, ("24/5", "XNYS"), CANDIDATE_CLOCKS)
    for name, (zone, weeks) in WEEKS.items():
        if zone != as_read and name not in ("24/5", "XNYS", "24/7"):
            yield _best([hours.fit(name, zone, own, week) for week in weeks])
    yield from _on_clocks(hours, ("24/5", "XNYS"), ("UTC", *SHIFTS))


def _ends_of_others(hours: WeeklyHours, calendar: str) -> Iterator[CalendarFit]:
    """Yield the fits of other calendars to timestamps taken as ends, on the present and their own clocks."""
    others = [name for name in WEEKS if name not in (calendar, "24/7", EXTENDED)]
    yield from _ending(hours, others)
    for name in others:
        zone, weeks = WEEKS[name]
        if zone != hours.clock.text:
            local = hours.local(zone, zone, ends=True)
            yield _best([hours.fit(name, zone, local, week, ends=True) for week in weeks])


def _plainly_better(fits: Iterable[CalendarFit], score: float) -> list[CalendarFit]:
    """Return the fits that beat a score by a margin that grows with the number of assumptions."""
    return [fit for fit in fits if fit.score >= score + (SUPPOSED_TWICE if fit.clock else 0.0)]


def _ending(hours: WeeklyHours, calendars: Sequence[str]) -> Iterator[CalendarFit]:
    """Yield the fits of calendars to timestamps taken as the ends of bars."""
    for name in calendars:
        zone, weeks = WEEKS[name]
        ends = hours.local(zone, ends=True)
        yield _best([hours.fit(name, None, ends, week, ends=True) for week in weeks])


def _on_clocks(hours: WeeklyHours, calendars: Sequence[str], clocks: Sequence[str]) -> Iterator[CalendarFit]:
    """Yield the fits of calendars in New York time to timestamps read on each clock."""
    for clock in clocks:
        if clock != hours.clock.text:
            local = hours.local(NEW_YORK_ZONE, clock)
            for name in calendars:
                yield _best([hours.fit(name, clock, local, week) for week in WEEKS[name][1]])


def _daily_fits(bars: Bars, calendars: Sequence[str]) -> Iterator[CalendarFit]:
    """Yield the fits of calendars to daily bars by session dates; long gaps are left out."""
    for name in dict.fromkeys(calendars):
        try:
            table = session_table(name, int(bars.bar_end[0]), int(bars.bar_end[-1]))
        except BadInputError:  # the calendar is not recorded for that time
            continue
        days = table.day_of(bars.timestamp, bars.bar_end, bars.timeframe)
        inside = np.isin(days, table.date)
        row = np.searchsorted(table.date, days)
        step = np.diff(row)
        missing = np.where(np.diff(days).astype(np.int64) <= LONG_GAP_DAYS, np.maximum(step - 1, 0), 0).sum()
        met = float(inside.sum())
        yield CalendarFit(name, None, False, met / len(days), met / (met + float(missing)) if met else 0.0)


def _is_daily(bars: Bars) -> bool:
    return timeframe_ns(bars.timeframe) >= DAY_NS


def _best(fits: Sequence[CalendarFit]) -> CalendarFit:
    """Return the first fit whose score is within TIE of the best."""
    top = max(fit.score for fit in fits)
    return next(fit for fit in fits if fit.score >= top - TIE)
