"""Luck of a study as it was measured last: one row for the study, one for each parameter set."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete

from optimize.database import has_table
from optimize.results.rows import insert_into, load_rows, replace_row, values_of, where
from optimize.results.runs import count_counted
from optimize.results.states import LuckVerdict
from optimize.results.tables import LUCK, LUCK_TESTS
from optimize.results.tries import Tries, count_tries, tried_span


@dataclass(frozen=True)
class LuckTest:
    """Verdict on the best parameter set of a study after all tries on its instrument.

    Sharpe ratios are annualised.
    """

    study_name: str
    verdict: LuckVerdict  # against flat
    verdict_buy_and_hold: LuckVerdict
    trial_number: int | None  # the run with the smallest p-value against flat; None: no set has a statistic
    sharpe: float | None  # of its session returns
    p_flat: float | None
    trial_buy_and_hold: int | None  # the run with the smallest p-value against buy-and-hold
    p_buy_and_hold: float | None
    critical_flat: float | None  # in standard errors
    critical_buy_and_hold: float | None
    chance_sharpe: float | None  # that the best of n_tries shows by chance
    detectable_sharpe: float | None  # found with a probability of 80 %
    n_sessions: int
    n_sets: int  # of all studies, with a statistic
    n_pruned: int  # of those that were stopped or infeasible
    n_tries: int  # on this instrument and these dates
    n_tries_all: int  # on all instruments of these dates
    n_held: int  # of n_tries, with returns in the database
    as_of_trials: int


@dataclass(frozen=True)
class LuckRecord:
    """Luck of one parameter set, of its run of the lower median; Sharpe ratios are annualised."""

    study_name: str
    parameter_set: str
    run_uuid: str
    trial_number: int
    sharpe_low: float | None  # 95 % interval of the Sharpe ratio of its session returns
    sharpe_high: float | None
    psr: float | None
    deflated_sharpe_ratio: float | None
    chance_sharpe: float | None
    p_flat: float | None
    p_buy_and_hold: float | None
    n_tries: int
    as_of_trials: int


def save_luck(conn: Connection, test: LuckTest, sets: Sequence[LuckRecord]) -> None:
    """Replace the stored luck of a study."""
    replace_row(conn, LUCK_TESTS, values_of(test))
    conn.execute(delete(LUCK).where(LUCK.c.study_name == test.study_name))
    if sets:
        rows = [values_of(each) for each in sets]
        conn.execute(insert_into(conn, LUCK).on_conflict_do_nothing(), rows)  # another may store the same now


def load_luck(conn: Connection, study: str) -> LuckTest | None:
    """Return the stored verdict of a study, None where nothing was measured."""
    if not has_table(conn, LUCK_TESTS.name):
        return None
    return next(iter(load_rows(conn, LuckTest, LUCK_TESTS, where(LUCK_TESTS, study_name=study))), None)


def load_luck_sets(conn: Connection, study: str) -> list[LuckRecord]:
    """Return the stored luck of the parameter sets of a study."""
    if not has_table(conn, LUCK.name):
        return []
    return load_rows(conn, LuckRecord, LUCK, where(LUCK, study_name=study))


def tries_of_study(conn: Connection, study: str) -> Tries:
    """Return the numbers of tries that overlap the test dates of a study."""
    span = tried_span(conn, study)
    return Tries(0, 0) if span is None else count_tries(conn, *span)


def is_fresh(conn: Connection, test: LuckTest) -> bool:
    """Return whether no trial has ended and no try was added since the luck was measured."""
    return (
        test.as_of_trials == count_counted(conn, test.study_name)
        and test.n_tries == tries_of_study(conn, test.study_name).same_instrument
    )
