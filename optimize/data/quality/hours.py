"""Findings on clock and calendar: wrong time zone, wrong calendar, bars outside the sessions."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from envs.types import BoolArray, IntArray
from optimize.data.bars import Bars, RawBars, dates_of
from optimize.data.calendars.exchanges import canonical_name
from optimize.data.quality.calendar_fit import (
    AUTO_ORDER,
    BROKER,
    CANDIDATE_CLOCKS,
    COVERED,
    EXTENDED,
    NEW_YORK_ZONE,
    CalendarFit,
    fit_of,
    rank_fits,
)
from optimize.data.quality.findings import QualityFinding, make_finding, share_text
from optimize.data.sessions import SessionTable, session_table
from optimize.data.timeframes import DAY_NS, MINUTE_NS, timeframe_ns
from optimize.errors import BadInputError

MISREAD = (
    "time_zone",
    "calendar",
    "stamp_end",
)  # after one of these, other findings on sessions mean nothing
MAJORITY_OUTSIDE = 0.5
FITTING_CLOCK = 0.85  # same as FITTING for another clock; higher, because many clocks are tried
CLOSED_SHAPE = 0.6  # shape below which bars belong to none of the calendars of `auto`
CLOSED_DAYS = 14  # fewer days do not show when a market is closed
WELL = 0.9  # score of a good fit
CLEARLY = 0.1  # lead in score that a good fit needs over the present calendar
FITTING = 0.8  # score from which another calendar is suggested
SCORE_MARGIN = 0.15  # lead in score that it needs
GAIN = 0.01  # gain in score that another clock for the same calendar needs
FEW_BARS = 2
ALIKE = 0.03  # difference in score within which both alternatives are named
DAILY_FITTING = 0.985
DAILY_GAIN = 0.01
DAILY_BARS = 60  # fewer bars contain too few holidays to compare
DAY_NAMES = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
DAY_MINUTES = DAY_NS // MINUTE_NS


def clock_findings(
    raw: RawBars, bars: Bars, table: SessionTable, outside: BoolArray, *, auto: bool
) -> Iterator[QualityFinding]:
    """Yield a finding if another clock, stamp convention or calendar fits better, with its settings."""
    base = fit_of(bars, table.calendar)
    daily = timeframe_ns(bars.timeframe) >= DAY_NS
    half_outside = outside.mean() > MAJORITY_OUTSIDE
    if not half_outside and (_daily_is_clean(bars, base) if daily else base.clean):
        return
    ranked = rank_fits(bars, raw.clock, table.calendar)
    chosen = None if daily else _another_clock(base, ranked, int(outside.sum()))
    if chosen is None or chosen.score < ranked[0].score - ALIKE:
        another = _another_calendar(base, ranked, daily=daily, auto=auto, half_outside=half_outside)
        chosen = another or chosen
    stamps = raw.timestamp[outside] if outside.any() else raw.timestamp
    if chosen is not None:
        found = (
            f"the bars fit {_named(chosen, raw)} to {_score(chosen)}, {_named(base, raw)} to {_score(base)}"
        )
        remedy = _remedy(chosen, ranked, base, raw)
        if chosen.calendar not in (*AUTO_ORDER, EXTENDED, base.calendar) and not _can_be_built(chosen, bars):
            instead = _options(replace(chosen, calendar="24/7"), base)
            remedy = (
                f"{chosen.calendar} cannot be built with the installed exchange_calendars and pandas: set "
                f"{instead}, which takes the bars as they are, in sessions of UTC days"
            )
        yield make_finding(_check(chosen), raw, stamps, found, remedy, len(bars.timestamp))
    elif half_outside:
        close = "; ".join(f"{_named(fit, raw)} {_score(fit)}" for fit in ranked[:2])
        found = f"{share_text(outside)} outside the sessions of {table.calendar}; the closest: {close}"
        remedy = "set data.time_zone to the clock of the stamps and session.calendar to the market's"
        yield make_finding("calendar", raw, stamps, found, remedy)
    elif auto and not daily:
        yield from _of_no_calendar(raw, bars, base, ranked)


def _can_be_built(fit: CalendarFit, bars: Bars) -> bool:
    """Return whether the calendar of a fit can be built for the time of the bars."""
    try:
        session_table(fit.calendar, int(bars.bar_end[0]), int(bars.bar_end[-1]))
    except BadInputError:
        return False
    return True


def _of_no_calendar(
    raw: RawBars, bars: Bars, base: CalendarFit, ranked: Sequence[CalendarFit]
) -> Iterator[QualityFinding]:
    """Yield a finding if the bars do not match the inferred calendar and no other one clearly fits."""
    if base.shape >= CLOSED_SHAPE or bars.timestamp[-1] - bars.timestamp[0] < CLOSED_DAYS * DAY_NS:
        return
    closest = "".join(
        f"; the closest: {_named(fit, raw)} {_score(fit)}" for fit in ranked[:1] if fit is not base
    )
    found = f"the bars keep the hours of no calendar: {_named(base, raw)} {_score(base)}{closest}"
    remedy = (
        "set session.calendar to the market's and data.time_zone to the clock of the stamps; "
        f"session.calendar={base.calendar} takes them for bars of that market"
    )
    yield make_finding("calendar", raw, raw.timestamp, found, remedy)


def _daily_is_clean(bars: Bars, base: CalendarFit) -> bool:
    return base.score >= DAILY_FITTING or len(bars.timestamp) < DAILY_BARS


def _another_calendar(
    base: CalendarFit, ranked: Sequence[CalendarFit], *, daily: bool, auto: bool, half_outside: bool
) -> CalendarFit | None:
    """Return the best fit if its calendar clearly beats the present one, else None."""
    best = ranked[0]
    if not (auto or half_outside) or (best.calendar == base.calendar and best.clock is None):
        return None
    if daily:
        plain = best.score >= max(DAILY_FITTING, base.score + DAILY_GAIN)
        return best if plain else None
    bad = half_outside or (base.covered < COVERED and base.score < COVERED)
    if base.score < WELL <= best.score:
        return best if bad or best.score >= base.score + CLEARLY else None
    fitting = FITTING_CLOCK if best.clock or best.ends else FITTING
    return best if bad and best.score >= max(fitting, base.score + SCORE_MARGIN) else None


def _another_clock(base: CalendarFit, ranked: Sequence[CalendarFit], outside: int) -> CalendarFit | None:
    """Return the best other clock for the same calendar if it halves the mismatch, else None."""
    others = [fit for fit in ranked if fit.calendar == base.calendar and (fit.clock or fit.ends)]
    if not others or outside < FEW_BARS:
        return None
    top = max(fit.score for fit in others)
    order = {clock: rank for rank, clock in enumerate((None, *CANDIDATE_CLOCKS))}
    near = [fit for fit in others if fit.score >= top - 0.002]
    best = min(near, key=lambda fit: order.get(fit.clock, len(order)))
    halved = 1 - best.score <= (1 - base.score) / 2
    enough = best.score >= max(FITTING_CLOCK, base.score + GAIN)
    return best if halved and enough else None


def _check(fit: CalendarFit) -> str:
    if fit.ends:
        return "stamp_end"
    return "calendar" if fit.clock is None else "time_zone"


def _named(fit: CalendarFit, raw: RawBars) -> str:
    """Return a fit as text, such as `XSHG read as Asia/Shanghai`."""
    name = "US extended hours (04:00 to 20:00 New York)" if fit.calendar == EXTENDED else fit.calendar
    if fit.ends and fit.clock is None:
        return f"{name} with stamps at the end of bars"
    clock = fit.clock or raw.clock or "UTC"
    ends = " with stamps at the end of bars" if fit.ends else ""
    return f"{name} read as {clock}{ends}"


def _score(fit: CalendarFit) -> str:
    return f"{100 * fit.score:.0f} %"


def _remedy(fit: CalendarFit, ranked: Sequence[CalendarFit], base: CalendarFit, raw: RawBars) -> str:
    """Return the settings that a fit requires, and those of equally good alternatives."""
    if fit.ends and fit.calendar == base.calendar and fit.clock is None:
        return "a bar begins at the close and none at the open, so stamps are ends: set data.stamp=end"
    options = _options(fit, base)
    alike = [each for each in ranked if each is not fit and each.score >= fit.score - ALIKE]
    if fit.calendar == base.calendar:
        alike = [each for each in alike if each.calendar == fit.calendar and each.clock in CANDIDATE_CLOCKS]
    else:
        usual = [each for each in alike if each.calendar in AUTO_ORDER and each.clock in CANDIDATE_CLOCKS]
        alike = [each for each in alike if each.calendar not in AUTO_ORDER]
        alike = [each for each in (*usual, *alike) if fit.ends or not each.ends]
    alternatives = [_options(each, base) for each in alike if _options(each, base)]
    also = f" (or {', '.join(list(dict.fromkeys(alternatives))[:3])})" if alternatives else ""
    offset = " on stamps written without an offset" if fit.clock and raw.clock is None else ""
    if fit.clock == BROKER and raw.clock is not None:
        also = f", the server time of MetaTrader{also}"
    return f"set {options}{offset}{also}"


def _options(fit: CalendarFit, base: CalendarFit) -> str:
    """Return the settings of a fit as command-line overrides."""
    words = [f"data.time_zone={fit.clock}"] if fit.clock else []
    words += ["data.stamp=end"] if fit.ends else []
    if fit.calendar == EXTENDED:
        words.append("session.outside=drop")
    elif fit.calendar != base.calendar:
        words.append(f"session.calendar={fit.calendar}")
    return " ".join(words)


def outside_findings(
    raw: RawBars, bars: Bars, table: SessionTable, outside: BoolArray
) -> Iterator[QualityFinding]:
    """Yield a finding on bars outside the sessions: weekly pattern, and share after early closes."""
    if not outside.any():
        return
    stamps = raw.timestamp[outside]
    row = np.maximum(np.searchsorted(table.open_ns, stamps, side="right") - 1, 0)
    early = stamps < table.open_ns[row] + (table.close_ns - table.open_ns).max()
    late = "all" if early.all() else f"{int(early.sum()):,}"
    after = f", {late} of them after an early close" if early.any() else ""
    pattern = None if early.all() else weekly_pattern(bars.timestamp, outside, table, bars.timeframe)
    found = f"{share_text(outside)} outside the sessions of {table.calendar}{after}"
    remedy = "they trade with the session of their day; session.outside=drop leaves them out"
    if pattern is not None:
        found = f"{found}, {pattern}"
        if not _in_extended_hours(stamps, table):
            remedy = "single bars cannot cause such a pattern: check data.time_zone and session.calendar"
    yield make_finding("outside_session", raw, stamps, found, remedy)


def weekly_pattern(stamps: IntArray, outside: BoolArray, table: SessionTable, timeframe: str) -> str | None:
    """Return the weekly times at which bars repeatedly lie outside the sessions; None for isolated bars."""
    length_ns = timeframe_ns(timeframe)
    local = (
        pd.DatetimeIndex(stamps, tz="UTC").tz_convert(table.time_zone).tz_localize(None).as_unit("ns").asi8
    )
    if length_ns >= DAY_NS:
        local = dates_of(stamps)
    day, minute = local // DAY_NS, local % DAY_NS // MINUTE_NS
    weekday = (day + 3) % 7
    usual = []
    for each in range(7):
        met = np.unique(day[weekday == each])
        hit = np.unique(day[outside & (weekday == each)])
        if len(hit) and 2 * len(hit) >= len(met):
            usual.append(each)
    chosen = outside & np.isin(weekday, usual)
    dates = np.unique(day[chosen])
    if len(dates) < FEW_BARS or 2 * chosen.sum() < outside.sum():
        return None
    if length_ns >= DAY_NS:
        return f"on {_days(usual)}"
    values, counts = np.unique(minute[chosen], return_counts=True)
    often = values[2 * counts >= counts.max()] if counts.max() > 1 else values
    return f"on {_days(usual)} {_times(often, max(1, length_ns // MINUTE_NS))} ({table.time_zone})"


def _days(weekdays: Sequence[int]) -> str:
    if len(weekdays) >= 3:
        return "most days"
    return " and ".join(DAY_NAMES[each] for each in weekdays)


def _times(minutes: IntArray, length: int) -> str:
    """Return bar starts as one or two time ranges, `04:00 to 09:30 and 16:00 to 20:00`."""
    runs = np.split(minutes, np.flatnonzero(np.diff(minutes) > max(length, 15)) + 1)
    if len(runs) > 2:  # scattered: split at the widest pause
        widest = int(np.diff(minutes).argmax()) + 1
        runs = [minutes[:widest], minutes[widest:]]
    spans = [f"{_clock(int(run[0]))} to {_clock(int(run[-1]) + length)}" for run in runs]
    return " and ".join(spans)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}" if minutes < DAY_MINUTES else "24:00"


def _in_extended_hours(stamps: IntArray, table: SessionTable) -> bool:
    """Return whether bars lie in the pre-market and after-hours trading of New York."""
    if canonical_name(table.calendar) != "XNYS":
        return False
    local = pd.DatetimeIndex(stamps, tz="UTC").tz_convert(NEW_YORK_ZONE)
    minute = np.asarray(local.hour * 60 + local.minute)
    return bool(
        ((minute >= 4 * 60) & (minute < 20 * 60)).mean() > MAJORITY_OUTSIDE
        and (minute != 16 * 60).mean() > MAJORITY_OUTSIDE
    )
