"""The views and verbs that read a study take work in line with the number of its trials."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from benchmarks import records
from optimize.cli.status import study_status
from optimize.database import open_engine
from optimize.results.orphans import count_orphans
from optimize.results.queries import best_models, best_score, list_queries, run_query
from optimize.results.runs import rank_sets
from optimize.results.views import VIEWS
from tests.optimize.results.factories import query_values

FEW, MANY = 40, 160
STEPS = 100  # instructions of SQLite's machine between two calls
MOST = 1.6 * MANY / FEW  # sorting, and trees that are deeper
Read = Callable[[Engine], object]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Engine]]:
    engines = {}
    for trials in (FEW, MANY):
        folder = tmp_path_factory.mktemp("growth")
        records.fill(f"sqlite:///{folder / 'a.db'}", folder, trials)
        engines[trials] = open_engine(f"sqlite:///{folder / 'a.db'}", read_only=True)
    yield engines
    for engine in engines.values():
        engine.dispose()


def work_of(engine: Engine, read: Read) -> int:
    """Return how many hundreds of instructions SQLite runs for a look."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    def watch(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_progress_handler(count, STEPS)

    event.listen(engine, "checkout", watch)
    try:
        read(engine)
    finally:
        event.remove(engine, "checkout", watch)
    return counted


def in_transaction(read: Callable[[Connection], object]) -> Read:
    def look(engine: Engine) -> object:
        with engine.connect() as conn:
            return read(conn)

    return look


def whole(view: str) -> Read:
    return in_transaction(lambda conn: conn.execute(text(f"SELECT * FROM {view}")).all())


def query(name: str) -> Read:
    return lambda engine: run_query(engine, name, query_values(name, records.NAME))


READS: dict[str, Read] = {
    **{view: whole(view) for view in VIEWS},
    **{f"query {name}": query(name) for name, _ in list_queries()},
    "leaderboard": lambda engine: best_models(engine, records.NAME, 10),
    "status": lambda engine: study_status(engine, records.NAME),
    "best score": in_transaction(lambda conn: best_score(conn, records.NAME)),
    "weights": in_transaction(lambda conn: rank_sets(conn, records.NAME, 10)),
    "orphans": in_transaction(count_orphans),
}


@pytest.mark.parametrize("name", READS)
def test_four_times_the_trials_take_about_four_times_the_work(filled: dict[int, Engine], name: str) -> None:
    few, many = (work_of(filled[trials], READS[name]) for trials in (FEW, MANY))
    assert many <= MOST * max(few, 10), (few, many)


def plan(conn: Connection, sql: str) -> str:
    return " ".join(row[-1] for row in conn.execute(text(f"EXPLAIN QUERY PLAN {sql}")))


@pytest.mark.parametrize("view", ["best_models", "trial_windows"])
def test_the_run_of_a_trial_is_looked_up_by_its_number(filled: dict[int, Engine], view: str) -> None:
    with filled[MANY].connect() as conn:
        found = plan(conn, f"SELECT * FROM {view} WHERE study_name = '{records.NAME}'")
    wanted = "wf_runs_of_state (study_name=? AND trial_number=? AND state=?)"
    assert wanted in found
    assert "SCAN wf_runs" not in found


def test_the_sets_are_ranked_from_an_index_alone(filled: dict[int, Engine]) -> None:
    said: list[Any] = []
    engine = filled[MANY]
    event.listen(engine, "before_cursor_execute", lambda *given: said.append(given[2:4]))
    with engine.connect() as conn:
        rank_sets(conn, records.NAME, 10)
        sql, values = said[-1]
        rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
        assert "USING COVERING INDEX wf_runs_of_set" in " ".join(row[-1] for row in rows)


def test_the_benchmark_sums_up_and_judges() -> None:
    detail = {"sqlite": {"10": {"status": {"in_process": 0.5}}, "100": {"status": {"in_process": 5.5}}}}
    found = records.summary(10, detail)
    assert (found["most_cpu_s"], found["growth"], found["reached"]) == (5.5, 11.0, False)
