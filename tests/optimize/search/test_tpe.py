"""TPE that remembers proposes, to the last bit, what Optuna's own does."""

import random
import warnings
from collections.abc import Callable
from typing import Any, Literal

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import TrialState

from optimize.search.samplers import SamplerSpec, make_sampler
from optimize.search.space import parse_space
from optimize.search.tpe import Memory, Past, RememberingTPESampler

TRIALS = 120
STARTUP = 5
Make = Callable[[int], TPESampler]
Direction = Literal["maximize", "minimize"]
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def optunas(settings: dict[str, Any]) -> Make:
    return lambda number: TPESampler(seed=number, n_startup_trials=STARTUP, **settings)


def ours(settings: dict[str, Any]) -> Make:
    memory = Memory()
    return lambda number: RememberingTPESampler(memory, seed=number, n_startup_trials=STARTUP, **settings)


def search(
    make: Make, *, infeasible: float, seed: int, direction: Direction = "maximize"
) -> list[dict[str, Any]]:
    """Return what is proposed to a study whose trials end in every way, some of them later or never."""
    study = optuna.create_study(direction=direction, sampler=make(0))
    lot, late = random.Random(seed), []
    for number in range(TRIALS):
        study.sampler = make(number)
        trial = study.ask()
        x = trial.suggest_float("x", -2.0, 2.0)
        kind = trial.suggest_categorical("kind", ["a", None, 1.5])
        trial.suggest_int("n", 1, 64, log=True)
        if kind is None:
            trial.suggest_float("y", 0.0, 1.0, step=0.1)
        late.append((trial, lot.choice([-x * x, float(round(x)), float("inf")])))
        lot.shuffle(late)
        while len(late) > 3:
            end(study, *late.pop(), lot.random(), infeasible)
    return [trial.params for trial in study.trials]


def end(study: Study, trial: optuna.Trial, value: float, chance: float, infeasible: float) -> None:
    if chance < 0.1:
        study.tell(trial, state=TrialState.FAIL)
    elif chance < 0.3:
        trial.report(value, 0)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        trial.set_constraint("feasible", 1.0 if chance < 0.3 + infeasible else -1.0)
        study.tell(trial, value)


@pytest.mark.parametrize("infeasible", [0.1, 0.68])
@pytest.mark.parametrize(
    "settings",
    [{}, {"multivariate": False}, {"multivariate": True, "group": True}, {"constant_liar": False}],
    ids=str,
)
def test_proposals_are_optunas(settings: dict[str, Any], infeasible: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = search(optunas(settings), infeasible=infeasible, seed=1)
        assert search(ours(settings), infeasible=infeasible, seed=1) == theirs
    assert theirs != search(optunas(settings), infeasible=infeasible, seed=2)


def test_both_ways_of_splitting_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    split, found = Past.split, []

    def watched(self: Past, *given: Any) -> Any:
        found.append(split(self, *given))
        return found[-1]

    monkeypatch.setattr(Past, "split", watched)
    search(ours({}), infeasible=0.1, seed=1)
    assert None not in found
    found.clear()
    search(ours({}), infeasible=0.68, seed=1)
    assert None in found


def test_a_study_to_be_minimised_is_left_to_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = search(optunas({}), infeasible=0.1, seed=1, direction="minimize")
    monkeypatch.setattr(Past, "split", None)
    assert search(ours({}), infeasible=0.1, seed=1, direction="minimize") == theirs


def test_a_finished_trial_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read, seen = Past._read, []

    def watched(self: Past, trial: optuna.trial.FrozenTrial, parameters: Any) -> None:
        seen.append(trial.number)
        read(self, trial, parameters)

    monkeypatch.setattr(Past, "_read", watched)
    space = parse_space({"x": {"low": 0.0, "high": 1.0}})
    study = optuna.create_study(direction="maximize", sampler=make_sampler(SamplerSpec(), 0, space))
    for _ in range(60):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0.0, 1.0))
    assert sorted(seen) == list(range(59))
