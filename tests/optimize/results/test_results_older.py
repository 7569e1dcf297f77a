"""A database of an older version goes on working: read as it is, brought up to date by the next writer."""

import multiprocessing
from pathlib import Path

import optuna
import pytest
from sqlalchemy import Engine, inspect, text

from optimize.database import open_engine
from optimize.results.creation import create_tables
from optimize.results.queries import best_models, list_queries, run_query
from optimize.results.runs import save_window, start_run, windows_of
from optimize.results.schema_version import VERSION_TABLE
from optimize.results.tables import METADATA
from optimize.results.views import create_views, drop_views, view_body
from optimize.search.storage import open_storage
from tests.optimize.results.factories import (
    STUDY,
    complete_outcome,
    make_run,
    make_window,
    query_values,
    run_to_end,
    take,
)

ADDED = ("forced_exits", "reward_active_share")  # to wf_windows


@pytest.fixture
def older(engine: Engine, url: str) -> Engine:
    """Return a database with one trial, as a version without the added columns left it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url)
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
    study.ask()
    run_to_end(engine, 0, complete_outcome(1.5))
    study.tell(0, 1.5)
    storage.engine.dispose()
    shrink(engine)
    return engine


def shrink(engine: Engine) -> None:
    create_views(engine)
    body = view_body("trial_windows", engine.dialect.name)
    drop_views(engine)
    with engine.begin() as conn:
        conn.execute(text(f"DROP TABLE {VERSION_TABLE}"))
        conn.execute(text("DROP INDEX wf_runs_of_set"))
        conn.execute(text("ALTER TABLE wf_runs DROP COLUMN parameter_set"))
        for column in ADDED:
            conn.execute(text(f"ALTER TABLE wf_windows DROP COLUMN {column}"))
            body = body.replace(f', w."{column}"', "")
    create_views_without(engine, body)


def test_indexes_of_older_versions_give_way(older: Engine) -> None:
    with older.begin() as conn:
        conn.execute(text("CREATE INDEX wf_runs_ranked ON wf_runs (study_name, state, score)"))
    create_tables(older)
    names = {index["name"] for index in inspect(older).get_indexes("wf_runs")}
    assert names == {"wf_runs_of_state", "wf_runs_of_set", "wf_runs_ended"}


def create_views_without(engine: Engine, body: str) -> None:
    with engine.begin() as conn:
        conn.execute(text(f"CREATE VIEW trial_windows AS {body}"))
        for name in ("best_models", "study_health"):
            made = view_body(name, conn.dialect.name, {"wf_luck"})  # which reads the parameter set
            conn.execute(text(f"CREATE VIEW {name} AS {made}"))


def test_it_is_read_as_it_is(older: Engine, url: str) -> None:
    reader = open_engine(url, read_only=True)
    (row,) = best_models(reader, STUDY)
    assert (row.score, row.window_sharpe_median) == (1.5, 1.0)
    for name, _ in list_queries():
        columns, _ = run_query(reader, name, query_values(name))
        assert columns
    reader.dispose()


def test_the_next_writer_brings_tables_and_views_up_to_date(older: Engine) -> None:
    create_tables(older)
    create_views(older)
    assert {column["name"] for column in inspect(older).get_columns("wf_windows")} == set(
        METADATA.tables["wf_windows"].columns.keys()
    )
    lease = take(older, number=1)
    with older.begin() as conn:
        start_run(conn, lease, make_run(lease))
        save_window(conn, lease, make_window(lease, forced_exits=3.0, reward_active_share=0.75))
        (stored,) = windows_of(conn, lease.run_uuid)
    assert (stored.forced_exits, stored.reward_active_share) == (3.0, 0.75)
    with older.connect() as conn:
        found = conn.execute(text("SELECT forced_exits, reward_active_share FROM trial_windows")).all()
    assert [tuple(row) for row in found] == [(None, None)]  # of the trial that the older version ran


def _update(url: str, barrier: "multiprocessing.synchronize.Barrier") -> None:
    engine = open_engine(url)
    barrier.wait(timeout=300)
    create_tables(engine)
    engine.dispose()


def test_several_processes_bring_it_up_to_date_at_once(tmp_path: Path) -> None:
    """SQLite alone: a server takes the lock of the schema first."""
    url = f"sqlite:///{tmp_path / 'older.db'}"
    engine = open_engine(url)
    create_tables(engine)
    with engine.begin() as conn:
        conn.execute(text(f"DROP TABLE {VERSION_TABLE}"))
        for column in ADDED:
            conn.execute(text(f"ALTER TABLE wf_windows DROP COLUMN {column}"))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    updaters = [context.Process(target=_update, args=(url, barrier)) for _ in range(3)]
    for updater in updaters:
        updater.start()
    for updater in updaters:
        updater.join(300)
    assert [updater.exitcode for updater in updaters] == [0, 0, 0]
    assert set(ADDED) <= {column["name"] for column in inspect(engine).get_columns("wf_windows")}
    engine.dispose()
