"""What is kept of each window, and what people read of it, where sessions end flat."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.rewards import RewardSpec
from optimize.data.spec import FeatureSpec
from optimize.results.records import RunRecord, WindowRecord, load_baselines, save_baselines
from optimize.results.runs import windows_of
from optimize.study.claims.perform import StopRequestedError, perform
from optimize.study.export.card import card_of, gather, metrics_of
from optimize.study.files import read_returns
from optimize.study.grounds import baseline_record
from optimize.study.handle import Handle
from optimize.study.pages.note import trial_note
from optimize.study.pages.picture import Curve, hold_curves, trial_curves, write_picture
from optimize.study.trial import yardsticks
from tests.optimize.study.studies import claimed, ground_of, never, opened, rows, run_of
from tests.optimize.study.test_study_sessions import quarters as quarters  # the fixture
from tests.optimize.study.test_study_sessions import stock_spec

DIFFERENTIAL = RewardSpec("differential_sharpe", clip=0.5)
RSI = FeatureSpec(lookback=2, indicators=["rsi"])  # takes several sessions of quarters to settle


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, quarters: Path) -> Iterator[Handle]:
    """Run a study of one trial, which is given back after its first window and taken over."""
    handle = opened(
        stock_spec(tmp_path_factory.mktemp("windows"), quarters, reward=DIFFERENTIAL, feature=RSI)
    )
    ground = ground_of(handle, handle.spec)
    with handle.engine.begin() as conn:
        found = yardsticks(handle.spec, ground)
        save_baselines(conn, [baseline_record(handle.spec.name, "15m", ground, each) for each in found])
    with pytest.raises(StopRequestedError):
        perform(handle, claimed(handle), lambda: True)
    perform(handle, claimed(handle), never)
    yield handle
    handle.close()


def records(handle: Handle) -> tuple[RunRecord, list[WindowRecord]]:
    run = run_of(handle, 0)
    with handle.engine.connect() as conn:
        return run, windows_of(conn, run.run_uuid)


def test_each_window_has_its_forced_exits_and_how_often_its_reward_was_active(played: Handle) -> None:
    _, stored = records(played)
    assert len(stored) == 2
    for record in stored:
        _, measured = read_returns(played.spec.folder / str(record.returns_path))
        assert record.forced_exits == measured.metrics.forced_exits > 0
        assert record.reward_active_share == measured.reward_active_share
        assert 0.0 < (record.reward_active_share or 0.0) < 1.0  # the clip binds now and then
    view = rows(played.spec, "SELECT forced_exits, reward_active_share FROM trial_windows")
    assert view == [(record.forced_exits, record.reward_active_share) for record in stored]


def test_the_train_span_begins_where_the_features_have_settled(played: Handle) -> None:
    ground, (_, stored) = ground_of(played, played.spec), records(played)
    market = ground.market
    for record, window in zip(stored, ground.windows, strict=True):
        assert record.train_start == market.session_date[market.session[window.train_first]].item()
    assert stored[0].train_start > ground.windows[0].dates.train_start
    assert np.datetime64(stored[0].train_start) == market.session_date[market.session[0]]


@pytest.mark.parametrize("ends_flat", [True, False])
def test_buy_and_hold_is_said_to_be_bought_anew(played: Handle, ends_flat: bool) -> None:
    (run, stored), ground = records(played), ground_of(played, played.spec)
    with played.engine.connect() as conn:
        baselines = load_baselines(conn, played.spec.name)
    if not ends_flat:
        baselines = [dataclasses.replace(each, windows=forgetful(each.windows)) for each in baselines]
    note = trial_note(run, stored, baselines)
    assert ("`buy_and_hold (bought anew each session)`" in note) == ends_flat
    assert "`buy_and_hold_overnight`" in note
    measured = [[read_returns(played.spec.folder / str(record.returns_path))[1] for record in stored]]
    evidence = gather(played.spec, run, ground, measured)
    if not ends_flat:
        once = tuple(dataclasses.replace(each, bought_anew=False) for each in evidence.baselines)
        evidence = dataclasses.replace(evidence, baselines=once)
    metrics = metrics_of(evidence)
    assert metrics["buy_and_hold"]["bought_anew"] is ends_flat
    assert ("buy_and_hold (bought anew each session)" in card_of(evidence, metrics)) == ends_flat
    assert "buy_and_hold_overnight" in metrics["baselines"]


def test_the_picture_begins_at_one() -> None:
    days = np.array(["2024-01-08", "2024-01-09"], dtype="datetime64[D]")
    sessions, equity = Curve(days, np.array([0.1, 0.1])).drawn
    assert sessions.astype(str).tolist() == ["2024-01-07", "2024-01-08", "2024-01-09"]
    assert equity == pytest.approx([1.0, 1.1, 1.21])


def test_pictures_label_both_ways_of_holding(played: Handle, tmp_path: Path) -> None:
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
    """Return what an older version stored of a baseline."""
    return {key: value for key, value in windows.items() if key != "bought_anew"}
