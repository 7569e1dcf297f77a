"""Tries: counted by instrument and dates over all studies, also those deleted, renamed or taken over."""

import json
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.database import open_engine
from optimize.results.creation import create_tables
from optimize.results.instrument_names import instruments_of
from optimize.results.leases import abandon
from optimize.results.orphans import missing_tables
from optimize.results.records import forget_study, save_study
from optimize.results.runs import start_run
from optimize.results.states import TryKind
from optimize.results.tables import RUNS, TRIED_RUNS
from optimize.results.tries import Tries, Try, count_tries, find_try, record_try
from tests.optimize.results.factories import STUDY, complete_outcome, make_run, make_study, run_to_end, take

ARCHIVE = Path("tests/versions/v0_1.zip")
TRIED = Try("a", TryKind.TRIAL, STUDY, ["BTC-USD"], date(2020, 7, 1), date(2020, 9, 30), trial_number=0)


def count(engine: Engine, symbols: list[str], first: date, end: date) -> Tries:
    with engine.connect() as conn:
        return count_tries(conn, symbols, first, end)


def record(engine: Engine, *tries: Try) -> None:
    with engine.begin() as conn:
        for tried in tries:
            record_try(conn, tried)


@pytest.mark.parametrize(
    ("symbols", "first", "end", "found"),
    [
        (["BTC-USD"], date(2020, 9, 29), date(2021, 1, 1), Tries(1, 2)),
        (["BTC-USD"], date(2020, 9, 30), date(2021, 1, 1), Tries(0, 0)),  # the end is exclusive
        (["BTC-USD"], date(2020, 1, 1), date(2020, 7, 1), Tries(0, 0)),
        (["ETH-USD", "BTC-USD"], date(2020, 1, 1), date(2021, 7, 1), Tries(2, 2)),
        (["SPY"], date(2020, 1, 1), date(2021, 7, 1), Tries(0, 2)),
    ],
)
def test_tries_count_by_instrument_and_dates(
    engine: Engine, symbols: list[str], first: date, end: date, found: Tries
) -> None:
    other = replace(TRIED, run_uuid="b", kind=TryKind.WALK_FORWARD, symbols=["ETH-USD"], trial_number=None)
    record(engine, TRIED, other)
    assert count(engine, symbols, first, end) == found


def test_a_later_window_extends_the_dates_and_adds_no_try(engine: Engine) -> None:
    record(engine, TRIED, replace(TRIED, first=date(2020, 9, 30), end=date(2020, 12, 31)), TRIED)
    assert count(engine, TRIED.symbols, TRIED.first, date(2022, 1, 1)) == Tries(1, 1)
    assert count(engine, TRIED.symbols, date(2020, 12, 30), date(2022, 1, 1)) == Tries(1, 1)


def test_a_run_that_took_over_a_trial_is_the_same_try(engine: Engine) -> None:
    first = take(engine)
    with engine.begin() as conn:
        start_run(conn, first, make_run(first))
        record_try(conn, replace(TRIED, run_uuid=first.run_uuid))
        abandon(conn, first)
    second = take(engine, now=5000.0)
    assert second.run_uuid != first.run_uuid
    with engine.begin() as conn:
        start_run(conn, second, make_run(second))
        record_try(conn, replace(TRIED, run_uuid=second.run_uuid))
        assert conn.execute(select(TRIED_RUNS.c.run_uuid)).scalars().all() == [second.run_uuid]


def test_a_deleted_study_stays_counted_and_its_name_starts_no_count_anew(engine: Engine) -> None:
    for _ in range(2):
        with engine.begin() as conn:
            save_study(conn, make_study())
        lease = run_to_end(engine, 0, complete_outcome(1.0))
        record(engine, replace(TRIED, run_uuid=lease.run_uuid))
        with engine.begin() as conn:
            forget_study(conn, STUDY)
            assert not conn.execute(select(RUNS)).all()
    assert count(engine, TRIED.symbols, TRIED.first, TRIED.end) == Tries(2, 2)


def test_instruments_are_symbols_and_settings_of_a_synthetic_market() -> None:
    def plain(**changes: Any) -> dict[str, Any]:
        return asdict(DataSpec(**changes))

    assert instruments_of(plain(provider="embedded")) == ["EURUSD"]
    assert instruments_of(plain(provider="file", symbols=["B", "A"])) == ["A", "B"]
    assert instruments_of(plain(provider="file"), ("C",)) == ["C"]
    made = [
        instruments_of(plain(provider="synthetic", synthetic=SyntheticSpec(seed=seed))) for seed in (0, 0, 1)
    ]
    assert made[0] == made[1]
    assert made[1] != made[2]
    assert made[0][0].startswith("SYNTH ")


def test_tries_of_an_older_database_are_filled_in(tmp_path: Path) -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extract("databases/walkforge.db", tmp_path)
    path = tmp_path / "databases" / "walkforge.db"
    engine = open_engine(f"sqlite:///{path}")
    assert count(engine, ["EURUSD"], date(2017, 9, 6), date(2017, 9, 7)) == Tries(0, 0)
    create_tables(engine)
    assert count(engine, ["EURUSD"], date(2017, 9, 6), date(2017, 9, 7)) == Tries(3, 3)
    assert count(engine, ["EURUSD"], date(2017, 11, 7), date(2018, 9, 7)) == Tries(0, 0)
    with engine.begin() as conn:  # a later window of a run that was filled in
        tried = find_try(conn, conn.execute(select(TRIED_RUNS.c.run_uuid).limit(1)).scalar_one())
        assert tried is not None
        record_try(conn, tried)
    engine.dispose()
    with closing(sqlite3.connect(path)) as conn:
        assert [json.loads(text) for (text,) in conn.execute("SELECT symbols_json FROM wf_tries")] == [
            ["EURUSD"]
        ] * 3


def test_a_database_of_walk_forward_runs_alone_lacks_no_table(engine: Engine) -> None:
    record(engine, TRIED)
    with engine.connect() as conn:
        assert missing_tables(conn) is None
