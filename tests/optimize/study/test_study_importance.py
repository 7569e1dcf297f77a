"""Importance of searched keys, beside that of shuffled scores."""

import optuna
import pytest

from optimize.study.importance import FEWEST_TRIALS, measure_importance


def study_of(trials: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3))
    study.optimize(lambda trial: -abs(trial.suggest_float("decides", 0, 1) - 0.5)
                   + 0.0 * trial.suggest_float("idles", 0, 1), n_trials=trials)  # fmt: skip
    return study


def test_a_key_that_decides_stands_out_of_shuffled_scores_and_one_that_idles_does_not() -> None:
    decides, idles = measure_importance(study_of(60))
    assert (decides.key, idles.key) == ("decides", "idles")
    assert decides.value > decides.shuffled_high
    assert idles.value < idles.shuffled_high
    assert 0 <= decides.shuffled_mean <= decides.shuffled_high


def test_few_trials_have_no_importance() -> None:
    assert measure_importance(study_of(FEWEST_TRIALS - 1)) == []


def test_optuna_is_as_loud_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(FEWEST_TRIALS)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    measure_importance(study)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert "no-name" not in capsys.readouterr().err
    optuna.logging.set_verbosity(optuna.logging.ERROR)
