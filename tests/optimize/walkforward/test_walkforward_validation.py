"""The validation tail of a train span: purged from the bars learned from, it alone chooses weights."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.types import Market
from optimize.agents.agent import load_agent
from optimize.agents.train_spec import TrainSpec
from optimize.errors import BadInputError
from optimize.results.runs import windows_of
from optimize.search.rules import check_space
from optimize.search.space import parse_space
from optimize.study.launch.markets import build_markets
from optimize.study.spec import StudySpec
from optimize.walkforward import run as trial_module
from optimize.walkforward.markets import WindowedMarket, build_windowed_market, fit_to_window
from optimize.walkforward.run import WindowModel, evaluate_window, run_window
from optimize.walkforward.validation import train_span_of, validation_of
from tests.optimize.agents.support import same_weights
from tests.optimize.study.studies import opened, play, run_of, small_spec

STOPPING = TrainSpec(validation=0.3, eval_every=0.25, patience=3)


def _spec(folder: Path, train: TrainSpec, **changes: Any) -> StudySpec:
    spec = small_spec(folder, **changes)
    agent = dataclasses.replace(spec.agent, total_timesteps=256)
    return dataclasses.replace(spec, agent=agent, train=train)


def _shaken(windowed: WindowedMarket, first: int, last: int) -> WindowedMarket:
    """Return a market with other prices on some bars, and the features and calendar that it had."""
    market, drawn = windowed.market, np.random.default_rng(1)
    size = (last - first + 1, market.n_assets)
    factor = np.ones_like(market.close)
    factor[first : last + 1] = np.exp(0.05 * drawn.normal(size=size))
    moved = {name: getattr(market, name) * factor for name in ("open", "high", "low", "close")}
    other: Market = dataclasses.replace(market, **moved)
    return dataclasses.replace(windowed, market=other)


def test_the_tail_is_whole_sessions_at_the_end_and_purged_like_a_test_span(tmp_path: Path) -> None:
    spec = _spec(tmp_path, STOPPING)
    windowed = build_windowed_market(spec, None)
    for window in windowed.windows:
        market, split = windowed.market, train_span_of(spec, windowed.market, window)
        assert split.tail is not None
        assert split.learned == (window.train_first, split.tail[0] - 1 - window.purge_bars)
        assert split.tail[1] == window.train_last
        assert market.session[split.tail[0]] == market.session[split.tail[0] - 1] + 1
        sessions = market.session[window.train_last] - market.session[window.train_first] + 1
        assert split.sessions == round(0.3 * sessions)
        assert train_span_of(small_spec(tmp_path), market, window).learned == (
            window.train_first,
            window.train_last,
        )


def test_no_price_of_tail_or_test_span_changes_the_weights_that_a_checkpoint_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the choice of the checkpoint held, prices after the learned bars change nothing."""
    spec = _spec(tmp_path, STOPPING)
    windowed = build_windowed_market(spec, None)
    window = windowed.windows[0]
    split = train_span_of(spec, windowed.market, window)
    late = _shaken(windowed, split.learned[1] + 1, windowed.market.n_bars - 1)
    early = _shaken(windowed, *split.learned)
    after_training = _shaken(windowed, window.train_last + 1, windowed.market.n_bars - 1)
    plain = run_window(spec, windowed, window, seed=3)
    unseen = run_window(spec, after_training, window, seed=3)
    assert same_weights(plain[0].agent, unseen[0].agent)
    assert plain[1].sharpe_validation == unseen[1].sharpe_validation
    monkeypatch.setattr(trial_module, "validation_of", lambda *_: lambda agent: 1.0)  # the first is kept
    held = [run_window(spec, each, window, seed=3)[0].agent for each in (windowed, late, early)]
    assert same_weights(held[0], held[1])
    assert not same_weights(held[0], held[2])


def test_the_best_checkpoint_is_kept_stored_and_played(tmp_path: Path) -> None:
    spec = _spec(tmp_path, STOPPING)
    windowed = build_windowed_market(spec, None)
    window = windowed.windows[1]
    model, result, _ = run_window(spec, windowed, window, seed=5)
    model.agent.save(tmp_path / "agent")
    loaded = WindowModel(load_agent(tmp_path / "agent"), model.representation)
    assert same_weights(model.agent, loaded.agent)
    again, _ = evaluate_window(spec, windowed, window, loaded, in_sample=True)
    np.testing.assert_array_equal(again.returns, result.returns)
    assert again.metrics.sharpe_in_sample == result.metrics.sharpe_in_sample
    _, market = fit_to_window(spec, windowed, window)
    measure = validation_of(spec, market, train_span_of(spec, market, window))
    assert measure is not None
    assert measure(loaded.agent) == result.sharpe_validation
    last = run_window(dataclasses.replace(spec, train=TrainSpec()), windowed, window, seed=5)[1]
    assert (last.trained_steps, last.sharpe_validation) == (256, None)


def test_a_run_stores_the_steps_of_its_trainings_and_the_scores_of_its_tails(tmp_path: Path) -> None:
    context = opened(_spec(tmp_path, STOPPING, n_trials=1))
    play(context)
    with context.engine.connect() as conn:
        windows = windows_of(conn, run_of(context, 0).run_uuid)
    assert all(window.trained_steps in (128, 192, 256) for window in windows)
    assert all(window.sharpe_validation is not None for window in windows)


def test_passes_follow_the_bars_that_are_learned_from(tmp_path: Path) -> None:
    spec = _spec(tmp_path, TrainSpec(passes=2.0, validation=0.3))
    windowed = build_windowed_market(spec, None)
    window = windowed.windows[0]
    first, last = train_span_of(spec, windowed.market, window).learned
    steps = run_window(spec, windowed, window, seed=5)[1].trained_steps
    assert steps == pytest.approx(2 * (last - first + 1), rel=0.03)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            TrainSpec(validation=0.05),
            "is a tail of 1 sessions, and its Sharpe ratio needs score.min_periods",
        ),
        (TrainSpec(average=9), r"train.average=9 .* must be at most 8, the checkpoints of a training"),
    ],
)
def test_a_training_that_cannot_be_is_refused_with_its_market(
    tmp_path: Path, train: TrainSpec, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        build_windowed_market(_spec(tmp_path, train), None)


def test_a_tail_must_leave_enough_to_learn_from(tmp_path: Path) -> None:
    spec = _spec(tmp_path, STOPPING)
    spec = dataclasses.replace(spec, window=dataclasses.replace(spec.window, min_train_bars=450))
    with pytest.raises(BadInputError, match=r"leaves \d+ bars to learn from, and window.min_train_bars"):
        build_windowed_market(spec, None)


def test_patience_is_searched_beside_tails_alone(tmp_path: Path) -> None:
    searched = {"train": {"patience": [3, 5]}}
    fine = _spec(tmp_path, STOPPING, space=searched)
    check_space(fine, parse_space(fine.space))
    tails = {"validation": [0.0, 0.2], "patience": {"choices": [None, 5]}}
    spec = _spec(tmp_path, TrainSpec(validation=0.2), space={"train": tails})
    with pytest.raises(BadInputError, match=r"space.train.patience may not be searched: it needs a valid"):
        check_space(spec, parse_space(spec.space))
    tails["patience"] = {"choices": [None, 5], "when": {"train.validation": [0.2]}}
    check_space(spec, parse_space({"train": tails}))


def test_searched_passes_that_give_too_few_checkpoints_are_refused_before_any_trial(tmp_path: Path) -> None:
    few = TrainSpec(eval_every=0.5, average=2)
    fine = _spec(tmp_path, few, space={"train": {"passes": [1.0, 2.0]}})
    build_markets(fine, parse_space(fine.space))
    spec = _spec(tmp_path, few, space={"train": {"passes": [0.05, 2.0]}})
    with pytest.raises(
        BadInputError, match=r"space.train.passes offers train.passes=0.05: train.average=2 .* at most 1"
    ):
        build_markets(spec, parse_space(spec.space))
