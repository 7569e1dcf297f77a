"""Finalists of an export: their own flags and figures, and the luck of the run that the search made."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from optimize.bundles.export_ensemble import export_ensemble
from optimize.bundles.finalist_rows import finalist_leaderboard
from optimize.bundles.gated_rows import gated_rows
from optimize.bundles.gates import GateCheck, GateSpec
from optimize.bundles.inputs import SearchSummary
from optimize.bundles.luck import luck_section
from optimize.cli.leaderboard import finalists_line
from optimize.database import open_engine
from optimize.errors import WalkforgeError
from optimize.report.gates import refuse_flagged
from optimize.report.luck import refresh_luck
from optimize.results.finalists import load_finalist_run, ranked_finalists, save_finalists, start_finalist
from optimize.results.luck import load_luck, load_luck_sets
from optimize.results.queries import best_models
from optimize.results.runs import parameter_set, run_of_trial
from optimize.results.states import RunState
from optimize.study.finalists.ranking import rank_key
from tests.optimize.report.recorded import record_trials
from tests.optimize.results.test_results_finalists import LATER, make_finalist, make_finalist_run

FRESH = {"sharpe_in_sample": 7.0, "walk_forward_efficiency": 0.1, "trades": 12.0}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Yield a database with a study of four trials, the best of which was retrained on one fresh seed."""
    made = open_engine(f"sqlite:///{tmp_path / 'walkforge.db'}")
    record_trials(made, np.random.default_rng(1).standard_normal((4, 250)) * 0.01)
    best = best_models(made, "noise", 1)[0]
    with made.begin() as conn:
        run = run_of_trial(conn, "noise", best.trial_number)
        assert run is not None
        own: dict[str, Any] = {
            "study_name": "noise", "parameter_set": parameter_set(run.parameters),
            "trial_number": best.trial_number, "parameters": run.parameters,
        }  # fmt: skip
        start_finalist(conn, make_finalist_run(**own, state=RunState.COMPLETE, metrics=FRESH), LATER)
        save_finalists(conn, "noise", [make_finalist(**own, infeasible=1, flags="implausible_sharpe")])
    yield made
    made.dispose()


def test_a_finalist_has_the_flags_and_figures_of_its_median_seed(engine: Engine) -> None:
    (row,) = finalist_leaderboard(engine, "noise")
    assert (row.score, row.flags, row.pruned_runs) == (0.5, "implausible_sharpe", 1)
    assert {name: getattr(row, name) for name in FRESH} == FRESH
    assert row.window_sharpe_median is None  # of the fresh run, of which no window is stored here
    with pytest.raises(WalkforgeError, match="flagged as implausible"):
        refuse_flagged([row], None)


@pytest.mark.parametrize("blocked", [{"gate": "max_drawdown"}, {"run_uuid": None, "fresh_score": None}])
def test_no_run_of_the_search_takes_the_place_of_blocked_finalists(
    engine: Engine, blocked: dict[str, Any]
) -> None:
    with engine.begin() as conn:
        found = [replace(each, **blocked) for each in ranked_finalists(conn, "noise")]
        save_finalists(conn, "noise", found)
    with pytest.raises(WalkforgeError, match="no finalist of noise can be exported") as refused:
        gated_rows(engine, "noise", 1, GateSpec(min_selection_score=None), print)
    assert refused.value.exit_code == 1


def test_a_single_seed_is_labelled_and_ranked_after_several(engine: Engine) -> None:
    with engine.begin() as conn:
        found = [replace(each, seeds=1, lower_bound=0.4) for each in ranked_finalists(conn, "noise")]
        save_finalists(conn, "noise", found)
    (row,) = finalist_leaderboard(engine, "noise")
    assert row.seeds == "single seed"
    several, weak = make_finalist(2, lower_bound=-0.2), make_finalist(3, lower_bound=-0.4)
    gated = make_finalist(4, lower_bound=2.0, gate="min_equity")
    assert sorted([gated, *found, weak, several], key=rank_key) == [several, weak, *found, gated]


def test_the_luck_of_the_search_run_gates_a_finalist(engine: Engine) -> None:
    gates = GateSpec(min_selection_score=None, max_luck_p=1.0)
    with pytest.raises(WalkforgeError, match="1 refused by max_luck_p=1"):
        gated_rows(engine, "noise", 1, gates, print)
    refresh_luck(engine, "noise")
    (passed,) = gated_rows(engine, "noise", 1, gates, print)
    assert passed.row.p_flat is not None
    assert passed.checks == (GateCheck("max_luck_p", 1.0, passed.row.p_flat),)
    with pytest.raises(WalkforgeError, match=r"refused by max_luck_p=0\.01"):
        gated_rows(engine, "noise", 1, GateSpec(min_selection_score=None, max_luck_p=0.01), print)


def test_the_card_names_the_run_whose_luck_it_states(engine: Engine) -> None:
    refresh_luck(engine, "noise")
    with engine.connect() as conn:
        fresh = load_finalist_run(conn, "uuid0")
        assert fresh is not None
        searched = run_of_trial(conn, "noise", fresh.trial_number)
        test, sets = load_luck(conn, "noise"), tuple(load_luck_sets(conn, "noise"))
    assert searched is not None
    search = SearchSummary(luck=test, sets=sets)
    for run, subject in ((searched, "This trial: "), (fresh.as_run, "The run by which the search scored")):
        own = search.luck_of(run)
        assert own is not None
        assert own.run_uuid == searched.run_uuid
        assert luck_section(test, own, run.run_uuid)[1].startswith(subject)


def test_an_ensemble_refuses_flagged_members_and_measures_luck_first(engine: Engine, tmp_path: Path) -> None:
    gates = GateSpec(min_selection_score=None, max_luck_p=1.0)
    with pytest.raises(WalkforgeError, match="flagged as implausible"):
        export_ensemble(engine, tmp_path, "noise", 2, gates=gates)
    with pytest.raises(WalkforgeError, match="ensemble=2: 1 trials of noise can be joined"):
        export_ensemble(engine, tmp_path, "noise", 2, gates=gates, accept="implausible")


def test_the_board_has_a_line_on_the_finalists(engine: Engine) -> None:
    with engine.connect() as conn:
        (line,) = finalists_line(conn, "noise")
    assert line.startswith("finalists: 1 parameter set")
    assert "`walkforge finalists name=noise top_n=1" in line
