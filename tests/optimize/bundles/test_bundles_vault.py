"""Exports and evaluations leave alone, or log, the holdouts that other studies keep."""

import dataclasses
import shutil
from datetime import date
from pathlib import Path

import pytest

from optimize.bundles.evaluate import EVERY_WINDOW, plan_evaluation
from optimize.bundles.export import export_best
from optimize.bundles.holdout import measure_holdout, open_other_holdouts, other_holdouts
from optimize.bundles.load import load_bundle
from optimize.database import Engine
from optimize.errors import WalkforgeError
from optimize.results.holdout import KeptHoldout, holdouts_of, keep_holdout, openings_of
from tests.optimize.bundles.copies import copied_engine
from tests.optimize.study.bundles import Exports


@pytest.fixture
def engine(exports: Exports, tmp_path: Path) -> Engine:
    return copied_engine(exports, tmp_path)


def kept(engine: Engine, exports: Exports, first: date, end: date) -> KeptHoldout:
    """Keep a holdout of another study on the symbols of the exported bundles."""
    symbols = load_bundle(exports.exported[0].folder).spec.data.symbols
    holdout = KeptHoldout(list(symbols), first, end, "other")
    with engine.begin() as conn:
        assert keep_holdout(conn, holdout)
    return holdout


def test_a_refit_does_not_train_on_the_holdout_of_another_study(
    exports: Exports, engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "studies"
    shutil.copytree(exports.output_dir, folder)
    kept(engine, exports, date(2022, 1, 3), date(2022, 1, 5))
    with pytest.raises(WalkforgeError, match=r"refit=true would train on .*2022-01-03 to 2022-01-05"):
        export_best(engine, str(folder), "tiny", 1, refitted=True)


def test_an_evaluation_on_the_holdout_of_another_study_is_logged_and_spends_it(
    exports: Exports, engine: Engine
) -> None:
    bundle = load_bundle(exports.exported[0].folder)
    first, until = bundle.spans.train_ends[-1], bundle.spans.windows_until
    holdout = kept(engine, exports, first, until)
    plan = plan_evaluation(bundle, bundle.spec, f"{first}..{until}")
    assert plan.opened is None
    (line,) = open_other_holdouts(engine, bundle, plan, "evaluate")
    assert f"{first} to {until} (exclusive), is opened for the 1st time" in line
    with engine.connect() as conn:
        (logged,) = openings_of(conn, holdout.instruments, first, until)
        assert (logged.purpose, logged.study_name) == ("evaluate", "tiny")
        assert [each.spent_at is None for each in holdouts_of(conn, holdout.instruments, first, until)] == [
            False
        ]
        assert other_holdouts(conn, bundle, plan) == []


def test_the_own_windows_of_a_bundle_open_nothing(exports: Exports, engine: Engine) -> None:
    bundle = load_bundle(exports.exported[0].folder)
    kept(engine, exports, bundle.spans.train_ends[-1], bundle.spans.windows_until)
    with engine.connect() as conn:
        assert other_holdouts(conn, bundle, plan_evaluation(bundle, bundle.spec, EVERY_WINDOW)) == []


def test_a_holdout_too_short_for_a_score_stays_closed(
    exports: Exports, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = load_bundle(exports.exported[0].folder)
    longer = dataclasses.replace(load.spec, score=dataclasses.replace(load.spec.score, min_periods=20))
    asked = dataclasses.replace(load, spec=longer)
    monkeypatch.setattr("optimize.bundles.holdout.load_bundle", lambda folder, trust: asked)
    result = measure_holdout(engine, asked.folder)
    assert result.score is None
    assert "has 7 sessions, fewer than the 20 of a score" in result.line
    with engine.connect() as conn:
        assert openings_of(conn, load.spec.data.symbols, date.min, date.max) == []
