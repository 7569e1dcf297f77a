"""The holdout of a study: the one that its database keeps for these bars, or a new one."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date, timedelta

import numpy as np

from envs.plain import to_plain
from envs.types import DateArray
from optimize.data.symbols import share_symbol
from optimize.database import Connection, Engine, has_table, open_engine, study_lock
from optimize.errors import BadInputError
from optimize.evaluate.windows import WindowDates
from optimize.report.format import ordinal
from optimize.results.holdout import HoldoutOpening, KeptHoldout, holdouts_of, keep_holdout, log_opening
from optimize.results.instrument_names import instruments_of
from optimize.results.instruments import names_of_bars, store_instruments
from optimize.results.records import load_study
from optimize.results.tables import STUDIES
from optimize.study.control import base_name, phases_of
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import WindowedMarket

VAULT_LOCK = "wf_holdouts"
SUCCESSION = "succession"  # purpose of an opening: a newer holdout replaces one that nobody has opened


def with_kept_holdout(
    spec: StudySpec,
    windowed: WindowedMarket,
    echo: Callable[[str], None] = lambda line: None,
    *,
    keep: bool = True,
) -> StudySpec:
    """Return the study with the holdout of its first launch, else with the one kept for its instruments.

    A kept holdout gives way to a newer one of a study that `keep` stores. Raises BadInputError where listed
    windows, or a study without a holdout, reach into a kept one.
    """
    try:
        engine = open_engine(spec.database.url, read_only=True)
    except BadInputError:  # there is no database yet
        return spec
    try:
        with engine.connect() as conn:
            stored = _stored_holdout(conn, spec.name)
            if stored is not None:
                return _pinned(spec, stored)
            found = holdouts_of(conn, _names(conn, spec, windowed), *_span(windowed))
    finally:
        engine.dispose()
    kept = [each for each in found if each.spent_at is None]
    spent = [each for each in found if each.spent_at is not None]
    if keep and not _is_fixed(spec):
        kept = [each for each in kept if not _gives_way(each, windowed)]
    if kept and not spec.holdout.open:
        return _kept(spec, windowed, kept, spent, echo)
    return _after_spent(spec, windowed, spent, echo)


def _stored_holdout(conn: Connection, name: str) -> list[str] | None:
    """Return window.holdout of a stored phase of the study, None for a new study."""
    if not has_table(conn, STUDIES.name):
        return None
    for phase in phases_of(name):
        if (record := load_study(conn, phase)) is not None:
            return list(record.spec.get("window", {}).get("holdout", []))
    return None


def _pinned(spec: StudySpec, dates: list[str]) -> StudySpec:
    if dates == spec.window.holdout:
        return spec
    return dataclasses.replace(spec, window=dataclasses.replace(spec.window, holdout=dates))


def _is_fixed(spec: StudySpec) -> bool:
    """Return whether the study states its windows or its holdout, or wants none."""
    listed = bool(spec.window.spans) or spec.window.file is not None
    return listed or spec.window.holdout_share == 0 or bool(spec.window.holdout)


def _gives_way(kept: KeptHoldout, windowed: WindowedMarket) -> bool:
    """Return whether a study on these bars has its own holdout after a kept one.

    As many sessions as the kept one has must have come in since its end, so that a study without newer bars
    never reaches into it and the windows of a weekly study stay two holdouts behind the newest bar at most.
    """
    own, dates = windowed.plan.holdout, windowed.market.session_date
    length, later = _sessions(dates, kept.first, kept.end), _sessions(dates, kept.end, _span(windowed)[1])
    return own is not None and own[0] >= kept.end and later >= length


def _sessions(dates: DateArray, first: date, end: date) -> int:
    return int(np.searchsorted(dates, np.datetime64(end)) - np.searchsorted(dates, np.datetime64(first)))


def _kept(
    spec: StudySpec,
    windowed: WindowedMarket,
    all_kept: list[KeptHoldout],
    spent: list[KeptHoldout],
    echo: Callable[[str], None],
) -> StudySpec:
    """Return the study with the first of the holdouts that other studies have cut and nobody has opened."""
    fixed = _is_fixed(spec)
    reached = [each for each in all_kept if any(_reaches(window, each) for window in windowed.plan.windows)]
    kept = next(iter(reached if fixed else []), all_kept[0])
    where = (
        f"the holdout of {', '.join(kept.instruments)}, {kept.first} to {kept.end} (exclusive), kept since "
        f"study {kept.study_name} cut it"
    )
    remedy = "holdout.open=true opens it, which is logged and counted on every card, and then it is spent"
    if fixed and reached:
        raise BadInputError(
            f"windows reach into {where}: end them before it, or give window.holdout_share=0.15 to a study "
            f"without listed windows; {remedy}"
        )
    end = _end_of(all_kept, spent, windowed, spec.window.holdout_share)
    if not fixed and windowed.plan.holdout != (kept.first, end):
        if kept.first <= _span(windowed)[0]:
            raise BadInputError(f"all bars begin within {where}: {remedy}, or give earlier bars")
        longer = f", goes on to {end} in this study and" if end > kept.end else ","
        later = _sessions(windowed.market.session_date, end, _span(windowed)[1])
        rest = f", and its {later} later sessions are in none either" if later else ""
        echo(f"{where}{longer} is in no window of this study{rest}: {remedy}")
        return _pinned(spec, [str(kept.first), str(end)])
    return spec


def _end_of(
    all_kept: list[KeptHoldout], spent: list[KeptHoldout], windowed: WindowedMarket, share: float
) -> date:
    """Return the end of the first kept holdout, with those that follow it without a gap.

    One that began after a spent one grows with newer sessions to its share of the sessions up to its end.
    """
    first, end, dates = all_kept[0].first, all_kept[0].end, windowed.market.session_date
    for each in all_kept[1:]:
        if not _sessions(dates, end, each.first):
            end = max(end, each.end)
    if not any(each.end <= first and not _sessions(dates, each.end, first) for each in spent):
        return end
    before = int(np.searchsorted(dates, np.datetime64(first)))
    whole = math.ceil(before / (1.0 - share))
    last: date = dates[min(whole, len(dates)) - 1].item()
    return max(end, last + timedelta(days=1))


def _reaches(window: WindowDates, kept: KeptHoldout) -> bool:
    return kept.overlaps(window.train_start, window.test_end)


def _after_spent(
    spec: StudySpec, windowed: WindowedMarket, spent: list[KeptHoldout], echo: Callable[[str], None]
) -> StudySpec:
    """Return the study with a holdout that begins after every spent one."""
    own = windowed.plan.holdout
    if own is None or spec.window.holdout or not any(each.overlaps(*own) for each in spent):
        return spec
    end, after = own[1], max(each.end for each in spent)
    first = min(after, end)
    left = "no session is left for a new one" if first >= end else f"the next one is {first} to {end}"
    echo(f"the last holdout of these bars was opened and ends at {after} (exclusive): {left}")
    return _pinned(spec, [str(first), str(end)])


def _echo_names(instruments: Sequence[str], names: Sequence[str], echo: Callable[[str], None]) -> None:
    """Print the other names under which the database knows the bars."""
    others = [each for each in names if not share_symbol([each], instruments)]
    if others:
        echo(
            f"the bars of {', '.join(instruments)} are those of {', '.join(others)} by their session closes: "
            "holdouts and tries count for both"
        )


def _names(conn: Connection, spec: StudySpec, windowed: WindowedMarket) -> list[str]:
    return names_of_bars(conn, to_plain(spec)["data"], windowed.market)


def _span(windowed: WindowedMarket) -> tuple[date, date]:
    """Return the first session of the bars and the day after the last."""
    dates = windowed.market.session_date
    return dates[0].item(), dates[-1].item() + timedelta(days=1)


def admit(
    asked: StudySpec,
    planned_on: WindowedMarket,
    held: StudySpec,
    windowed: WindowedMarket,
    engine: Engine,
    store: Callable[[], None],
    echo: Callable[[str], None],
    *,
    keep: bool,
) -> bool:
    """Store a study and enter its holdout; False, with nothing stored, where another study cut one meanwhile.

    A new study holds the vault from the comparison to its end, so that of two studies that start at once the
    second one finds the holdout of the first. `held` is what with_kept_holdout made of `asked` before.
    """
    with _vault_of(asked, engine):
        if with_kept_holdout(asked, planned_on, keep=keep) != held:
            return False
        store()
        enter_holdout(held, engine, windowed, echo, keep=keep)
    return True


def _vault_of(spec: StudySpec, engine: Engine) -> AbstractContextManager[None]:
    """Return the lock of the vault for a new study; a stored one has its holdout."""
    with engine.connect() as conn:
        stored = _stored_holdout(conn, spec.name)
    return study_lock(spec.database.url, VAULT_LOCK) if stored is None else nullcontext()


def enter_holdout(
    spec: StudySpec, engine: Engine, windowed: WindowedMarket, echo: Callable[[str], None], *, keep: bool
) -> None:
    """Log the kept holdouts that windows reach into, which opens them; `keep` stores the study's own.

    A study that is cut down by debug=tiny keeps none, as its scores mean nothing.
    """
    plan, name, data = windowed.plan, base_name(spec.name), to_plain(spec)["data"]
    instruments = instruments_of(data, windowed.market.symbols)
    with study_lock(spec.database.url, VAULT_LOCK), engine.begin() as conn:
        _echo_names(instruments, store_instruments(conn, data, windowed.market), echo)
        found = [each for each in holdouts_of(conn, instruments, *_span(windowed)) if each.spent_at is None]
        reached = [each for each in found if any(_reaches(window, each) for window in plan.windows)]
        if reached:
            first = max(reached[0].first, min(window.train_start for window in plan.windows))
            end = min(max(each.end for each in reached), max(window.test_end for window in plan.windows))
            given = not spec.holdout.open and all(_gives_way(each, windowed) for each in reached)
            purpose, why = (SUCCESSION, " by giving way to a newer one") if given else ("study", "")
            count = log_opening(conn, HoldoutOpening(instruments, first, end, name, "", "", purpose))
            echo(f"the holdout {first} to {end} (exclusive) is opened for the {ordinal(count)} time{why}")
        if plan.holdout is not None and keep:
            keep_holdout(conn, KeptHoldout(instruments, *plan.holdout, name))
