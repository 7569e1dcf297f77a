"""Use a search space: suggest, apply, narrow, lint; a leaf's path is parameter name and config key."""

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from optuna.trial import BaseTrial

from optimize.errors import BadInputError
from optimize.hashing import hash_object
from optimize.search.leaves import (
    Choices,
    Parameter,
    Range,
    Scalar,
    SearchSpace,
    Value,
    parse_choices,
    parse_space,
    read_value,
    refusal,
    stored_value,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    SpecT = TypeVar("SpecT", bound=DataclassInstance)

__all__ = [
    "Choices",
    "Parameter",
    "Range",
    "Scalar",
    "SearchSpace",
    "Value",
    "apply",
    "grid",
    "lint_space",
    "narrow",
    "parse_space",
    "space_hash",
    "suggest",
]

HYPERPARAMETERS = "hyperparameters"  # a dict field of this name exposes its keys as fields of its owner
EXAM_GROUPS = {"cost", "window", "score", "session", "database", "worker", "sampler", "pruner", "phase"}
EXAM_KEYS = {"seed", "name", "n_trials", "output_dir"} | {
    "env.fill",
    "agent.total_timesteps",
    "agent.device",
    "agent.n_envs",
}


def suggest(space: SearchSpace, trial: BaseTrial) -> dict[str, Value]:
    """Ask a trial for a value of every active parameter; lists are text in the trial and lists here."""
    values: dict[str, Value] = {}
    for parameter in space.parameters:
        if not _is_active(parameter, values):
            continue
        path, domain = parameter.path, parameter.domain
        if isinstance(domain, Choices):
            stored = trial.suggest_categorical(path, [stored_value(value) for value in domain.values])
            values[path] = read_value(domain, stored)
        elif domain.integer:
            low, high, step = int(domain.low), int(domain.high), int(domain.step or 1)
            values[path] = trial.suggest_int(path, low, high, step=step, log=domain.log)
        else:
            values[path] = trial.suggest_float(
                path, domain.low, domain.high, step=domain.step, log=domain.log
            )
    return values


def apply(spec: "SpecT", parameters: Mapping[str, Value]) -> "SpecT":
    """Return nested dataclasses with the values at the paths replaced; their own checks run anew."""
    nested: dict[str, dict[str, Value]] = {}
    for path, value in parameters.items():
        head, _, rest = path.partition(".")
        nested.setdefault(head, {})[rest] = value
    changes: dict[str, Any] = {}
    names = {field.name for field in dataclasses.fields(spec)}
    for head, inner in nested.items():
        below = getattr(spec, head) if head in names else None
        if head in names and "" in inner:
            changes[head] = inner[""]
        elif dataclasses.is_dataclass(below) and not isinstance(below, type):
            changes[head] = apply(below, inner)
        elif HYPERPARAMETERS in names and "" in inner:
            changes.setdefault(HYPERPARAMETERS, dict(getattr(spec, HYPERPARAMETERS)))[head] = inner[""]
        else:
            key = f"{head}.{next(iter(inner))}".rstrip(".")
            raise BadInputError(
                f"{type(spec).__name__} has no key {key!r}: it has {', '.join(sorted(names))}"
            )
    return dataclasses.replace(spec, **changes)


def space_hash(space: SearchSpace) -> str:
    """Return the SHA-256 of a space; the order of its parameters does not matter, that of choices does."""
    return hash_object({each.path: [dataclasses.asdict(each.domain), each.when] for each in space.parameters})


def narrow(space: SearchSpace, fixed: Mapping[str, Sequence[Value]]) -> SearchSpace:
    """Restrict parameters to the values given, add missing ones, drop children that can never be active."""
    parsed = {path: parse_choices(path, list(values)) for path, values in fixed.items()}
    kept: dict[str, Parameter] = {}
    for parameter in space.parameters:
        when = []
        for path, values in parameter.when:
            parent = kept[path].domain if path in kept else Choices(())
            allowed = parent.values if isinstance(parent, Choices) else ()
            when.append((path, tuple(value for value in values if value in allowed)))
        if all(values for _, values in when):
            domain = parsed.pop(parameter.path, parameter.domain)
            kept[parameter.path] = Parameter(parameter.path, domain, tuple(when))
    gone = {parameter.path for parameter in space.parameters} - kept.keys()
    added = (Parameter(path, domain) for path, domain in parsed.items() if path not in gone)
    return SearchSpace((*kept.values(), *added))


def grid(space: SearchSpace) -> list[dict[str, Value]]:
    """Return every combination of a space of choices, the last parameter changing fastest."""
    combinations: list[dict[str, Value]] = [{}]
    for parameter in space.parameters:
        if not isinstance(parameter.domain, Choices):
            raise refusal(parameter.path, "is a range, and a grid needs a list of choices: write [a, b, ...]")
        combinations = [
            combination | extension
            for combination in combinations
            for extension in _extensions(parameter.path, parameter.domain, _is_active(parameter, combination))
        ]
    return combinations


def lint_space(space: SearchSpace, spec: object, searchable: Callable[[str], str | None]) -> None:
    """Refuse a space that tunes the exam, names a wrong key, has a wrong type or leaves the default outside.

    searchable(path) returns why a path may not be searched, or None.
    """
    for parameter in space.parameters:
        path = parameter.path
        if _is_exam(path):
            raise refusal(
                path, "may not be searched: a space may not tune the exam; remove it from the space"
            )
        owner, name = _owner(spec, path), path.rpartition(".")[2]
        hyperparameters = getattr(owner, HYPERPARAMETERS, None)
        is_field = dataclasses.is_dataclass(owner) and name in {
            field.name for field in dataclasses.fields(owner)
        }
        if owner is None or not (is_field or isinstance(hyperparameters, dict)):
            raise _unknown(spec, path)
        if reason := searchable(path):
            raise refusal(path, f"may not be searched: {reason}")
        if is_field:
            _check_type(parameter, get_type_hints(type(owner))[name])
            _check_offers(parameter, owner, name)
            _check_default(parameter, getattr(owner, name))
        elif isinstance(hyperparameters, dict):
            _check_default(parameter, hyperparameters.get(name))


def _check_offers(parameter: Parameter, owner: Any, name: str) -> None:
    """Refuse a value that the configuration would refuse in the first trial that draws it."""
    domain = parameter.domain
    for value in domain.values if isinstance(domain, Choices) else (domain.low, domain.high):
        try:
            dataclasses.replace(owner, **{name: value})
        except BadInputError as error:
            raise refusal(parameter.path, f"offers {value!r}: {error}") from None


def _is_active(parameter: Parameter, values: Mapping[str, Value]) -> bool:
    return all(path in values and values[path] in allowed for path, allowed in parameter.when)


def _extensions(path: str, domain: Choices, active: bool) -> list[dict[str, Value]]:
    return [{path: value} for value in domain.values] if active else [{}]


def _is_exam(path: str) -> bool:
    group = path.partition(".")[0]
    return group in EXAM_GROUPS or path in EXAM_KEYS or (group == "data" and path != "data.timeframe")


def _owner(spec: object, path: str) -> object | None:
    """Return the dataclass that holds the last part of path, or None."""
    for part in path.split(".")[:-1]:
        spec = getattr(spec, part, None) if dataclasses.is_dataclass(spec) else None
    return spec


def _unknown(spec: object, path: str) -> BadInputError:
    known = list(_keys(spec, ""))
    close = difflib.get_close_matches(path, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"allowed are such as {', '.join(known[:3])}"
    return refusal(path, f"names no key of the configuration: {hint}")


def _keys(spec: object, prefix: str) -> Iterator[str]:
    if not dataclasses.is_dataclass(spec):
        return
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            yield from _keys(value, f"{prefix}{field.name}.")
        elif field.name == HYPERPARAMETERS and isinstance(value, dict):
            yield from (f"{prefix}{key}" for key in value)
        elif not _is_exam(f"{prefix}{field.name}"):
            yield f"{prefix}{field.name}"


def _check_type(parameter: Parameter, annotation: Any) -> None:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    domain = parameter.domain
    if any(get_origin(kind) is list for kind in kinds):
        _check_lists(parameter)
        return
    values = domain.values if isinstance(domain, Choices) else (domain.low, domain.high)
    for value in values:
        if type(value) not in kinds and not (type(value) is int and float in kinds):
            allowed = " | ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
            raise refusal(parameter.path, f"would be {value!r}, but this key takes {allowed}")


def _check_lists(parameter: Parameter) -> None:
    """Refuse a range, or single values, for a key that takes a list."""
    domain = parameter.domain
    if isinstance(domain, Choices) and all(isinstance(value, list) for value in domain.values):
        return
    came = f"the choice {domain.values[0]!r}" if isinstance(domain, Choices) else "a range"
    name = parameter.path.rpartition(".")[2]
    raise refusal(
        parameter.path,
        f"offers {came}, but this key takes a list: write choices that are lists, as in "
        f"{name}: [[a], [a, b]]",
    )


def _check_default(parameter: Parameter, default: Any) -> None:
    path, domain = parameter.path, parameter.domain
    if default is None:
        return
    if isinstance(domain, Choices):
        inside, allowed = default in domain.values, f"choices {list(domain.values)}"
    else:
        number = isinstance(default, int | float) and not isinstance(default, bool)
        inside, allowed = (
            number and domain.low <= default <= domain.high,
            f"range {domain.low}..{domain.high}",
        )
    if not inside:
        raise BadInputError(
            f"{path}={default!r}, the configured default, is outside its {allowed}: "
            f"widen space.{path} or set {path}"
        )
