"""Optuna is used through its public interface alone, in the packages, the benchmarks and the tests."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import optuna
import pytest
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, create_trial

import optimize.search

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for top in ("envs", "optimize", "benchmarks", "tests") for path in (ROOT / top).rglob("*.py")]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def private_names() -> frozenset[str]:
    """Return the private attributes of the objects and modules of Optuna that a program meets."""
    study = optuna.create_study(storage=InMemoryStorage())
    objects: list[object] = [study, study.ask(), create_trial(value=1.0), InMemoryStorage(), BaseStorage]
    objects += [RDBStorage("sqlite://"), TPESampler(), CmaEsSampler(), RandomSampler(), BasePruner, optuna]
    objects += [optuna.storages, optuna.samplers, optuna.trial, optuna.study, Trial, FrozenTrial, BaseSampler]
    found = {name for each in objects for name in dir(each) if is_private(name)}
    return frozenset(found)


def violations(source: str) -> Iterator[str]:
    """Yield every private name of Optuna in a module: imported, or read from another object than itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "optuna":
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from filter(is_private, parts)
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names if alias.name.startswith("optuna.")]
            yield from filter(is_private, (part for name in names for part in name))
        elif isinstance(node, ast.Attribute) and node.attr in private_names():
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own:
                yield node.attr


@pytest.mark.parametrize(
    "source",
    [
        "from optuna.storages._rdb import models",
        "from optuna.samplers._tpe.sampler import default_gamma",
        "from optuna.storages import _CachedStorage",
        "import optuna.storages._rdb.models",
        "study._storage.get_trial(0)",
        "context.study._study_id",
        "trial._trial_id",
        "optuna.storages._CachedStorage",
        "study._get_trials(use_cache=True)",
        "self.study._storage",
    ],
)
def test_a_private_name_is_found(source: str) -> None:
    assert list(violations(source))


@pytest.mark.parametrize(
    "source",
    ["from optuna.storages import RDBStorage", "self._storage.get_trial(0)", "from optimize import _x"],
)
def test_a_public_or_own_name_is_no_violation(source: str) -> None:
    assert not list(violations(source))


def test_no_module_uses_a_private_name_of_optuna() -> None:
    found = {
        str(path.relative_to(ROOT)): names for path in FILES if (names := [*violations(path.read_text())])
    }
    assert found == {}


def test_no_class_overrides_a_private_method_of_optuna() -> None:
    modules = [
        importlib.import_module(f"optimize.search.{m.name}")
        for m in pkgutil.iter_modules(optimize.search.__path__)
    ]
    classes = {each for module in modules for _, each in inspect.getmembers(module, inspect.isclass)}
    ours = {each for each in classes if each.__module__.startswith("optimize.")}
    derived = {each for each in ours if any(base.__module__.startswith("optuna.") for base in each.__mro__)}
    overridden = {
        f"{each.__name__}.{name}"
        for each in derived
        for base in each.__mro__
        if base.__module__.startswith("optuna.")
        for name in vars(each).keys() & vars(base).keys()
        if is_private(name) and name != "_abc_impl"
    }
    assert len(derived) >= 5
    assert overridden == set()
