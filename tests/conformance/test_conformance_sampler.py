"""Optuna's guarantees of a sampler hold for ours, on both databases, and a resume changes nothing.

The cases are those of Optuna's own suite for samplers, written anew.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from optimize.database import is_sqlite
from optimize.search.proposals import Proposals, queued_value_error, store
from optimize.search.samplers import make_sampler
from optimize.search.space import SearchSpace, parse_space, suggest
from optimize.search.spec import SamplerSpec
from optimize.search.storage import load_or_create_study, open_storage, trial_id
from tests.postgres import Server
from tests.tiers import mostly_slow

TRIALS = 10  # past the random start of those that have one
RANGES: dict[str, Any] = {
    "float": {"low": -1.0, "high": 1.0},
    "float_log": {"low": 1e-6, "high": 1.0, "log": True},
    "float_step": {"low": 0.0, "high": 1.0, "step": 0.25},
    "int": {"low": 1, "high": 9},
    "int_log": {"low": 1, "high": 1024, "log": True},
    "int_step": {"low": 0, "high": 64, "step": 16},
}
LISTS: dict[str, Any] = {"a": [1, 2, 3], "b": ["x", "y"], "one": [7]}
BRANCHES: dict[str, Any] = {
    "kind": ["plain", "deep"],
    "depth": {"choices": [2, 3, 4], "when": {"s.kind": ["deep"]}},
}
SPACES: dict[str, dict[str, Any]] = {
    "ranges": {"s": RANGES},
    "lists": {"s": LISTS},
    "branches": {"s": BRANCHES},
    "all": {"s": RANGES | BRANCHES},
}
SAMPLERS = {
    "tpe": SamplerSpec(n_startup_trials=4),
    "tpe_joint": SamplerSpec(n_startup_trials=4, multivariate=True),
    "tpe_group": SamplerSpec(n_startup_trials=4, multivariate=True, group=True),
    "random": SamplerSpec("random"),
    "qmc": SamplerSpec("qmc"),
    "grid": SamplerSpec("grid"),
    "cmaes": SamplerSpec("cmaes", n_startup_trials=4),
}
CASES = [
    *(("tpe", space) for space in SPACES),
    *((name, "all") for name in ("tpe_joint", "tpe_group", "random", "qmc")),
    *(("grid", space) for space in ("lists", "branches")),
    ("cmaes", "ranges"),
]
PARTS = [("tpe", "ranges"), ("tpe", "branches")]  # of the space `all`
Played = Callable[[str, str], list[dict[str, Any]]]
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])],
)
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RDBStorage]:
    """Yield one storage for all tests, each of which names its studies after itself."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{tmp_path_factory.mktemp('samplers') / 'a.db'}"
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres_server")
        server.psql("postgres", "-c", "CREATE DATABASE samplers")
        url = server.url("samplers")
    storage = open_storage(url)
    yield storage
    storage.engine.dispose()


@pytest.fixture
def called(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture(scope="module")
def played(storage: RDBStorage) -> Played:
    """Return a function that plays a case once and returns its parameters to each test."""

    @functools.cache
    def once(name: str, space: str) -> list[dict[str, Any]]:
        return play(storage, f"{name} {space}", name, parse_space(SPACES[space]))

    return once


def proposals(name: str, space: SearchSpace, seed: int = 3) -> Proposals:
    return Proposals(space, functools.partial(make_sampler, SAMPLERS[name], seed, space))


def state_of(number: int) -> TrialState:
    return {0: TrialState.PRUNED, 1: TrialState.FAIL}.get(number % 5, TrialState.COMPLETE)


def score_of(params: dict[str, Any], number: int) -> float:
    """Return a score, not always a finite one."""
    whole = sum(float(value) for value in params.values() if isinstance(value, (int, float)))
    return [math.inf, -math.inf][number % 2] if number in (7, 8) else math.sin(whole)


def play(
    storage: RDBStorage, study_name: str, name: str, space: SearchSpace, seed: int = 3, fresh: bool = False
) -> list[dict[str, Any]]:
    """Run trials of every state, the odd value among them; `fresh` draws each by a sampler of its own."""
    study = load_or_create_study(storage, study_name)
    drawer = proposals(name, space, seed)
    for number in range(TRIALS):
        if fresh:
            drawer = proposals(name, space, seed)
        trial = store(storage, study.study_name, drawer.draw(study.get_trials(deepcopy=False)), {})
        score, stored = score_of(trial.params, number), trial_id(storage, study_name, number)
        for step, value in enumerate((math.nan, score)):
            storage.set_trial_intermediate_value(stored, step, value)
        if number % 6 == 4:
            storage.set_trial_system_attr(stored, "constraints:feasible", 1.0)
        state = state_of(number)
        study.tell(number, score if state == TrialState.COMPLETE else None, state=state)
    return [trial.params for trial in study.get_trials()]


@pytest.mark.parametrize(("name", "space"), CASES)
def test_every_value_is_one_of_the_space(played: Played, name: str, space: str) -> None:
    searched = parse_space(SPACES[space])
    for params in played(name, space):
        queued = create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": params})
        assert queued_value_error(searched, queued) is None
        active = {p.path for p in searched.parameters if all(params.get(k) in v for k, v in p.when)}
        assert params.keys() == active


@pytest.mark.parametrize(
    ("name", "space"),
    mostly_slow([case for case in CASES if case not in PARTS], ("tpe", "all"), ("grid", "branches")),
)
def test_a_seed_decides_and_a_resume_changes_nothing(
    storage: RDBStorage, played: Played, called: str, name: str, space: str
) -> None:
    searched, first = parse_space(SPACES[space]), played(name, space)
    assert play(storage, f"{called} b", name, searched, fresh=True) == first
    if name != "grid" and is_sqlite(str(storage.url)):
        assert play(storage, f"{called} c", name, searched, seed=4) != first


@pytest.mark.parametrize("name", SAMPLERS)
def test_queued_values_are_taken_and_the_rest_is_drawn(storage: RDBStorage, called: str, name: str) -> None:
    space = parse_space(SPACES["ranges" if name == "cmaes" else "lists"])
    fixed = {"s.int": 4} if name == "cmaes" else {"s.a": 2}
    study = load_or_create_study(storage, called, sampler=make_sampler(SAMPLERS[name], 3, space))
    for _ in range(6):
        study.enqueue_trial(fixed)
        trial = study.ask()
        params = suggest(space, trial)
        assert fixed.items() <= params.items()
        assert params.keys() == {parameter.path for parameter in space.parameters}
        study.tell(trial, 1.0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_trials_told_by_hand_and_of_other_parameters_do_no_harm(
    storage: RDBStorage, called: str, name: str
) -> None:
    space = parse_space(SPACES["ranges" if name == "cmaes" else "lists"])
    study = load_or_create_study(storage, called)
    other = optuna.distributions.FloatDistribution(0.0, 1.0)
    for number in range(6):
        study.add_trial(create_trial(params={"other": 0.5}, distributions={"other": other}, value=number))
        study.add_trial(create_trial(value=float(number)))
    drawn = proposals(name, space).draw(study.get_trials(deepcopy=False))
    assert drawn.number == 12
    assert drawn.params.keys() == {parameter.path for parameter in space.parameters}


@pytest.mark.parametrize("name", ["tpe", "tpe_joint", "tpe_group", "random", "qmc", "grid"])
def test_trials_that_run_are_not_drawn_upon_twice(storage: RDBStorage, called: str, name: str) -> None:
    """Workers ask one after another while none has ended; each has its own point."""
    space = parse_space({"s": {"a": [1, 2, 3, 4], "b": [1, 2, 3, 4]}} if name == "grid" else SPACES["all"])
    study, drawer = load_or_create_study(storage, called), proposals(name, space)
    for _ in range(6):
        store(storage, study.study_name, drawer.draw(study.get_trials(deepcopy=False)), {})
    drawn = [tuple(trial.params.items()) for trial in study.get_trials()]
    assert len(set(drawn)) == 6


def test_a_grid_tries_each_point_equally_often(played: Played) -> None:
    tried = played("grid", "lists")
    counted: dict[tuple[Any, ...], int] = {}
    for number, params in enumerate(tried):
        if state_of(number) != TrialState.FAIL:  # a failed trial may have any point
            key = tuple(params.items())
            counted[key] = counted.get(key, 0) + 1
    assert max(counted.values()) - min(counted.values()) <= 1
    assert len(counted) == 6
