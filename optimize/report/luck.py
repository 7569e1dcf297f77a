"""Luck of a stored study: measured after each launch; boards read it, and measure it anew where stale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optimize.database import Connection, Engine, SQLAlchemyError, has_table, open_engine
from optimize.errors import WalkforgeError
from optimize.report.verdict import luck_lines
from optimize.results.luck import (
    LuckRecord,
    LuckTest,
    is_fresh,
    load_luck,
    load_luck_sets,
    save_luck,
    tries_of_study,
)
from optimize.results.queries import LeaderboardRow, best_models
from optimize.results.records import RunRecord, StudyRecord, load_study
from optimize.results.runs import count_counted, run_of_trial
from optimize.results.states import LuckVerdict
from optimize.results.tables import LUCK_TESTS

if TYPE_CHECKING:  # loaded only where luck is measured, as that takes a second
    from envs.types import FloatArray
    from optimize.evaluate.luck.family import FamilyTest
    from optimize.results.family import Family

INTERVALS = 50  # sets with an interval, the best by score: each takes a bootstrap of its own
FOUND_BELOW = 0.05
LUCK_ABOVE = 0.2  # between the two nothing is claimed
OF_ROW = (
    "sharpe_low", "sharpe_high", "psr", "deflated_sharpe_ratio", "chance_sharpe", "p_flat", "p_buy_and_hold",
    "n_tries", "as_of_trials",
)  # fmt: skip


@dataclass(frozen=True)
class StudyLuck:
    """Luck of a study and of its parameter sets."""

    test: LuckTest
    sets: tuple[LuckRecord, ...]


@dataclass(frozen=True, eq=False)
class _Measurement:
    """A family with its two tests, from the point of view of one study."""

    record: StudyRecord
    trials: int  # of the study, that had ended
    family: "Family"
    flat: "FamilyTest"
    hold: "FamilyTest"
    own: tuple[int, ...]  # columns of the study's sets with a score, best first
    sessions_per_year: float

    @property
    def risk_free(self) -> float:
        """Return the annual rate that the score subtracts."""
        return float(self.record.score.get("risk_free", 0.0))

    def excess(self, place: int) -> "FloatArray":
        """Return the returns of a column above the risk-free rate, on the sessions that it has."""
        column = self.family.returns[:, place]
        present: FloatArray = column[column == column]  # NaN is unequal to itself
        return present - self.risk_free / self.sessions_per_year


def verdict_of(p_value: float | None) -> LuckVerdict:
    """Return the verdict on a p-value after all tries; without one it is CANNOT_TELL."""
    if p_value is None or FOUND_BELOW < p_value <= LUCK_ABOVE:
        return LuckVerdict.CANNOT_TELL
    return LuckVerdict.FOUND if p_value <= FOUND_BELOW else LuckVerdict.LUCK


def measure_luck(conn: Connection, record: StudyRecord, sessions_per_year: float) -> StudyLuck | None:
    """Measure it from the stored session returns; None where an older version kept them in files alone."""
    from optimize.results.family import load_family

    study, trials = record.study_name, count_counted(conn, record.study_name)
    risk_free = float(record.score.get("risk_free", 0.0)) / sessions_per_year
    family = load_family(conn, study, risk_free)
    if family is None:
        return None
    return luck_of_family(family, record, trials, sessions_per_year, before=load_luck_sets(conn, study))


def luck_of_family(
    family: "Family",
    record: StudyRecord,
    trials: int,
    sessions_per_year: float,
    *,
    before: Sequence[LuckRecord] = (),
    intervals: int = INTERVALS,
) -> StudyLuck:
    """Return the luck of a study of `trials` ended trials, whose sets are among those of the family.

    The best `intervals` sets get an interval; those of `before` are kept.
    """
    from optimize.evaluate.luck.family import assess_family

    risk_free = float(record.score.get("risk_free", 0.0)) / sessions_per_year
    scored = [(-run.score, run.trial_number, place) for place, run in enumerate(family.runs)
              if run.study_name == record.study_name and run.score is not None]  # fmt: skip
    tries, held = family.tries.same_instrument, family.n_held
    found = _Measurement(
        record=record,
        trials=trials,
        family=family,
        flat=assess_family(family.returns - risk_free, n_tries=tries, n_held=held),
        hold=assess_family(family.returns - family.hold[:, family.hold_of], n_tries=tries, n_held=held),
        own=tuple(place for *_, place in sorted(scored)),
        sessions_per_year=sessions_per_year,
    )
    test = _test_of(found)
    return StudyLuck(test, tuple(_sets_of(found, test, before, intervals)))


def _test_of(found: _Measurement) -> LuckTest:
    """Return the verdict on the best of the study's sets."""
    from optimize.evaluate.luck.family import chance_level
    from optimize.evaluate.luck.power import detectable_sharpe

    family, tested, year = found.family, found.flat.test, math.sqrt(found.sessions_per_year)
    sessions = max((len(found.excess(place)) for place in found.own), default=0)
    chance = detectable = None
    if sessions > 1:
        complete = [found.excess(place) for place, run in enumerate(family.runs) if not run.pruned]
        chance = chance_level(complete, n_tries=family.tries.same_instrument, n_observations=sessions)
        detectable = detectable_sharpe(
            critical_value=tested.critical_value,
            n_sessions=sessions,
            block_length=min(tested.block_length, sessions),
            variance_ratio=tested.variance_ratio,
        )
    best, best_hold = _smallest(found.flat, found.own), _smallest(found.hold, found.own)
    p_flat, p_hold = _p_of(found.flat, best), _p_of(found.hold, best_hold)
    has_statistic = tested.statistics == tested.statistics
    return LuckTest(
        study_name=found.record.study_name,
        verdict=verdict_of(p_flat),
        verdict_buy_and_hold=verdict_of(p_hold),
        trial_number=None if best is None else family.runs[best].trial_number,
        sharpe=None if best is None else _annual_sharpe(found, best),
        p_flat=p_flat,
        trial_buy_and_hold=None if best_hold is None else family.runs[best_hold].trial_number,
        p_buy_and_hold=p_hold,
        critical_flat=_finite(tested.critical_value),
        critical_buy_and_hold=_finite(found.hold.test.critical_value),
        chance_sharpe=_finite(chance, year),
        detectable_sharpe=_finite(detectable, year),
        n_sessions=sessions,
        n_sets=tested.n_columns,
        n_pruned=sum(run.pruned for run, has in zip(family.runs, has_statistic, strict=True) if has),
        n_tries=family.tries.same_instrument,
        n_tries_all=family.tries.all_instruments,
        n_held=min(family.n_held, family.tries.same_instrument),
        as_of_trials=found.trials,
    )


def _sets_of(
    found: _Measurement, test: LuckTest, before: Sequence[LuckRecord], intervals: int
) -> list[LuckRecord]:
    """Return the luck of each set of the study; intervals of runs that were measured before are kept."""
    from optimize.evaluate.luck.family import sharpe_luck
    from optimize.evaluate.luck.paired import sharpe_interval

    year, known = math.sqrt(found.sessions_per_year), {each.run_uuid: each for each in before}
    sets = []
    for rank, place in enumerate(found.own):
        run, series = found.family.runs[place], found.excess(place)
        luck = sharpe_luck(series, 0.0 if test.chance_sharpe is None else test.chance_sharpe / year)
        earlier = known.get(run.run_uuid)
        low, high = (None, None) if earlier is None else (earlier.sharpe_low, earlier.sharpe_high)
        if rank < intervals and low is None:
            interval = sharpe_interval(returns=series)
            low, high = _finite(interval.lower, year), _finite(interval.upper, year)
        sets.append(
            LuckRecord(
                study_name=run.study_name,
                parameter_set=run.parameter_set,
                run_uuid=run.run_uuid,
                trial_number=run.trial_number,
                sharpe_low=low,
                sharpe_high=high,
                psr=luck.probabilistic,
                deflated_sharpe_ratio=luck.deflated if test.chance_sharpe is not None else None,
                chance_sharpe=test.chance_sharpe,
                p_flat=_p_of(found.flat, place),
                p_buy_and_hold=_p_of(found.hold, place),
                n_tries=test.n_tries,
                as_of_trials=test.as_of_trials,
            )
        )
    return sets


def _annual_sharpe(found: _Measurement, place: int) -> float | None:
    from optimize.evaluate.metrics import sharpe_ratio

    return _finite(sharpe_ratio(found.excess(place), found.sessions_per_year))


def _smallest(tested: "FamilyTest", places: Sequence[int]) -> int | None:
    """Return the column of the smallest p-value among `places`, of equal ones with the largest statistic."""
    having = [place for place in places if math.isfinite(tested.p_values[place])]
    return min(having, key=lambda each: (tested.p_values[each], -tested.test.statistics[each]), default=None)


def _p_of(tested: "FamilyTest", place: int | None) -> float | None:
    return None if place is None else _finite(float(tested.p_values[place]))


def _finite(value: float | None, factor: float = 1.0) -> float | None:
    return None if value is None or not math.isfinite(value) else value * factor


def record_luck(engine: Engine, record: StudyRecord, sessions_per_year: float) -> None:
    """Measure and store the luck of a study unless the stored one is fresh."""
    with engine.connect() as conn:  # not in the transaction that stores it: that keeps other writers waiting
        stored = load_luck(conn, record.study_name)
        fresh = stored is not None and is_fresh(conn, stored)
        measured = None if fresh else measure_luck(conn, record, sessions_per_year)
    if measured is not None:
        with engine.begin() as conn:
            save_luck(conn, measured.test, measured.sets)


def refresh_luck(engine: Engine, study: str) -> None:
    """Measure and store the luck of a study with a scored trial, unless the stored one is fresh."""
    best = best_models(engine, study, 1)
    with engine.connect() as conn:
        record = load_study(conn, study)
    if best and best[0].sessions_per_year is not None and record is not None:
        record_luck(engine, record, best[0].sessions_per_year)


def luck_now(
    conn: Connection, url: str, record: StudyRecord, sessions_per_year: float | None
) -> StudyLuck | None:
    """Return the stored luck if it is fresh, else measure it; None where neither can be.

    A new measurement is stored where the database can be written to.
    """
    stored = load_luck(conn, record.study_name)
    if stored is not None and is_fresh(conn, stored):
        tries = tries_of_study(conn, record.study_name)  # on other instruments, which no p-value depends on
        current = replace(stored, n_tries_all=tries.all_instruments)
        return StudyLuck(current, tuple(load_luck_sets(conn, record.study_name)))
    measured = None if sessions_per_year is None else measure_luck(conn, record, sessions_per_year)
    if measured is not None and has_table(conn, LUCK_TESTS.name):
        _try_to_store(url, measured)
    return measured


def lines_with_flags(conn: Connection, test: LuckTest) -> list[str]:
    """Return the lines of a verdict; the flags of its trial stand below the word FOUND."""
    first, *rest = luck_lines(test)
    return [first, *caution_lines(conn, test), *rest]


def caution_lines(conn: Connection, test: LuckTest) -> list[str]:
    """Return one line for each flagged trial of a verdict FOUND, nothing for other verdicts."""
    if LuckVerdict.FOUND not in (test.verdict, test.verdict_buy_and_hold):
        return []
    trials = dict.fromkeys([test.trial_number, test.trial_buy_and_hold])
    runs = [run_of_trial(conn, test.study_name, number) for number in trials if number is not None]
    return [
        f"caution: trial {run.trial_number} is flagged ({run.flags}): look for the fault in data and costs "
        "before you believe it"
        for run in runs
        if run is not None and run.flags
    ]


def luck_of_set_now(conn: Connection, url: str, run: RunRecord) -> LuckRecord | None:
    """Return the luck of the parameter set that a run represents, measured anew where it is stale."""
    record = load_study(conn, run.study_name)
    year = (run.metrics or {}).get("sessions_per_year")
    found = None if record is None else luck_now(conn, url, record, year)
    return next((each for each in found.sets if each.run_uuid == run.run_uuid), None) if found else None


def _try_to_store(url: str, measured: StudyLuck) -> None:
    """Store the luck that a board measured; a read-only database is left as it is."""
    try:
        engine = open_engine(url)
        try:
            with engine.begin() as conn:
                save_luck(conn, measured.test, measured.sets)
        finally:
            engine.dispose()
    except (OSError, SQLAlchemyError, WalkforgeError):
        return


def refresh_for_reading(engine: Engine, url: str, study: str) -> bool:
    """Measure and store the luck of a study where it is stale; return whether the stored one is fresh now."""
    best = best_models(engine, study, 1)
    with engine.connect() as conn:
        record = load_study(conn, study)
        if not best or record is None or not has_table(conn, LUCK_TESTS.name):
            return True  # no row of luck to show
        luck_now(conn, url, record, best[0].sessions_per_year)
    with engine.connect() as conn:
        stored = load_luck(conn, study)
        return stored is None or is_fresh(conn, stored)


def with_luck(rows: Sequence[LeaderboardRow], sets: Sequence[LuckRecord]) -> list[LeaderboardRow]:
    """Return the rows of a leaderboard with the luck of their runs."""
    known: Mapping[str | None, LuckRecord] = {each.run_uuid: each for each in sets}
    return [
        replace(row, **{name: getattr(known[row.run_uuid], name) for name in OF_ROW})
        if row.run_uuid in known
        else row
        for row in rows
    ]
