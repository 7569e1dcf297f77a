"""Importance of searched keys for the score, beside that of the same trials with shuffled scores."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from optimize.search.storage import open_storage

FEWEST_TRIALS = 10
MOST_TRIALS = 2000  # newest, so that a report of a large study takes seconds
SHUFFLES = 30
HIGH = 0.95  # quantile of the shuffled importance


@dataclass(frozen=True)
class KeyImportance:
    """Share of a searched key in the difference between good and other trials (PED-ANOVA, Watanabe 2023)."""

    key: str
    value: float
    shuffled_mean: float  # where the scores are shuffled among the trials
    shuffled_high: float  # 95 % of the shuffles are below


def stored_importance(url: str, name: str) -> list[KeyImportance]:
    """Return the importance of the searched keys of a stored study; empty where there are too few trials."""
    storage = open_storage(url)
    try:
        return measure_importance(optuna.load_study(study_name=name, storage=storage))
    finally:
        storage.engine.dispose()


def measure_importance(study: optuna.Study, seed: int = 0) -> list[KeyImportance]:
    """Return the importance of each searched key, largest first; empty where there are too few trials."""
    found = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [trial for trial in found if trial.value is not None and np.isfinite(trial.value)][-MOST_TRIALS:]
    scores = [float(trial.value or 0.0) for trial in trials]
    if len(trials) < FEWEST_TRIALS or len(set(scores)) < 2:
        return []
    generator = np.random.default_rng(seed)
    with _quiet():
        measured = _importance(trials, scores)
        shuffled = [_importance(trials, generator.permutation(scores).tolist()) for _ in range(SHUFFLES)]
    return [
        KeyImportance(
            key,
            value,
            float(np.mean([each.get(key, 0.0) for each in shuffled])),
            float(np.quantile([each.get(key, 0.0) for each in shuffled], HIGH)),
        )
        for key, value in measured.items()
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from logging each study in memory."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _importance(trials: Sequence[FrozenTrial], scores: Sequence[float]) -> dict[str, float]:
    """Return the importance of the keys that all trials have, for trials with these scores."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            create_trial(params=trial.params, distributions=trial.distributions, value=score)
            for trial, score in zip(trials, scores, strict=True)
        ]
    )
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
