"""Stored results of each window, and their display, where sessions end flat."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.rewards import RewardSpec
from optimize.bundles.card import card_of
from optimize.bundles.inputs import collect_inputs
from optimize.bundles.metrics import metrics_of
from optimize.data.features.spec import FeatureSpec
from optimize.report.equity import Curve, hold_curves, trial_curves, write_picture
from optimize.report.notes import trial_note
from optimize.results.records import RunRecord, WindowRecord, load_baselines, save_baselines
from optimize.results.runs import windows_of
from optimize.study.context import StudyContext
from optimize.study.launch.markets import baseline_record
from optimize.study.trials.execute import StopRequestedError, perform
from optimize.walkforward.files import read_returns
from optimize.walkforward.run import evaluate_baselines
from tests.optimize.study.studies import claimed, ground_of, never, opened, rows, run_of
from tests.optimize.study.test_study_sessions import quarters as quarters  # the fixture
from tests.optimize.study.test_study_sessions import stock_spec

DIFFERENTIAL = RewardSpec("differential_sharpe", clip=0.5)
RSI = FeatureSpec(lookback=2, indicators=["rsi"])  # takes several sessions of quarters to settle


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, quarters: Path) -> Iterator[StudyContext]:
    """Run a study of one trial, which is given back after its first window and taken over."""
    context = opened(
        stock_spec(tmp_path_factory.mktemp("windows"), quarters, reward=DIFFERENTIAL, feature=RSI)
    )
    windowed = ground_of(context, context.spec)
    with context.engine.begin() as conn:
        found = evaluate_baselines(context.spec, windowed, context.spec.seed)
        save_baselines(conn, [baseline_record(context.spec.name, "15m", windowed, each) for each in found])
    with pytest.raises(StopRequestedError):
        perform(context, claimed(context), lambda: True)
    perform(context, claimed(context), never)
    yield context
    context.close()


def records(context: StudyContext) -> tuple[RunRecord, list[WindowRecord]]:
    run = run_of(context, 0)
    with context.engine.connect() as conn:
        return run, windows_of(conn, run.run_uuid)


def test_each_window_has_its_forced_exits_and_how_often_its_reward_was_active(played: StudyContext) -> None:
    _, stored = records(played)
    assert len(stored) == 2
    for record in stored:
        _, measured = read_returns(played.spec.folder / str(record.returns_path))
        assert record.forced_exits == measured.metrics.forced_exits > 0
        assert record.reward_active_share == measured.reward_active_share
        assert 0.0 < (record.reward_active_share or 0.0) < 1.0  # the clip binds now and then
    view = rows(played.spec, "SELECT forced_exits, reward_active_share FROM trial_windows")
    assert view == [(record.forced_exits, record.reward_active_share) for record in stored]


def test_the_train_span_begins_where_the_features_have_settled(played: StudyContext) -> None:
    windowed, (_, stored) = ground_of(played, played.spec), records(played)
    market = windowed.market
    for record, window in zip(stored, windowed.windows, strict=True):
        assert record.train_start == market.session_date[market.session[window.train_first]].item()
    assert stored[0].train_start > windowed.windows[0].dates.train_start
    assert np.datetime64(stored[0].train_start) == market.session_date[market.session[0]]


@pytest.mark.parametrize("ends_flat", [True, False])
def test_buy_and_hold_is_said_to_be_bought_anew(played: StudyContext, ends_flat: bool) -> None:
    (run, stored), windowed = records(played), ground_of(played, played.spec)
    with played.engine.connect() as conn:
        baselines = load_baselines(conn, played.spec.name)
    if not ends_flat:
        baselines = [dataclasses.replace(each, windows=forgetful(each.windows)) for each in baselines]
    note = trial_note(run, stored, baselines)
    assert ("`buy_and_hold (bought anew each session)`" in note) == ends_flat
    assert "`buy_and_hold_overnight`" in note
    measured = [[read_returns(played.spec.folder / str(record.returns_path))[1] for record in stored]]
    inputs = collect_inputs(played.spec, run, windowed, measured)
    if not ends_flat:
        once = tuple(dataclasses.replace(each, bought_anew=False) for each in inputs.baselines)
        inputs = dataclasses.replace(inputs, baselines=once)
    metrics = metrics_of(inputs)
    assert metrics["buy_and_hold"]["bought_anew"] is ends_flat
    assert ("buy_and_hold (bought anew each session)" in card_of(inputs, metrics)) == ends_flat
    assert "buy_and_hold_overnight" in metrics["baselines"]


def test_the_picture_begins_at_one() -> None:
    days = np.array(["2024-01-08", "2024-01-09"], dtype="datetime64[D]")
    sessions, equity = Curve(days, np.array([0.1, 0.1])).drawn
    assert sessions.astype(str).tolist() == ["2024-01-07", "2024-01-08", "2024-01-09"]
    assert equity == pytest.approx([1.0, 1.1, 1.21])


def test_pictures_label_both_ways_of_holding(played: StudyContext, tmp_path: Path) -> None:
    with played.engine.connect() as conn:
        baselines = load_baselines(conn, played.spec.name)
    run, stored = records(played)
    curves = trial_curves(played.spec.folder, stored)
    holds = hold_curves(baselines, "15m", curves[0].sessions)
    assert list(holds) == ["buy_and_hold (bought anew each session)", "buy_and_hold_overnight"]
    path = tmp_path / "equity.png"
    write_picture(path, "title", f"trial {run.trial_number}", curves, holds, [])
    assert path.stat().st_size > 10_000


def forgetful(windows: Any) -> Any:
    """Return a baseline as an older version stored it."""
    return {key: value for key, value in windows.items() if key != "bought_anew"}
