"""Parameter sets that a study tries before its sampler draws: read, checked against the space, completed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler

from envs.fields import Key
from envs.plain import read
from optimize.errors import BadInputError
from optimize.search.parse import Choices, Parameter, Scalar, Value, read_value, stored_value
from optimize.search.proposals import outside_space
from optimize.search.space import SearchSpace, suggest


def read_sets(
    sets: Sequence[Mapping[str, Any]], space: SearchSpace, keys: Mapping[str, Key]
) -> list[dict[str, Scalar]]:
    """Return the sets of `search.enqueue` as Optuna stores their values; raise BadInputError for a wrong one.

    A set may be flat, `{agent.gamma: 0.9}`, or a tree, `{agent: {gamma: 0.9}}`.
    """
    known = {each.path: each for each in space.parameters}
    found: list[dict[str, Scalar]] = []
    for index, given in enumerate(sets):
        where = f"search.enqueue[{index}]"
        if not given:
            raise BadInputError(
                f"{where} is empty: give the value of a searched key, such as "
                f"{{{next(iter(known), 'agent.learning_rate')}: VALUE}}, or leave the set out"
            )
        values = {
            path: _read(value, known[path], keys[path].kind if path in keys else None)
            if path in known
            else value
            for path, value in _flat(given, known, "")
        }
        if (problem := outside_space(space, values)) is not None:
            raise BadInputError(f"{where}: {problem}; the space has {', '.join(known) or 'no parameter'}")
        if (unread := inactive(space, values)) is not None:
            raise BadInputError(f"{where}: {unread}")
        if values in found:
            raise BadInputError(f"{where} is the same set as search.enqueue[{found.index(values)}]: keep one")
        found.append(values)
    return found


def complete_set(space: SearchSpace, values: Mapping[str, Scalar], seed: Sequence[int]) -> dict[str, Scalar]:
    """Return a set with the parameters that it lacks drawn at random, the same for the same seed.

    They are drawn before the study begins, so that no worker's timing decides about them.
    """
    state = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    study = optuna.create_study(sampler=RandomSampler(seed=state), direction="maximize")
    study.enqueue_trial(dict(values))
    drawn = suggest(space, study.ask())
    return {path: stored_value(value) for path, value in drawn.items()}


def inactive(space: SearchSpace, values: Mapping[str, Scalar]) -> str | None:
    """Return why a value of a set is read by no trial, as its `when` does not hold; None if all are read."""
    active = complete_set(space, values, [0])
    known = {each.path: each for each in space.parameters}
    for path in values:
        if path not in active:
            needed = " and ".join(f"{parent} in {list(allowed)}" for parent, allowed in known[path].when)
            return f"{path} is searched where {needed} alone: add that to the set, or leave {path} out"
    return None


def _flat(tree: Mapping[str, Any], known: Mapping[str, Parameter], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{above}{key}"
        if path not in known and isinstance(value, Mapping) and value:  # an empty group is refused as a key
            yield from _flat(value, known, f"{path}.")
        else:
            yield path, value


def _read(value: Any, parameter: Parameter, kind: Any) -> Scalar:
    """Return a typed value as Optuna stores it: text such as 1e-4 as a number where the key takes one."""
    plain = list(value) if isinstance(value, list | tuple) else read(value, kind)
    domain = parameter.domain
    if isinstance(domain, Choices):
        numbers = [each for each in domain.values if type(each) in (int, float)]  # 1 is the choice 1.0
        same = [each for each in numbers if type(plain) in (int, float) and each == plain]
        return stored_value(same[0] if same else plain)
    if isinstance(plain, float) and domain.integer and plain.is_integer():
        return int(plain)
    return stored_value(plain)


def typed_values(space: SearchSpace, point: Mapping[str, Scalar]) -> dict[str, Value]:
    """Return the values of a stored set as a trial has them: lists are lists."""
    domains = {each.path: each.domain for each in space.parameters}
    found: dict[str, Value] = {}
    for path, value in point.items():
        domain = domains[path]
        found[path] = read_value(domain, value) if isinstance(domain, Choices) else value
    return found
