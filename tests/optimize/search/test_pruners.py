"""A trial is compared at the same step, never with a lucky earlier one."""

import math
import pickle
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from envs.errors import BadInputError
from optimize.search.pruners import (
    BATCH,
    ExemptingPruner,
    SameStepMedianPruner,
    is_exempt,
    is_out_of_better_half,
    is_rung,
    is_worse_than_median,
    make_pruner,
    values_at_step,
)
from optimize.search.spec import PrunerSpec


def finished(values: Sequence[float], state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    value = values[-1] if state == TrialState.COMPLETE else None
    return create_trial(state=state, value=value, intermediate_values=dict(enumerate(values)))


def study_of(*trials: FrozenTrial, direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction="maximize" if direction == "maximize" else "minimize")
    for trial in trials:
        study.add_trial(trial)
    return study


def verdict(pruner: optuna.pruners.BasePruner, study: optuna.Study, values: Sequence[float]) -> bool:
    trial = study.ask()
    for step, value in enumerate(values):
        trial.report(value, step)
    return pruner.prune(study, study.trials[trial.number])


def test_a_lucky_first_window_is_no_shield() -> None:
    study = study_of(*[finished([1.0, 1.0])] * 3)
    assert verdict(SameStepMedianPruner(3), study, [5.0, 0.0])
    optuna_median = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)
    assert not verdict(optuna_median, study, [5.0, 0.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 1.9], True), ([0.0, 2.0], False), ([0.0, 2.1], False), ([0.0, math.nan], False), ([], False)],
)
def test_below_the_median_is_pruned(values: list[float], expected: bool) -> None:
    study = study_of(*(finished([0.0, value]) for value in (1.0, 2.0, 3.0)))
    assert verdict(SameStepMedianPruner(3), study, values) is expected


def test_minimisation_prunes_above_the_median() -> None:
    study = study_of(*(finished([0.0, value]) for value in (1.0, 2.0, 3.0)), direction="minimize")
    assert verdict(SameStepMedianPruner(3), study, [0.0, 2.5])
    assert not verdict(SameStepMedianPruner(3), study, [0.0, 1.5])


def test_warm_up_steps_are_spared() -> None:
    study = study_of(*[finished([1.0, 1.0, 1.0])] * 3)
    pruner = SameStepMedianPruner(3, n_warmup_steps=2)
    assert not verdict(pruner, study, [0.0, 0.0])
    assert verdict(pruner, study, [0.0, 0.0, 0.0])


def test_only_finished_trials_with_that_step_count() -> None:
    counted = [finished([1.0, 1.0]), finished([1.0, 1.0], TrialState.PRUNED)]
    ignored = [finished([9.0, 9.0], TrialState.FAIL), finished([9.0]), finished([9.0, math.nan, 9.0])]
    study = study_of(*counted, *ignored)
    assert not verdict(SameStepMedianPruner(3), study, [0.0, 0.0])
    assert verdict(SameStepMedianPruner(2), study, [0.0, 0.0])
    assert not verdict(SameStepMedianPruner(2), study, [0.0, 1.0])


def test_the_arithmetic_stands_alone() -> None:
    trials = [finished([1.0]), finished([2.0, 4.0]), finished([math.inf, 8.0])]
    assert values_at_step(trials, 0) == [1.0, 2.0]
    assert values_at_step(trials, 1) == [4.0, 8.0]
    assert is_worse_than_median(5.9, [4.0, 8.0], maximize=True)
    assert not is_worse_than_median(6.0, [4.0, 8.0], maximize=True)
    assert not is_worse_than_median(6.0, [4.0, 8.0], maximize=False)


def test_a_tenth_is_exempt_by_seed_and_number() -> None:
    exempt = [is_exempt(0, number, 0.1) for number in range(2000)]
    assert 160 < sum(exempt) < 240
    assert exempt == [is_exempt(0, number, 0.1) for number in range(2000)]
    assert exempt != [is_exempt(1, number, 0.1) for number in range(2000)]
    assert not any(is_exempt(0, number, 0.0) for number in range(100))
    assert all(is_exempt(0, number, 1.0) for number in range(100))


@pytest.mark.parametrize("name", ["median", "successive_halving"])
def test_exempt_trials_and_the_first_ones_run_to_the_end(name: str) -> None:
    study = study_of(*[finished([1.0, 1.0])] * 4)
    assert verdict(make_pruner(PrunerSpec(name, 4, exempt_share=0.0), 0), study, [0.0, 0.0])
    assert not verdict(make_pruner(PrunerSpec(name, 4, exempt_share=1.0), 0), study, [0.0, 0.0])
    assert not verdict(make_pruner(PrunerSpec(name, 5, exempt_share=0.0), 0), study, [0.0, 0.0])


def test_successive_halving_stops_the_bad_ones_after_the_start_up() -> None:
    pruner = make_pruner(PrunerSpec("successive_halving", 2, exempt_share=0.0), 0)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    pruned = []
    for score in (1.0, 2.0, 3.0, 0.0, 0.0):
        trial = study.ask()
        for step in range(3):
            trial.report(score, step)
            if stop := trial.should_prune():
                break
        pruned.append(stop)
        study.tell(trial, None if pruned[-1] else score, TrialState.PRUNED if pruned[-1] else None)
    assert pruned == [False, False, False, True, True]
    assert not verdict(pruner, study, [0.0, math.nan])


@pytest.mark.parametrize("name", ["median", "successive_halving"])
def test_a_batch_is_compared_with_earlier_batches_alone(name: str) -> None:
    pruner = make_pruner(PrunerSpec(name, 3, exempt_share=0.0), 0)
    study = study_of(*[finished([1.0, 1.0])] * 3, *[finished([9.0, 9.0])] * 4)
    trial = study.ask()
    trial.report(0.0, 0)
    trial.report(2.0, 1)
    assert pruner.prune(study, study.trials[trial.number])
    trial.set_user_attr(BATCH, [3, 5])
    assert not pruner.prune(study, study.trials[trial.number])
    trial.set_user_attr(BATCH, [2, 6])  # two finished trials are too few to begin with
    trial.report(-9.0, 3)
    assert not pruner.prune(study, study.trials[trial.number])


@pytest.mark.parametrize(("windows", "first", "expected"), [(2, 2, True), (4, 2, True), (6, 2, False)])
def test_halves_are_taken_at_each_doubling(windows: int, first: int, expected: bool) -> None:
    assert is_rung(windows, first) is expected
    assert [n for n in range(1, 20) if is_rung(n, 3)] == [3, 6, 12]
    assert [n for n in range(1, 20) if is_rung(n, 1)] == [1, 2, 4, 8, 16]


def test_the_better_half_is_kept() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    kept = [v for v in values if not is_out_of_better_half(v, [w for w in values if w != v], maximize=True)]
    assert kept == [4.0, 5.0]
    assert not is_out_of_better_half(1.0, [], maximize=True)
    assert not is_out_of_better_half(1.0, [1.0, 1.0], maximize=True)
    assert not is_out_of_better_half(1.0, [2.0, 3.0], maximize=False)
    assert is_out_of_better_half(1.0, [2.0], maximize=True)


def test_halving_counts_running_trials_and_asks_nothing_twice() -> None:
    pruner = make_pruner(PrunerSpec("successive_halving", 1, exempt_share=0.0), 0)
    study = study_of(finished([1.0, 1.0]))
    for _ in range(3):
        runs = study.ask()
        runs.report(9.0, 0)
        runs.report(9.0, 1)
    trial = study.ask()
    trial.report(2.0, 0)
    assert not pruner.prune(study, study.trials[trial.number])
    trial.report(2.0, 1)
    assert [pruner.prune(study, study.trials[trial.number]) for _ in range(2)] == [True, True]
    assert study.trials[trial.number].system_attrs == {}


def test_none_never_prunes() -> None:
    study = study_of(*[finished([1.0, 1.0])] * 9)
    assert not verdict(make_pruner(PrunerSpec("none"), 0), study, [-9.0, -9.0])


def test_a_pruner_travels_to_a_worker() -> None:
    pruner = pickle.loads(pickle.dumps(make_pruner(PrunerSpec(), 3)))
    assert isinstance(pruner, ExemptingPruner)
    assert pruner.seed == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "hyperband"}, "pruner.name='hyperband' is not allowed: .*median, none, successive_halving"),
        ({"n_startup_trials": 0}, "pruner.n_startup_trials=0"),
        ({"n_warmup_steps": -1}, "pruner.n_warmup_steps=-1"),
        ({"exempt_share": 1.5}, "pruner.exempt_share=1.5"),
    ],
)
def test_bad_specs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        PrunerSpec(**options)
