"""A sampler proposes by study seed, trial number and history; a resume changes nothing."""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from envs.errors import BadInputError
from optimize.search.samplers import BalancedGridSampler, SobolSampler, grid_words, make_sampler, value_at
from optimize.search.space import SearchSpace, parse_space, suggest
from optimize.search.spec import SamplerSpec
from optimize.search.storage import load_or_create_study, open_storage

SPACE = parse_space(
    {
        "x": {"low": -2.0, "high": 2.0},
        "n": {"low": 1, "high": 64, "log": True},
        "kind": ["a", "b", "c"],
        "y": {"low": 0.0, "high": 1.0, "when": {"kind": ["b", "c"]}},
    }
)
RANGES = parse_space({"x": {"low": -2.0, "high": 2.0}, "y": {"low": -2.0, "high": 2.0}})
GRID = parse_space({"timeframe": ["1h", "1d"], "lookback": [4, 8, 16]})


def objective(values: dict[str, Any]) -> float:
    return -(float(values["x"]) ** 2) + math.log(values["n"]) - float(values.get("y", 0.5)) ** 2


def run(study: optuna.Study, space: SearchSpace, n_trials: int) -> None:
    for _ in range(n_trials):
        trial = study.ask()
        study.tell(trial, objective(suggest(space, trial)))


def proposals(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("spec", [SamplerSpec(n_startup_trials=5), SamplerSpec("random"), SamplerSpec("qmc")])
def test_a_resumed_study_proposes_what_an_uninterrupted_one_would(spec: SamplerSpec, tmp_path: Path) -> None:
    seed = 7
    whole = optuna.create_study(sampler=make_sampler(spec, seed, SPACE), direction="maximize")
    run(whole, SPACE, 12)
    url = f"sqlite:///{tmp_path}/a.db"
    for n_trials in (4, 8):
        study = load_or_create_study(open_storage(url), "a", sampler=make_sampler(spec, seed, SPACE))
        run(study, SPACE, n_trials)
    assert proposals(study) == proposals(whole)
    assert len({str(each) for each in proposals(whole)}) == 12


def test_trials_asked_together_keep_their_own_seeds() -> None:
    def parameters(*, together: bool) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=make_sampler(SamplerSpec("random"), 3, SPACE))
        if together:
            for trial in [study.ask() for _ in range(4)]:
                suggest(SPACE, trial)
        else:
            for _ in range(4):
                suggest(SPACE, study.ask())
        return proposals(study)

    assert parameters(together=True) == parameters(together=False)


def test_another_seed_proposes_something_else() -> None:
    first, second = (
        optuna.create_study(sampler=make_sampler(SamplerSpec(), seed, SPACE), direction="maximize")
        for seed in (1, 2)
    )
    run(first, SPACE, 3)
    run(second, SPACE, 3)
    assert proposals(first) != proposals(second)


def test_tpe_learns() -> None:
    study = optuna.create_study(sampler=make_sampler(SamplerSpec(), 0, SPACE), direction="maximize")
    run(study, SPACE, 60)
    early, late = (
        [abs(trial.params["x"]) for trial in study.trials[part]] for part in (slice(20), slice(-20, None))
    )
    assert np.mean(late) < 0.6 * np.mean(early)


@pytest.mark.parametrize("options", [{"group": True}, {"multivariate": False}, {"multivariate": True}])
def test_tpe_options_raise_no_warning(options: dict[str, Any]) -> None:
    study = optuna.create_study(sampler=make_sampler(SamplerSpec(n_startup_trials=3, **options), 0, SPACE))
    run(study, SPACE, 8)


def test_sobol_points_spread_evenly_and_never_repeat() -> None:
    sampler = SobolSampler(5, ["a", "b", "c"])
    points = np.array([sampler.point(number) for number in range(64)])
    for axis in points.T:
        assert sorted((axis * 64).astype(int)) == list(range(64))
    assert not np.array_equal(points[0], SobolSampler(6, ["a", "b", "c"]).point(0))


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (CategoricalDistribution(["a", "b"]), ["a", "a", "b", "b"]),
        (IntDistribution(1, 7, step=2), [1, 3, 5, 7]),
        (IntDistribution(0, 1), [0, 0, 1, 1]),
        (FloatDistribution(0.0, 1.0), [0.125, 0.375, 0.625, 0.875]),
        (FloatDistribution(0.0, 0.3, step=0.1), [0.0, 0.1, 0.2, 0.3]),
        (FloatDistribution(1.0, 10_000.0, log=True), [10**0.5, 10**1.5, 10**2.5, 10**3.5]),
    ],
)
def test_values_share_the_unit_interval_evenly(
    distribution: optuna.distributions.BaseDistribution, expected: list[Any]
) -> None:
    values = [value_at(distribution, unit) for unit in (0.125, 0.375, 0.625, 0.875)]
    assert values == (expected if isinstance(expected[0], str) else pytest.approx(expected))


def test_log_whole_numbers_reach_both_ends() -> None:
    distribution = IntDistribution(1, 8, log=True)
    values = [value_at(distribution, unit) for unit in np.linspace(0, 1, 400, endpoint=False)]
    assert set(values) == set(range(1, 9))
    assert values == sorted(values)


def test_grid_gives_every_combination_the_same_number_of_trials() -> None:
    study = optuna.create_study(sampler=make_sampler(SamplerSpec("grid"), 0, GRID))
    for _ in range(13):
        trial = study.ask()
        suggest(GRID, trial)
        study.tell(trial, 0.0)
    counts = Counter(tuple(trial.params.values()) for trial in study.trials)
    assert sorted(counts.values()) == [2, 2, 2, 2, 2, 3]
    assert counts["1h", 4] == 3


def test_grid_counts_pruned_and_running_trials_but_not_failed_ones() -> None:
    study = optuna.create_study(sampler=make_sampler(SamplerSpec("grid"), 0, GRID))
    states = [TrialState.FAIL, TrialState.PRUNED, None, TrialState.FAIL]  # None: left running
    seen = []
    for state in [*states, None]:
        trial = study.ask()
        seen.append(tuple(suggest(GRID, trial).values()))
        if state is not None:
            study.tell(trial, state=state)
    assert seen == [("1h", 4), ("1h", 4), ("1h", 8), ("1h", 16), ("1h", 16)]


def test_grid_balances_trials_that_were_asked_together_and_resumed_ones() -> None:
    combinations: list[dict[str, Any]] = [{"a": 1}, {"a": 2}, {"a": 3}]
    study = optuna.create_study(sampler=BalancedGridSampler(combinations))
    together = [study.ask() for _ in range(3)]
    assert [trial.suggest_categorical("a", [1, 2, 3]) for trial in together] == [1, 2, 3]
    study.sampler = BalancedGridSampler(combinations)
    assert [study.ask().suggest_categorical("a", [1, 2, 3]) for _ in range(2)] == [1, 2]


def test_grid_of_ranges_is_refused_with_all_of_them() -> None:
    words = (
        r"^sampler=grid .* ranges for x, n, y: leave each out, as in space\.x=null, .*'\+space\.agent\.gamma="
    )
    with pytest.raises(BadInputError, match=words):
        make_sampler(SamplerSpec("grid"), 0, SPACE)


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        (6, None),
        (5, "n_trials=5 tries the first 5 of the space's 6 points$"),
        (12, "n_trials=12 tries each of the space's 6 points 2 times, with other seeds each time; "),
        (7, "tries each of the space's 6 points 1 or 2 times, "),
    ],
)
def test_a_grid_says_how_often_it_tries_a_point(trials: int, words: str | None) -> None:
    said = grid_words(SamplerSpec("grid"), GRID, trials)
    assert said is None if words is None else re.search(words, said or "")
    assert grid_words(SamplerSpec("random"), SPACE, trials) is None


@pytest.mark.slow
def test_cmaes_learns_and_a_resume_changes_nothing(tmp_path: Path) -> None:
    spec, url = SamplerSpec("cmaes", n_startup_trials=4), f"sqlite:///{tmp_path}/a.db"

    def climb(study: optuna.Study, n_trials: int) -> None:
        for _ in range(n_trials):
            trial = study.ask()
            suggest(RANGES, trial)
            x, y = trial.params.values()
            study.tell(trial, -((float(x or 0) - 1.0) ** 2) - (float(y or 0) - 0.3) ** 2)

    whole = optuna.create_study(sampler=make_sampler(spec, 1, RANGES), direction="maximize")
    climb(whole, 80)
    for n_trials in (30, 50):
        study = load_or_create_study(open_storage(url), "a", sampler=make_sampler(spec, 1, RANGES))
        climb(study, n_trials)
    assert proposals(study) == proposals(whole)
    early, late = (
        [abs(trial.params["x"] - 1.0) for trial in whole.trials[part]]
        for part in (slice(20), slice(-20, None))
    )
    assert np.mean(late) < 0.5 * np.mean(early)


def test_cmaes_says_which_keys_it_cannot_search() -> None:
    mixed = parse_space({"x": {"low": 0.0, "high": 1.0}, "one": [3], "a": {"b": ["p", "q"]}, "c": [1, 2]})
    with pytest.raises(BadInputError) as caught:
        make_sampler(SamplerSpec("cmaes"), 0, mixed)
    assert str(caught.value) == (
        "sampler=cmaes searches ranges alone, and the space has lists for a.b, c: leave each out, as in "
        "space.a.b=null, write a space of your own, such as '~space' "
        "'+space.agent.learning_rate={low: 0.0001, high: 0.02, log: true}', or set sampler=tpe"
    )
    make_sampler(SamplerSpec("cmaes"), 0, parse_space({"x": {"low": 0.0, "high": 1.0}, "one": [3]}))


def test_a_constraint_is_no_reason_to_warn() -> None:
    study = optuna.create_study(sampler=make_sampler(SamplerSpec("cmaes"), 0, RANGES), direction="maximize")
    trial = study.ask()
    suggest(RANGES, trial)
    trial.set_constraint("feasible", 1.0)
    study.tell(trial, state=TrialState.PRUNED)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "bayes"}, "sampler.name='bayes' is not allowed: .*tpe, random, qmc, grid, cmaes"),
        ({"n_startup_trials": 0}, "sampler.n_startup_trials=0"),
        ({"group": True, "multivariate": False}, "sampler.group=True"),
    ],
)
def test_bad_specs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        SamplerSpec(**options)
