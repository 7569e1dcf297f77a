"""The same study read from every database: the same columns, types, order and values, value by value."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from optimize.database import open_engine
from optimize.results.creation import create_tables
from optimize.results.event_log import log_event
from optimize.results.events import OuterWindowTraded, SelectionMeasured
from optimize.results.finalists import (
    Finalist,
    FinalistHoldout,
    StressRecord,
    save_finalist_holdout,
    save_finalists,
    save_stress,
)
from optimize.results.holdout import HoldoutOpening, log_opening
from optimize.results.probes import ProbeRecord, save_probe
from optimize.results.queries import best_models, list_queries, run_query
from optimize.results.records import Outcome, save_study
from optimize.results.returns import save_returns, save_sessions
from optimize.results.states import RunState
from optimize.results.views import VIEWS, create_views
from optimize.search.storage import load_or_create_study, open_storage
from tests.optimize.results.factories import (
    STUDY,
    complete_outcome,
    make_study,
    query_values,
    run_to_end,
    take,
)

CHOICES = ("small", 'it\'s "quoted" \\ {odd}', "é ☃", None, True, False, 3, 0.5, 1e-7, "")
FLOATS = (0.1 + 0.2, 1.0, 1e-5, 1.2345678901234567e-9, 123456789.123456789, 1e21, -2.0, 0.0, 5e-324, 1 / 3)
CHANGING = {
    "run_uuid", "finished_at", "last_finished_at", "last_at", "measured_at", "traded_at", "opened_at",
    "first_started_at",
}  # fmt: skip
DISTRIBUTIONS = {
    "Z.net": CategoricalDistribution(CHOICES),
    "a.rate": FloatDistribution(-10.0, 1e22),
    "a_rate.steps": IntDistribution(-5, 2**40),
}


def fill(url: str) -> dict[str, tuple[list[str], list[tuple[Any, ...]]]]:
    """Write one study and return its rows of every view and query."""
    engine = open_engine(url)
    create_tables(engine)
    storage = open_storage(url)
    study = load_or_create_study(storage, STUDY)
    create_views(engine)
    with engine.begin() as conn:
        save_study(conn, make_study(n_trials=30))
        save_sessions(conn, STUDY, {1: np.arange("2020-07-01", "2020-07-03", dtype="datetime64[D]")})
    for number, (choice, value) in enumerate(zip(CHOICES, FLOATS, strict=True)):
        parameters = {"Z.net": choice, "a.rate": value, "a_rate.steps": number**9 - 5}
        add(study, parameters, score=float((number * 7) % 10) / 3)
        outcome = complete_outcome(value if abs(value) < 1e6 else 1.0)
        outcome = replace(outcome, metrics={**outcome.metrics, "sharpe_zero_cost": number / 7})
        lease = run_to_end(engine, number, outcome, sharpes=(value, 1.0))
        with engine.begin() as conn:
            save_returns(conn, lease.run_uuid, 1, 0, [value, -1 / 3])
    run_to_end(engine, 0, complete_outcome(0.5), sharpes=(0.25,), study=f"{STUDY}.outer1.trade_ab")
    gated = study.ask({"gated": IntDistribution(3, 3)})
    run_to_end(engine, gated.number, complete_outcome(9.0, gate="max_drawdown", flags="drift"))
    study.tell(gated, 9.0)
    add(study, {}, score=0.5)  # the defaults, reported by hand
    add(study, {}, score=0.25)
    study.tell(study.ask(), state=TrialState.PRUNED)
    for kind in ("oom", "bug", "oom"):
        failed = study.ask()
        run_to_end(
            engine, failed.number, Outcome(RunState.FAIL, 1.0, failure_kind=kind, failure_message="no: 100 %")
        )
        study.tell(failed, state=TrialState.FAIL)
    take(engine, study.ask().number)
    run_again(study)
    with engine.begin() as conn:
        for trials in (7, 14):
            log_event(conn, STUDY, "measured", SelectionMeasured(trials, 40, -1 / 3, 0.1 + 0.2, None))
            log_event(conn, STUDY, "traded", outer_window(trials))
        for end in (date(2020, 2, 1), date(2020, 3, 1)):
            log_opening(conn, opening(date(2020, 1, 15), end))
        log_opening(conn, opening(date(2020, 3, 1), date(2020, 4, 1)))
        save_finalists(conn, STUDY, [FINALIST])
        save_stress(conn, StressRecord("median", "costs_x2", 1 / 7))
        save_probe(conn, PROBE)
        now = datetime(2026, 1, 1, tzinfo=UTC)
        on_holdout = FinalistHoldout("median", date(2020, 1, 15), date(2020, 2, 1), now, 1 / 9, -1 / 3)
        save_finalist_holdout(conn, on_holdout)
    storage.engine.dispose()
    reader = open_engine(url, read_only=True)
    found = {name: ask(reader, f"SELECT * FROM {name}") for name in VIEWS}
    for name, _ in list_queries():
        found[name] = run_query(reader, name, query_values(name))
    board = [vars(replace(row, run_uuid=None)) for row in best_models(reader, STUDY, 50)]
    found["leaderboard"] = (list(board[0]), [tuple(row.values()) for row in board])
    reader.dispose()
    engine.dispose()
    return found


def run_again(study: optuna.Study) -> None:
    """Run one parameter set three times, with a pruned run among them."""
    parameters = {"Z.net": CHOICES[0], "a.rate": 7.0}
    for score in (0.1, 0.7):
        add(study, parameters, score)
    used = {name: DISTRIBUTIONS[name] for name in parameters}
    study.add_trial(create_trial(state=TrialState.PRUNED, params=parameters, distributions=used))


FINALIST = Finalist(
    study_name=STUDY, parameter_set="aa", rank=1, trial_number=3, parameters={"a.rate": 0.1 + 0.2},
    search_score=1.7, fresh_score=1 / 3, lower_bound=-0.2, upper_bound=None, score_mean=0.3,
    score_deviation=None, score_min=0.1, score_max=0.4, random_quantile=0.9, seeds=3, infeasible=1,
    run_uuid="median",
)  # fmt: skip


PROBE = ProbeRecord(
    study_name=STUDY, inputs="ab", timeframe="1h", lookback=4, score=0.1 + 0.2, sharpe_zero_cost=1 / 3,
    total_return=-1 / 7, cost=1e-5, turnover=12.0, seconds=None, features={"lookback": 4},
    windows={"returns": [[0.1 + 0.2, -1 / 3]]},
)  # fmt: skip


def opening(first: date, end: date) -> HoldoutOpening:
    return HoldoutOpening(["BTC", "é"], first, end, STUDY, "uuid", "/a bundle", "export", "host")


def outer_window(trials: int) -> OuterWindowTraded:
    """Return the event of the first outer window, traded after so many trials."""
    days = ("2020-03-01", "2020-04-01")
    trade = f"{STUDY}.outer1.trade_ab"
    return OuterWindowTraded(1, 20, *days, 22, f"{STUDY}.outer1", trials, 1 / 3, 1 / 7, 0.1 + 0.2, trade)


def add(study: optuna.Study, parameters: dict[str, Any], score: float) -> None:
    used = {name: DISTRIBUTIONS[name] for name in parameters}
    study.add_trial(create_trial(params=parameters, distributions=used, value=score))


def ask(engine: Any, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    with closing(engine.raw_connection()) as conn:  # the types of the driver, not of SQLAlchemy
        cursor = conn.cursor()
        cursor.execute(sql)
        return [column[0] for column in cursor.description], [tuple(row) for row in cursor.fetchall()]


def comparable(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return rows in one order, without the columns that differ between any two studies; JSON is decoded."""
    known: list[dict[str, Any]] = [dict(zip(columns, row, strict=True)) for row in rows]
    for row in known:
        row |= {name: row[name] is None for name in CHANGING & row.keys()}
        if isinstance(row.get("parameters"), str):
            row["parameters"] = list(json.loads(row["parameters"]).items())
    return sorted(known, key=lambda row: json.dumps(row, sort_keys=True))


@pytest.mark.postgres
def test_sqlite_and_postgresql_say_the_same(tmp_path: Path, postgres: str) -> None:
    on_file, on_server = fill(f"sqlite:///{tmp_path / 'a.db'}"), fill(postgres)
    assert on_file.keys() == on_server.keys()
    for name, (columns, rows) in on_file.items():
        other_columns, other_rows = on_server[name]
        assert columns == other_columns, name
        assert len(rows) == len(other_rows) > 0, name
        if name not in VIEWS:
            assert [row[0] for row in rows] == [row[0] for row in other_rows], name  # queries have an order
        for one, other in zip(comparable(columns, rows), comparable(columns, other_rows), strict=True):
            assert one == other, name
            assert [type(value) for value in one.values()] == [type(value) for value in other.values()], name


def test_best_models_equal_a_count_in_python(database_url: str) -> None:
    fill(database_url)
    columns, rows = documented_query(database_url)
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    storage = open_storage(database_url)
    trials = load_or_create_study(storage, STUDY).get_trials(states=(TrialState.COMPLETE,))
    storage.engine.dispose()
    runs: dict[str, list[optuna.trial.FrozenTrial]] = {}
    passed = [trial for trial in trials if "gated" not in trial.params]
    for trial in sorted(passed, key=lambda trial: (trial.value or 0.0, trial.number)):
        runs.setdefault(json.dumps(trial.params, sort_keys=True), []).append(trial)
    medians = [each[(len(each) - 1) // 2] for each in runs.values()]  # the lower one of an even number
    best = sorted(medians, key=lambda trial: (-(trial.value or 0.0), trial.number))
    assert [row["trial_number"] for row in found] == [trial.number for trial in best]
    assert median_sets(database_url) == [(row["trial_number"], row["score"]) for row in found]
    for row, trial in zip(found, best, strict=True):
        shown = json.loads(row["parameters"])
        assert row["score"] == trial.value
        assert list(shown) == sorted(trial.params)
        for name, value in trial.params.items():
            assert type(shown[name]) is type(value), (name, value)
            assert shown[name] == (pytest.approx(value, rel=1e-14) if isinstance(value, float) else value)


def median_sets(url: str) -> list[tuple[int, float]]:
    """Return trial and median of the parameter sets that have one, best first."""
    engine = open_engine(url, read_only=True)
    sql = "SELECT trial_number, median FROM parameter_sets WHERE median IS NOT NULL ORDER BY 2 DESC, 1"
    _, rows = ask(engine, sql)
    engine.dispose()
    return [(row[0], row[1]) for row in rows]


def documented_query(url: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the rows of the documented query for the study that was filled."""
    engine = open_engine(url, read_only=True)
    sql = f"SELECT * FROM best_models WHERE study_name = '{STUDY}' ORDER BY score DESC, trial_number LIMIT 50"
    found = ask(engine, sql)
    engine.dispose()
    return found
