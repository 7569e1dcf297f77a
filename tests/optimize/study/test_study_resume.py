"""Settings that a relaunch may change, and those that it refuses before any training."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from envs.costs import CostSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.errors import BadInputError
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.search.spec import PhaseSpec, PrunerSpec, TimeframePhaseSpec
from optimize.study.context import enroll, open_study
from optimize.study.launch.run import run_study
from optimize.study.spec import StudySpec, WorkerSpec, check_name
from optimize.walkforward import run as trial_module
from tests.optimize.study.studies import SPACE, ground_of, opened, play, rows, small_spec, states

SPACE_2 = {"agent": {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}}
REMEDY = "go on with it as it was by `walkforge study name=small "
ELSE = ", or choose another name"


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*args: Any, **options: Any) -> None:
        raise AssertionError("trained before the refusal")

    monkeypatch.setattr(trial_module, "train", train)


def refused(spec: StudySpec) -> str:
    """Return the lines of a refusal: the remedy, then one line for each difference."""
    with pytest.raises(BadInputError) as caught:
        run_study(spec, Console(quiet=True))
    line = str(caught.value)
    assert caught.value.exit_code == 2
    return line


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": SPACE_2}, "space.agent.learning_rate.low: started with"),
        ({"space": SPACE | {"feature": {"lookback": [2, 4]}}}, "space.feature.lookback: started with"),
        ({"cost": CostSpec(commission_bps=2.0)}, "cost.commission_bps: started with 1.0, now 2.0"),
        ({"seed": 1}, "seed: started with 0, now 1"),
        (
            {"data": DataSpec("synthetic", synthetic=SyntheticSpec(bars=1500))},
            "data.synthetic.bars: started with 1440",
        ),
        ({"score": ScoreSpec("mean_window", 0.0, 2, 0, 0.0)}, "score.kind: started with 'joined', now"),
        (
            {"window": WindowSpec(count=3, train_ratio=2.0, min_train_bars=20)},
            "window.count: started with 2, now",
        ),
        ({"pruner": PrunerSpec(name="median")}, "pruner.name: started with 'none', now"),
        ({"feature": FeatureSpec(2, ["returns", "range"])}, "feature.indicators: started with"),
    ],
)
def test_a_study_is_not_resumed_as_something_else(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    opened(small_spec(tmp_path))
    line = refused(small_spec(tmp_path, **changes))
    assert words in line
    assert line.startswith("study 'small' was started with")
    assert REMEDY in line
    assert line.splitlines()[0].endswith(ELSE)


def test_data_that_changed_under_the_same_name_is_refused(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    context = opened(spec)
    windowed = ground_of(context, spec)
    other = dataclasses.replace(windowed, market=dataclasses.replace(windowed.market, fingerprint="f" * 64))
    with pytest.raises(BadInputError, match=rf"was started on other data \(.*now f{{12}}\): {REMEDY}"):
        enroll(open_study(spec), other)


def test_how_far_and_how_fast_may_change(tmp_path: Path) -> None:
    opened(small_spec(tmp_path))
    worker = WorkerSpec(count=3, lease_s=5.0)
    context = opened(
        small_spec(tmp_path, n_trials=9, max_failures=1, keep_models=3, preflight=True, worker=worker)
    )
    stored = rows(context.spec, "SELECT n_trials FROM wf_studies")
    assert stored == [(9,)]


def test_a_deleted_study_leaves_nothing_to_the_next_of_its_name(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=1))
    play(context)
    optuna.delete_study(study_name="small", storage=context.storage)
    again = opened(small_spec(tmp_path, n_trials=1, space=SPACE_2))
    assert states(again) == {}
    assert rows(again.spec, "SELECT * FROM wf_runs") == []
    play(again)
    assert states(again) == {"COMPLETE": 1}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"cost": {"commission_bps": [0.0, 1.0]}}, "may not tune the exam"),
        ({"window": {"count": [2, 3]}}, "may not tune the exam"),
        ({"seed": [0, 1]}, "may not tune the exam"),
        ({"agent": {"learning_rat": [1e-4, 1e-3]}}, "agent.learning_rat"),
        ({"featur": {"lookback": [2, 4]}}, "featur.lookback"),
        ({"keep_models": [1, 2]}, "decides how a study runs, and changes no trial"),
        ({"reward": {"clip": [5.0, 10.0]}}, "may not be searched: reward=net_log_return reads scale"),
        ({"feature": {"lookback": [2, 500]}}, "lookback"),
        ({"data": {"timeframe": ["1h", "12h"]}}, "train bars"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(
    tmp_path: Path, space: dict[str, Any], words: str
) -> None:
    wide = WindowSpec(count=2, train_ratio=2.0, min_train_bars=200)
    line = refused(small_spec(tmp_path, space=space, window=wide))
    assert words in line
    assert not (tmp_path / "walkforge.db").exists()
    assert not (tmp_path / "studies").exists()


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda spec: {"window": WindowSpec(count=80)}, "window.count=80"),
        (lambda spec: {"score": ScoreSpec(min_periods=500)}, "score.min_periods needs 500"),
        (lambda spec: {"data": DataSpec(provider="file", path="nowhere.csv")}, "nowhere.csv"),
    ],
)
def test_windows_and_data_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[StudySpec], dict[str, Any]], words: str
) -> None:
    spec = small_spec(tmp_path)
    assert words in refused(dataclasses.replace(spec, **change(spec)))
    assert not (tmp_path / "walkforge.db").exists()


@pytest.mark.usefixtures("no_training")
def test_both_phases_are_checked_before_the_first(tmp_path: Path) -> None:
    phase = PhaseSpec("two", TimeframePhaseSpec(4, ["1h"], [2, 4]))
    line = refused(small_spec(tmp_path, phase=phase, space={"cost": {"slippage_bps": [0.0, 1.0]}}))
    assert "may not tune the exam" in line
    assert not (tmp_path / "walkforge.db").exists()


@pytest.mark.parametrize("name", ["", "???", "a.b", "a b", "../a", "a/b", "a'b"])
def test_a_name_that_is_missing_or_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match=r"name is missing|use letters, digits, _ and - only"):
        check_name(name)
