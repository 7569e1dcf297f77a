"""Readers of luck: notes, pages, cards and queries state it, measured anew where it is stale."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from optimize.bundles.luck import luck_section
from optimize.cli.query import query
from optimize.data.spec import DataSpec
from optimize.database import DatabaseSpec
from optimize.report.html.load import trial_content
from optimize.report.luck import (
    lines_with_flags,
    luck_now,
    record_luck,
)
from optimize.report.notes import study_note, trial_note
from optimize.report.verdict import luck_lines, set_line
from optimize.results.luck import load_luck
from optimize.results.runs import run_of_trial
from optimize.results.tables import RUNS
from optimize.schemas.records import QueryConfig
from optimize.study.spec import StudySpec
from tests.optimize.report.recorded import YEAR, measured, noise, record_trials, study_of


def test_the_flags_of_a_found_trial_stand_below_its_verdict(engine: Engine) -> None:
    returns = noise()
    returns[7] += 0.004
    record_trials(engine, returns)
    test = measured(engine).test
    with engine.begin() as conn:
        assert lines_with_flags(conn, test) == luck_lines(test)
        conn.execute(update(RUNS).where(RUNS.c.trial_number == 7).values(flags="smoothed_prices"))
        second = lines_with_flags(conn, test)[1]
    assert second.startswith("caution: trial 7 is flagged (smoothed_prices)")


def test_tries_on_other_instruments_are_counted_when_fresh_luck_is_read(engine: Engine) -> None:
    record_trials(engine, noise(trials=5))
    record_luck(engine, study_of(engine), YEAR)
    record_trials(engine, noise(2, trials=3), name="other", symbol="ETH-USD")
    with engine.connect() as conn:
        found = luck_now(conn, str(engine.url), study_of(engine), YEAR)
    assert found is not None
    assert (found.test.n_tries, found.test.n_tries_all) == (5, 8)


def test_the_page_of_a_trial_measures_stale_luck_anew(engine: Engine, tmp_path: Path) -> None:
    record_trials(engine, noise(trials=5))
    record_luck(engine, study_of(engine), YEAR)
    record_trials(engine, noise(2, trials=20), name="more")
    with engine.connect() as conn:
        run = run_of_trial(conn, "noise", 0)
        assert run is not None
        luck = trial_content(conn, str(engine.url), tmp_path, run, "").luck
        stored = load_luck(conn, "noise")
    assert luck is not None
    assert stored is not None
    assert (luck.n_tries, stored.n_tries) == (25, 25)


def test_a_study_note_begins_with_the_verdict(engine: Engine) -> None:
    record_trials(engine, noise(trials=3))
    lines = luck_lines(measured(engine).test)
    spec = StudySpec(name="noise", data=DataSpec(timeframe="1d"))
    note = study_note("noise", spec, {}, 3, lines)
    assert note.startswith(f"- {lines[0]}\n- {lines[1]}\n")
    assert study_note("noise", spec, {}, 3) in note


def test_a_query_with_columns_of_luck_measures_stale_luck_anew(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    record_trials(engine, noise(trials=5))
    record_luck(engine, study_of(engine), YEAR)
    record_trials(engine, noise(2, trials=20), name="more")
    database = DatabaseSpec(url=str(engine.url))
    query(QueryConfig(name="noise", sql="duplicates", database=database))
    with engine.connect() as conn:
        stale = load_luck(conn, "noise")
    query(QueryConfig(name="noise", sql="best_models", format="json", database=database))
    rows = json.loads(capsys.readouterr().out.partition("\n")[2])
    with engine.connect() as conn:
        fresh = load_luck(conn, "noise")
    assert stale is not None
    assert fresh is not None
    assert (stale.n_tries, fresh.n_tries) == (5, 25)
    assert {row["as_of_trials"] for row in rows} == {5}
    assert {row["p_flat"] for row in rows} == {each.p_flat for each in measured(engine).sets}


def test_the_note_of_a_trial_states_the_luck_of_its_set(engine: Engine) -> None:
    record_trials(engine, noise(trials=3))
    own = next(each for each in measured(engine).sets if each.trial_number == 1)
    with engine.connect() as conn:
        runs = [run_of_trial(conn, "noise", number) for number in (1, 2)]
    notes = [trial_note(run, [], [], luck=own) for run in runs if run is not None]
    assert f"\n\nLuck: {set_line(own)}.\n\n" in notes[0]
    assert f"\n\nLuck of its parameters, by trial 1: {set_line(own)}.\n\n" in notes[1]


def test_the_card_states_the_flags_of_a_found_trial(engine: Engine) -> None:
    returns = noise()
    returns[7] += 0.004
    record_trials(engine, returns)
    test = measured(engine).test
    _, section, _ = luck_section(test, None, "run", ("caution: trial 7 is flagged",))
    assert section.splitlines()[:2] == [f"- {luck_lines(test)[0]}", "- caution: trial 7 is flagged"]
