"""The selection walk-forward of a stored study: measured once for a number of trials, and never stale."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text, update

from optimize.evaluate.metrics import sharpe_ratio
from optimize.report.selection import record_selection, selection_line, selection_now
from optimize.results.event_log import events
from optimize.results.events import SelectionMeasured
from optimize.results.records import StudyRecord, load_study
from optimize.results.returns import load_returns
from optimize.results.tables import STUDIES
from optimize.study.context import StudyContext
from tests.optimize.study.databases import close_studies
from tests.optimize.study.studies import opened, play, small_spec

YEAR = 365.0


@pytest.fixture
def context(tmp_path: Path) -> Iterator[StudyContext]:
    made = opened(small_spec(tmp_path, n_trials=4))
    play(made, 3)
    yield made
    close_studies()


def study_of(context: StudyContext) -> StudyRecord:
    with context.engine.connect() as conn:
        record = load_study(conn, "small")
    assert record is not None
    return record


def test_it_is_stored_once_for_a_number_of_trials_and_measured_anew_for_more(context: StudyContext) -> None:
    record = study_of(context)
    for _ in range(2):
        with context.engine.begin() as conn:
            record_selection(conn, record, YEAR)
    with context.engine.connect() as conn:
        (stored,) = [each.event for each in events(conn, "small", SelectionMeasured)]
        found = load_returns(conn, "small")
        assert found is not None
        assert selection_now(conn, record, None) == stored  # read, not measured
    scores = [sharpe_ratio(row[0, found.window == 0], YEAR) for row in found.returns]
    earned = found.returns[int(np.argmax(scores)), 0, found.window == 1]
    assert stored.sharpe == sharpe_ratio(earned, YEAR)
    assert (stored.trials, stored.sessions) == (3, len(earned))
    play(context, 1)
    with context.engine.connect() as conn:
        newer = selection_now(conn, record, YEAR)
    assert newer is not None
    assert newer.trials == 4


def test_a_study_without_a_choice_is_measured_once_too(context: StudyContext) -> None:
    record = study_of(context)
    strict = dataclasses.replace(record, score={**record.score, "min_volatility": 1e9})
    with context.engine.begin() as conn:
        record_selection(conn, strict, YEAR)
        found = selection_now(conn, strict, None)
    assert found == SelectionMeasured(trials=3, sessions=0)
    assert "no trial could be chosen" in selection_line(found, strict)


def test_the_line_says_where_the_number_is_too_good(context: StudyContext) -> None:
    record = study_of(context)
    found = SelectionMeasured(trials=3, sessions=72, sharpe=-0.551, standard_error=1.0, random_choice=None)
    grid = dataclasses.replace(record, spec={**record.spec, "sampler": {"name": "grid"}})
    assert selection_line(found, grid).endswith(
        "-0.55 (72 sessions, 95 % interval -2.51 to +1.41); a trial drawn at random: -"
    )
    tpe = dataclasses.replace(record, spec={**record.spec, "sampler": {"name": "tpe"}}, phase="model")
    assert selection_line(found, tpe).endswith(
        "optimistic: the sampler tpe has seen the scores of all windows, and so has phase 1"
    )


def test_a_search_that_starts_from_chosen_sets_is_optimistic_on_the_board_and_in_sql(
    context: StudyContext,
) -> None:
    record = study_of(context)
    with context.engine.begin() as conn:
        record_selection(conn, record, YEAR)
    found = SelectionMeasured(trials=3, sessions=72, sharpe=0.5, standard_error=1.0, random_choice=None)
    typed = "optimistic: the sets of search.enqueue may have been chosen by earlier results on these dates"
    taken = "optimistic: the sets of mine were chosen by the scores of all of its windows"
    for changed, meaning, ending in (
        ({"start_from": None}, "exact", None),
        ({"start_from": "mine"}, "optimistic", taken),
        ({"enqueue": [{"agent.gamma": 0.9}]}, "optimistic", typed),
    ):
        assert changed.keys() <= record.spec["search"].keys()
        search = {**record.spec["search"], **changed}
        spec = {**record.spec, "sampler": {"name": "grid"}, "search": search}
        with context.engine.begin() as conn:
            conn.execute(update(STUDIES).values(spec=spec))
            shown = conn.execute(text("SELECT meaning FROM selection_walk_forward")).scalar_one()
        assert shown == meaning
        line = selection_line(found, dataclasses.replace(record, spec=spec))
        assert line.endswith(ending) if ending else "optimistic" not in line
