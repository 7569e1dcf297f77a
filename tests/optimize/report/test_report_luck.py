"""Luck of recorded studies: noise is luck, a planted column is found, every try counts, all readers agree."""

from dataclasses import asdict, replace
from datetime import date

import numpy as np
import pytest
from sqlalchemy import Engine, delete, insert, text, update

from optimize import clock
from optimize.database import open_engine
from optimize.evaluate.luck import sharpe_interval
from optimize.evaluate.metrics import sharpe_ratio
from optimize.report.luck import (
    OF_ROW,
    luck_now,
    measure_luck,
    record_luck,
    refresh_luck,
    verdict_of,
    with_luck,
)
from optimize.report.run_luck import luck_of_run
from optimize.report.verdict import luck_lines, planned_power_line
from optimize.results.luck import load_luck, save_luck
from optimize.results.queries import best_models
from optimize.results.records import forget_study
from optimize.results.returns import save_returns
from optimize.results.states import LuckVerdict, RunState, TryKind
from optimize.results.tables import FINALIST_RUNS, LUCK, TRIED_RUNS
from optimize.results.tries import Tries, Try, record_try
from tests.optimize.report.recorded import FIRST, YEAR, N, T, measured, noise, record_trials, study_of

FOUND, LUCK_, CANNOT_TELL = LuckVerdict.FOUND, LuckVerdict.LUCK, LuckVerdict.CANNOT_TELL


def test_the_best_of_noise_is_luck(engine: Engine) -> None:
    record_trials(engine, noise(), hold=noise(99, 1)[0])
    test = measured(engine).test
    assert (test.verdict, test.n_tries, test.n_held, test.n_sessions) == (LUCK_, N, N, T)
    assert test.verdict_buy_and_hold != FOUND
    assert test.sharpe is not None
    assert test.chance_sharpe == pytest.approx(2.25 * np.sqrt(YEAR / T), rel=0.2)
    first, *rest = luck_lines(test)
    assert first.startswith(f"verdict: LUCK: trial {test.trial_number} (Sharpe ratio +")
    assert "after 50 tries chance alone would show +2." in first
    assert rest[-1].startswith("power: 250 test sessions can detect a Sharpe ratio of at least +3.")


def test_a_planted_column_is_found_beyond_flat_and_not_beyond_its_own_market(engine: Engine) -> None:
    returns = noise()
    returns[7] += 0.004
    hold = returns[7] + noise(99, 1)[0] * 0.1
    record_trials(engine, returns, hold=hold)
    test = measured(engine).test
    assert (test.verdict, test.trial_number) == (FOUND, 7)
    assert test.verdict_buy_and_hold != FOUND
    first, second, *_ = luck_lines(test)
    assert first.startswith("verdict: FOUND: trial 7 (Sharpe ratio +")
    assert first.endswith("in less than 0.1 of 100 cases") or "of 100 cases" in first
    assert "no trial is shown to earn more; trial " in second
    assert " comes closest (p " in second


def test_a_single_try_has_no_best_of_several(engine: Engine) -> None:
    record_trials(engine, noise()[:1])
    test = replace(measured(engine).test, n_tries=1, p_buy_and_hold=0.5, trial_buy_and_hold=None)
    first, second, *_ = luck_lines(test)
    assert "without any skill one try does as well as this in" in first
    assert ": this configuration is not shown to earn more (p" in second


def test_each_answer_names_its_own_trial(engine: Engine) -> None:
    returns, hold = noise(), noise(99, 1)[0] - 0.01
    record_trials(engine, returns, hold=hold)
    test = measured(engine).test
    assert (test.verdict, test.verdict_buy_and_hold) == (LUCK_, FOUND)
    assert "earned more, beyond luck" in luck_lines(test)[1]


@pytest.mark.parametrize(
    ("p_value", "verdict"),
    [(0.05, FOUND), (0.051, CANNOT_TELL), (0.2, CANNOT_TELL), (0.21, LUCK_), (None, CANNOT_TELL)],
)
def test_the_verdict_of_a_p_value(p_value: float | None, verdict: LuckVerdict) -> None:
    assert verdict_of(p_value) == verdict


def test_pruned_trials_count_and_cannot_win(engine: Engine) -> None:
    returns = noise()
    returns[3] += 0.004
    record_trials(engine, returns, pruned={3})
    found = measured(engine)
    assert (found.test.n_tries, found.test.n_sets, found.test.n_pruned) == (N, N, 1)
    assert 3 not in {each.trial_number for each in found.sets}
    assert found.test.verdict == LUCK_


def test_tries_of_other_names_and_of_deleted_studies_raise_the_bar(engine: Engine) -> None:
    returns = noise()
    returns[0] += 0.0019
    record_trials(engine, returns[:1], name="alone")
    alone = measured(engine, "alone").test
    record_trials(engine, returns[1:], name="others")
    among = measured(engine, "alone").test
    with engine.begin() as conn:
        forget_study(conn, "others")
    gone = measured(engine, "alone").test
    assert (alone.n_tries, among.n_tries, gone.n_tries) == (1, N, N)
    assert (alone.n_held, among.n_held, gone.n_held) == (1, N, 1)
    assert alone.p_flat is not None
    assert among.p_flat is not None
    assert gone.p_flat == pytest.approx(1 - (1 - alone.p_flat) ** N, abs=0.1)  # its 1,000 bootstraps err
    assert gone.p_flat == pytest.approx(among.p_flat, abs=0.15)
    for low, high in (
        (alone.chance_sharpe, gone.chance_sharpe),
        (alone.detectable_sharpe, gone.detectable_sharpe),
        (alone.critical_flat, gone.critical_flat),
    ):
        assert low is not None
        assert high is not None
        assert low < high
    assert (
        "49 of them, of which the database holds no returns, count as independent ones" in luck_lines(gone)[2]
    )


def test_runs_that_were_stopped_before_these_dates_hide_no_try_that_is_gone(engine: Engine) -> None:
    record_trials(engine, noise(trials=5))
    record_trials(engine, noise(2, trials=10), name="earlier", first=FIRST - T // 2)
    stopped = TRIED_RUNS.c.study_name == "earlier", TRIED_RUNS.c.trial_number > 0
    with engine.begin() as conn:  # all but one ended with the last session before the other study's first
        conn.execute(update(TRIED_RUNS).where(*stopped).values(end=FIRST.astype(date)))
    record_trials(engine, noise(3, trials=9), name="deleted")
    with engine.begin() as conn:
        forget_study(conn, "deleted")
    test = measured(engine).test
    assert (test.n_tries, test.n_held) == (5 + 1 + 9, 5 + 1)


def test_a_study_on_other_dates_or_another_instrument_is_apart(engine: Engine) -> None:
    record_trials(engine, noise(trials=5))
    record_trials(engine, noise(trials=5), name="later", first=FIRST + T)
    record_trials(engine, noise(trials=5), name="other", symbol="ETH-USD")
    test = measured(engine).test
    assert (test.n_tries, test.n_tries_all, test.n_sets) == (5, 10, 5)
    record_trials(engine, noise(2, trials=5), name="half", first=FIRST + T // 2)  # overlaps both in part
    assert (measured(engine).test.n_tries, measured(engine).test.n_sets) == (10, 10)
    assert measured(engine, "later").test.n_sets == 10


def test_several_runs_of_a_set_are_one_column_of_the_lower_median(engine: Engine) -> None:
    returns = noise(trials=6)
    record_trials(engine, returns, sets=[1e-3, 1e-3, 1e-3, 2e-3, 3e-3, 4e-3])
    found = measured(engine)
    assert (found.test.n_tries, found.test.n_sets, found.test.n_held) == (6, 4, 6)
    rows = best_models(engine, "noise")
    assert {row.run_uuid for row in rows} == {each.run_uuid for each in found.sets}


def test_finalists_count_and_their_set_stands_for_them(engine: Engine) -> None:
    record_trials(engine, noise(trials=4))
    before = measured(engine)
    values = {
        "run_uuid": "fresh", "study_name": "noise", "parameter_set": before.sets[0].parameter_set, "seed": 0,
        "trial_number": 0, "state": RunState.COMPLETE, "started_at": clock.now(), "data_fingerprint": "",
    }  # fmt: skip
    days = (date(2020, 3, 1), date(2020, 4, 1))
    with engine.begin() as conn:
        conn.execute(insert(FINALIST_RUNS).values(values))
        record_try(conn, Try("fresh", TryKind.FINALIST, "noise", ["BTC-USD"], *days, trial_number=0))
    test = measured(engine).test
    assert (test.n_tries, test.n_held, test.n_sets) == (5, 5, 4)
    assert test.p_flat == before.test.p_flat
    assert test.chance_sharpe is not None
    assert test.chance_sharpe > (before.test.chance_sharpe or 0.0)


def test_the_median_repeat_is_that_of_the_score_with_its_risk_free_rate(engine: Engine) -> None:
    unit = noise(3, 1)[0]
    unit = (unit - unit.mean()) / unit.std()
    series = [
        0.002 + 0.002 * unit,
        0.004 + 0.01 * unit,
        0.0001 + 0.005 * unit,
    ]  # medians: 1, with it 0
    record_trials(engine, np.stack(series[:1]))
    (row,) = best_models(engine, "noise", 1)
    record, rate = study_of(engine), 0.5
    record = replace(record, score={**record.score, "risk_free": rate})
    with engine.begin() as conn:
        for repeat, returns in enumerate(series):
            save_returns(conn, str(row.run_uuid), 0, repeat, returns)
        found = measure_luck(conn, record, YEAR)
    assert found is not None
    assert found.test.sharpe == pytest.approx(sharpe_ratio(series[0], YEAR, rate))


def test_it_is_stored_read_while_fresh_and_measured_anew_when_a_try_is_added(engine: Engine) -> None:
    record_trials(engine, noise())
    record, url = study_of(engine), str(engine.url)
    record_luck(engine, record, YEAR)
    with engine.connect() as conn:
        stored = load_luck(conn, "noise")
        assert stored is not None
        assert luck_now(conn, url, record, None) is not None  # read, not measured
    with engine.begin() as conn:
        days = (date(2020, 3, 1), date(2020, 4, 1))
        record_try(conn, Try("manual", TryKind.WALK_FORWARD, "probe", ["BTC-USD"], *days))
    with engine.connect() as conn:
        assert luck_now(conn, url, record, None) is None
        newer = luck_now(conn, url, record, YEAR)
    assert newer is not None
    assert (stored.n_tries, newer.test.n_tries) == (N, N + 1)
    with engine.connect() as conn:
        assert load_luck(conn, "noise") == newer.test  # the reader stored it


def test_the_view_has_the_luck_to_the_last_digit(engine: Engine) -> None:
    record_trials(engine, noise(), hold=noise(99, 1)[0])
    found = measured(engine)
    bare = best_models(engine, "noise", 100)
    assert all(getattr(row, name) is None for row in bare for name in OF_ROW)
    shown = with_luck(bare, found.sets)
    record_luck(engine, study_of(engine), YEAR)
    stored = best_models(engine, "noise", 100)
    assert [asdict(row) for row in stored] == [asdict(row) for row in shown]
    best = stored[0]
    assert best.psr is not None
    assert best.deflated_sharpe_ratio is not None
    assert 0 < best.deflated_sharpe_ratio < best.psr < 1
    series = noise()[best.trial_number]
    interval = sharpe_interval(returns=series)
    assert best.sharpe_low == interval.lower * np.sqrt(YEAR)
    assert interval.lower < best.score / np.sqrt(YEAR) < interval.upper


def test_both_databases_hold_the_luck_that_was_measured(database_url: str) -> None:
    made = open_engine(database_url)
    try:
        record_trials(made, noise(trials=4), hold=noise(99, 1)[0], pruned={2})
        found = measured(made)
        refresh_luck(made, "noise")
        rows = best_models(made, "noise")
        assert len(rows) == 3
        assert [asdict(row) for row in rows] == [asdict(row) for row in with_luck(rows, found.sets)]
        with made.connect() as conn:
            assert load_luck(conn, "noise") == found.test
            names = ", ".join(OF_ROW)
            best = f"SELECT {names} FROM best_models WHERE trial_number = {rows[0].trial_number}"
            assert tuple(conn.exec_driver_sql(best).one()) == tuple(getattr(rows[0], name) for name in OF_ROW)
        refresh_luck(made, "noise")  # fresh: nothing changes
        with made.begin() as conn:
            save_luck(conn, found.test, found.sets)  # and storing the same again replaces it
    finally:
        made.dispose()


def test_a_set_whose_median_run_changed_has_no_stale_luck(engine: Engine) -> None:
    record_trials(engine, noise(trials=3))
    record_luck(engine, study_of(engine), YEAR)
    with engine.begin() as conn:
        conn.execute(text("UPDATE wf_luck SET run_uuid = 'another' WHERE trial_number = 0"))
    found = {row.trial_number: row.p_flat for row in best_models(engine, "noise")}
    assert found[0] is None
    assert found[1] is not None


def test_a_database_without_the_tables_is_read(engine: Engine) -> None:
    record_trials(engine, noise(trials=3))
    with engine.begin() as conn:
        for table in ("wf_luck", "wf_luck_tests"):
            conn.execute(text("DROP VIEW IF EXISTS best_models"))
            conn.execute(text(f"DROP TABLE {table}"))
    rows = best_models(engine, "noise")
    with engine.connect() as conn:
        found = luck_now(conn, str(engine.url), study_of(engine), YEAR)
    assert found is not None
    assert with_luck(rows, found.sets)[0].p_flat is not None


def test_too_few_sessions_cannot_tell(engine: Engine) -> None:
    record_trials(engine, noise()[:, :15])
    lines = luck_lines(measured(engine).test)
    assert lines[0] == "verdict: CANNOT TELL: nothing has enough test sessions with returns that vary"
    assert not any(line.startswith("power") for line in lines)


def test_the_planned_power_falls_with_tries_and_rises_with_sessions() -> None:
    def line(before: int, planned: int, sessions: int) -> str:
        return planned_power_line(Tries(before, before), planned, sessions, YEAR)

    assert line(0, 1000, 1419) == (
        "power: 1419 test sessions can detect a Sharpe ratio of at least +2.01 after 1000 tries, in 80 % of "
        "cases"
    )
    assert line(40, 60, 100).endswith("after 100 tries, in 80 % of cases; 40 of the tries were made before")
    assert "cannot detect any" in line(0, 10**6, 5)


def test_stored_rows_are_those_of_the_study_alone(engine: Engine) -> None:
    for name in ("noise", "second"):
        record_trials(engine, noise(trials=3), name=name)
        record_luck(engine, study_of(engine, name), YEAR)
    with engine.begin() as conn:
        assert conn.execute(delete(LUCK).where(LUCK.c.study_name == "noise")).rowcount == 3


def test_one_configuration_is_judged_after_all_tries_on_its_instrument() -> None:
    returns, hold = noise()[0], noise(99, 1)[0]
    strong = returns + 0.0026
    alone, among = (luck_of_run([strong], hold, Tries(n, 2 * n), YEAR) for n in (1, 200))
    assert (alone.verdict, among.verdict, alone.trial_number) == (FOUND, CANNOT_TELL, None)
    first, second, third, _ = luck_lines(among)
    assert first.startswith("verdict: CANNOT TELL: this configuration (Sharpe ratio +")
    assert second.startswith("against buy-and-hold: ")
    assert third == (
        "tries: 200 on this instrument and these dates in the database, 400 on these dates on all instruments"
    )
    constant = luck_of_run([np.zeros(T)], hold, Tries(1, 1), YEAR)
    assert (constant.verdict, constant.sharpe) == (CANNOT_TELL, None)


def test_of_several_repeats_the_lower_median_is_judged() -> None:
    series = [noise(seed, 1)[0] for seed in range(4)]
    ratios = sorted(sharpe_ratio(each, YEAR) for each in series)
    assert luck_of_run(series, np.zeros(T), Tries(1, 1), YEAR).sharpe == ratios[1]
