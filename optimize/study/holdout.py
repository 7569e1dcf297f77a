"""The holdout of a study: the one that its database keeps for these bars, or a new one."""

import dataclasses
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np

from envs.plain import to_plain
from optimize.database import Connection, Engine, has_table, open_engine, study_lock
from optimize.errors import BadInputError
from optimize.evaluate.windows import WindowDates
from optimize.report.format import ordinal
from optimize.results.holdout import HoldoutOpening, KeptHoldout, holdouts_of, keep_holdout, log_opening
from optimize.results.records import load_study
from optimize.results.tables import STUDIES
from optimize.results.tries import instruments_of
from optimize.study.control import base_name, phases_of
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import WindowedMarket

VAULT_LOCK = "wf_holdouts"


def with_kept_holdout(
    spec: StudySpec, windowed: WindowedMarket, echo: Callable[[str], None] = lambda line: None
) -> StudySpec:
    """Return the study with the holdout of its first launch, else with the one kept for its instruments.

    Raises BadInputError where listed windows, or a study without a holdout, reach into a kept one.
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
            found = holdouts_of(conn, _instruments(spec, windowed), *_span(windowed))
    finally:
        engine.dispose()
    kept = [each for each in found if each.spent_at is None]
    if kept and not spec.holdout.open:
        return _kept(spec, windowed, kept, echo)
    return _after_spent(spec, windowed, [each for each in found if each.spent_at is not None], echo)


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


def _kept(
    spec: StudySpec, windowed: WindowedMarket, all_kept: list[KeptHoldout], echo: Callable[[str], None]
) -> StudySpec:
    """Return the study with the first of the holdouts that other studies have cut and nobody has opened."""
    listed = bool(spec.window.spans) or spec.window.file is not None
    fixed = listed or spec.window.holdout_share == 0 or bool(spec.window.holdout)
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
    if not fixed and windowed.plan.holdout != (kept.first, kept.end):
        if kept.first <= _span(windowed)[0]:
            raise BadInputError(f"all bars begin within {where}: {remedy}, or give earlier bars")
        later = int((windowed.market.session_date >= np.datetime64(kept.end)).sum())
        rest = f", and its {later} later sessions are in none either" if later else ""
        echo(f"{where}, is in no window of this study{rest}: {remedy}")
        return _pinned(spec, [str(kept.first), str(kept.end)])
    return spec


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


def _instruments(spec: StudySpec, windowed: WindowedMarket) -> list[str]:
    return instruments_of(to_plain(spec)["data"], windowed.market.symbols)


def _span(windowed: WindowedMarket) -> tuple[date, date]:
    """Return the first session of the bars and the day after the last."""
    dates = windowed.market.session_date
    return dates[0].item(), dates[-1].item() + timedelta(days=1)


def enter_holdout(
    spec: StudySpec, engine: Engine, windowed: WindowedMarket, echo: Callable[[str], None], *, keep: bool
) -> None:
    """Log the kept holdouts that windows reach into, which opens them; `keep` stores the study's own.

    A study that is cut down by debug=tiny keeps none, as its scores mean nothing.
    """
    plan, instruments, name = windowed.plan, _instruments(spec, windowed), base_name(spec.name)
    with study_lock(spec.database.url, VAULT_LOCK), engine.begin() as conn:
        for kept in holdouts_of(conn, instruments, *_span(windowed)):
            if kept.spent_at is None and any(_reaches(window, kept) for window in plan.windows):
                opening = HoldoutOpening(instruments, kept.first, kept.end, name, "", "", "study")
                count = ordinal(log_opening(conn, opening))
                echo(f"the holdout {kept.first} to {kept.end} (exclusive) is opened for the {count} time")
        if plan.holdout is not None and keep:
            keep_holdout(conn, KeptHoldout(instruments, *plan.holdout, name))
