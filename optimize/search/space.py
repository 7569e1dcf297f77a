"""Use a search space: suggest, apply, narrow, lint; a leaf's path is parameter name and config key."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

from optuna.trial import BaseTrial

from envs.fields import UNSET, Key, groups_of, keys_of, open_field, open_keys
from envs.plain import from_plain, to_plain
from optimize.errors import BadInputError, nearest
from optimize.hashing import hash_object
from optimize.search.parse import (
    Choices,
    Parameter,
    Range,
    Scalar,
    SearchSpace,
    Value,
    invalid,
    parse_choices,
    parse_space,
    read_value,
    stored_value,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    DataclassT = TypeVar("DataclassT", bound=DataclassInstance)

__all__ = [
    "Choices",
    "Parameter",
    "Range",
    "Scalar",
    "SearchSpace",
    "Value",
    "apply",
    "configured_value",
    "expand",
    "grid",
    "lint_space",
    "narrow",
    "offered_values",
    "parse_space",
    "space_hash",
    "suggest",
]


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


def expand(space: SearchSpace, values: Mapping[str, Value]) -> dict[str, Any]:
    """Return values with each choice of a config group replaced by the keys of the chosen file."""
    options = {each.path: each.options for each in space.parameters if each.options}
    return {path: options[path][str(value)] if path in options else value for path, value in values.items()}


def apply(spec: "DataclassT", parameters: Mapping[str, Any]) -> "DataclassT":
    """Return nested dataclasses with the values at the paths replaced; their own checks run anew.

    The keys of a chosen file replace a group as a whole; values below the group are set after them.
    """
    nested: dict[str, dict[str, Any]] = {}
    for path, value in parameters.items():
        head, _, rest = path.partition(".")
        nested.setdefault(head, {})[rest] = value
    changes: dict[str, Any] = {}
    opened = open_field(spec)
    names = {field.name for field in dataclasses.fields(spec) if field is not opened}
    for head, inner in nested.items():
        below = getattr(spec, head) if head in names else None
        if dataclasses.is_dataclass(below) and not isinstance(below, type) and "" in inner:
            chosen = from_plain(type(below), inner.pop(""), stored=False)
            changes[head] = apply(chosen, inner)
        elif head in names and "" in inner:
            changes[head] = inner[""]
        elif dataclasses.is_dataclass(below) and not isinstance(below, type):
            changes[head] = apply(below, inner)
        elif opened is not None and head != opened.name and "" in inner:
            changes.setdefault(opened.name, dict(getattr(spec, opened.name)))[head] = inner[""]
        else:
            key = f"{head}.{next(iter(inner))}".rstrip(".")
            raise BadInputError(
                f"{type(spec).__name__} has no key {key!r}: it has {', '.join(sorted(names))}"
            )
    return dataclasses.replace(spec, **changes)


def configured_value(spec: Any, path: str) -> Any:
    """Return the value of a key, its declared default where an open key is not set."""
    head, _, rest = path.partition(".")
    if rest:
        return configured_value(getattr(spec, head), rest)
    opened = open_field(spec)
    if opened is not None and head not in {field.name for field in dataclasses.fields(spec)}:
        return getattr(spec, opened.name).get(head, open_keys(spec)[head].default)
    return getattr(spec, head)


def space_hash(space: SearchSpace) -> str:
    """Return the SHA-256 of a space; the order of its parameters does not matter, that of choices does."""
    parts: dict[str, list[Any]] = {
        each.path: [dataclasses.asdict(each.domain), each.when] for each in space.parameters
    }
    for each in space.parameters:
        if each.options:
            parts[each.path].append(each.options)
    return hash_object(parts)


def offered_values(space: SearchSpace, path: str) -> list[Any]:
    """Return all values that a space offers for a key, by choices of its own or by files of its group."""
    group, _, name = path.rpartition(".")
    found: list[Any] = []
    for each in space.parameters:
        if each.path == path and isinstance(each.domain, Choices):
            found += each.domain.values
        elif each.path == group:
            found += [option[name] for option in each.options.values() if name in option]
    return found


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
            kept[parameter.path] = Parameter(parameter.path, domain, tuple(when), parameter.options)
    gone = {parameter.path for parameter in space.parameters} - kept.keys()
    added = (Parameter(path, domain) for path, domain in parsed.items() if path not in gone)
    return SearchSpace((*kept.values(), *added))


def grid(space: SearchSpace) -> list[dict[str, Value]]:
    """Return every combination of a space of choices, the last parameter changing fastest."""
    combinations: list[dict[str, Value]] = [{}]
    for parameter in space.parameters:
        if not isinstance(parameter.domain, Choices):
            raise invalid(parameter.path, "is a range, and a grid needs a list of choices: write [a, b, ...]")
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
    kind = type(spec)
    keys = keys_of(kind)
    fixed = {path: found.fixed for path, found in groups_of(kind).items()}
    for parameter in space.parameters:
        path = parameter.path
        if parameter.options and path in fixed and not fixed[path]:
            alone = {each.path.removeprefix(f"{path}.") for each in space.parameters}
            _check_options(parameter, getattr(spec, path), keys, alone)
            continue
        group, _, name = path.rpartition(".")
        owner = _at(spec, group)
        opened = None if owner is None else open_field(owner)
        key = keys.get(path)
        if reason := fixed.get(path) or fixed.get(group) if key is None else key.unsearchable:
            raise invalid(path, f"may not be searched: {reason}")
        if owner is None or (key is None and (opened is None or name == opened.name)):
            raise _unknown(keys, fixed, parameter)
        if reason := searchable(path):
            raise invalid(path, f"may not be searched: {reason}")
        if key is None or (opened is not None and name in open_keys(owner)):  # checked with its spec
            default = getattr(owner, opened.name).get(name) if opened is not None else None
            _check_default(parameter, key.default if default is None and key is not None else default)
        else:
            _check_type(parameter, key.kind)
            _check_offers(parameter, owner, name)
            _check_default(parameter, getattr(owner, name))


def _check_options(parameter: Parameter, owner: Any, keys: Mapping[str, Key], alone: Set[str]) -> None:
    """Refuse a file that sets an unsearchable key or an invalid value, and a default that no file sets.

    Keys that the space searches alone replace those of every file, as the lookback of phase 2 does.
    """
    path, configured = parameter.path, []
    for choice, values in parameter.options.items():
        try:
            offered = from_plain(type(owner), values, stored=False)
        except BadInputError as error:
            raise invalid(path, f"offers {choice!r}: {error}") from None
        before, after = to_plain(owner), to_plain(offered)
        names = before.keys() | after.keys()
        configured.append(all(before.get(name) == after.get(name) for name in names - alone))
        for name in names:
            reason = key.unsearchable if (key := keys.get(f"{path}.{name}")) else None
            if reason and before.get(name) != after.get(name):
                raise invalid(path, f"may not offer {choice!r}, which sets {path}.{name}: {reason}")
    if not any(configured):
        raise BadInputError(
            f"{path}, as it is configured, is not one of {', '.join(parameter.options)}: "
            f"add its file to space.{path} or choose {path}={next(iter(parameter.options))}"
        )


def _check_offers(parameter: Parameter, owner: Any, name: str) -> None:
    """Refuse a value that the configuration would refuse in the first trial that draws it."""
    domain = parameter.domain
    for value in domain.values if isinstance(domain, Choices) else (domain.low, domain.high):
        try:
            dataclasses.replace(owner, **{name: value})
        except BadInputError as error:
            raise invalid(parameter.path, f"offers {value!r}: {error}") from None


def _is_active(parameter: Parameter, values: Mapping[str, Value]) -> bool:
    return all(path in values and values[path] in allowed for path, allowed in parameter.when)


def _extensions(path: str, domain: Choices, active: bool) -> list[dict[str, Value]]:
    return [{path: value} for value in domain.values] if active else [{}]


def _at(spec: object, group: str) -> Any:
    """Return the spec that holds the keys of a group, or None."""
    for part in group.split(".") if group else ():
        spec = getattr(spec, part, None)
    return spec if dataclasses.is_dataclass(spec) else None


def _unknown(keys: Mapping[str, Key], groups: Mapping[str, object], parameter: Parameter) -> BadInputError:
    path = parameter.path
    if path in groups:
        return invalid(path, "is a group and no key: write its keys below it, or a list of its files")
    known = [other for other, key in keys.items() if key.unsearchable is None]
    close = nearest(path, known)
    hint = f"did you mean {close[0]}?" if close else f"allowed are such as {', '.join(known[:3])}"
    return invalid(path, f"names no key of the configuration: {hint}")


def _check_type(parameter: Parameter, annotation: Any) -> None:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    domain = parameter.domain
    listed = isinstance(domain, Choices) and all(isinstance(value, list) for value in domain.values)
    if any(get_origin(kind) is list for kind in kinds) and (listed or not set(kinds) & {str, int, float}):
        _check_lists(parameter)
        return
    values = domain.values if isinstance(domain, Choices) else (domain.low, domain.high)
    plain = {get_origin(kind) or kind for kind in kinds}
    for value in values:
        if type(value) not in plain and not (type(value) is int and float in kinds):
            allowed = " | ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
            raise invalid(parameter.path, f"would be {value!r}, but this key takes {allowed}")


def _check_lists(parameter: Parameter) -> None:
    """Refuse a range, or single values, for a key that takes a list."""
    domain = parameter.domain
    if isinstance(domain, Choices) and all(isinstance(value, list) for value in domain.values):
        return
    single = (
        [value for value in domain.values if not isinstance(value, list)]
        if isinstance(domain, Choices)
        else []
    )
    came = f"the choice {single[0]!r}" if single else "a range"
    name = parameter.path.rpartition(".")[2]
    raise invalid(
        parameter.path,
        f"offers {came}, but this key takes a list: write choices that are lists, as in "
        f"{name}: [[a], [a, b]]",
    )


def _check_default(parameter: Parameter, default: Any) -> None:
    path, domain = parameter.path, parameter.domain
    if default is None or default is UNSET:
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
