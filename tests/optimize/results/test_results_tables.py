import multiprocessing
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import StatementError

from optimize.database import open_engine
from optimize.results.creation import create_tables
from optimize.results.event_log import events, log_event
from optimize.results.events import NoteFailed
from optimize.results.schema_version import VERSION_TABLE
from optimize.results.tables import METADATA


def _create(url: str, barrier: "multiprocessing.synchronize.Barrier") -> None:
    engine = open_engine(url)
    barrier.wait(timeout=300)
    create_tables(engine)
    engine.dispose()


@pytest.mark.slow
def test_several_processes_create_the_tables_at_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    creators = [context.Process(target=_create, args=(url, barrier)) for _ in range(4)]
    for creator in creators:
        creator.start()
    for creator in creators:
        creator.join(300)
    assert [creator.exitcode for creator in creators] == [0, 0, 0, 0]
    engine = open_engine(url)
    assert set(inspect(engine).get_table_names()) == {*METADATA.tables, VERSION_TABLE}
    engine.dispose()


def test_every_table_bears_our_prefix() -> None:
    assert METADATA.tables
    assert all(name.startswith("wf_") for name in METADATA.tables)


def test_creating_the_tables_again_keeps_their_rows(engine: Engine) -> None:
    with engine.begin() as conn:
        log_event(conn, "btc", "started", NoteFailed())
    create_tables(engine)
    with engine.connect() as conn:
        assert len(events(conn, "btc", NoteFailed)) == 1


def test_timestamps_are_utc_text_whose_order_is_the_order_of_time(engine: Engine) -> None:
    late = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=-5)))
    early = datetime(2026, 1, 1, 2, 0, tzinfo=UTC)
    with engine.begin() as conn:
        log_event(conn, "btc", "", NoteFailed(), at=late)
        log_event(conn, "btc", "", NoteFailed(), at=early)
        stored = conn.execute(text("SELECT at FROM wf_events ORDER BY at")).scalars().all()
        assert stored == ["2026-01-01T02:00:00.000+00:00", "2026-01-01T05:30:00.000+00:00"]
        assert [event.at for event in events(conn, "btc", NoteFailed)] == [late, early]


def test_a_naive_timestamp_is_refused(engine: Engine) -> None:
    with engine.begin() as conn, pytest.raises(StatementError, match="time zone"):
        log_event(conn, "btc", "", NoteFailed(), at=datetime(2026, 1, 1))
