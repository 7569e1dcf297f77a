"""The leaves of a search space: the ranges and choices that a YAML tree may state."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from envs.fields import Key
from envs.plain import read
from optimize.errors import BadInputError

Scalar = bool | int | float | str | None
Value = Scalar | list[Scalar]  # of a parameter: a list where its key takes one, such as feature.indicators
LEAF_MARKS = frozenset({"low", "high", "choices", "when"})
RANGE_KEYS = ("low", "high", "step", "log", "when")
CHOICE_KEYS = ("choices", "when", "options")


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; whole numbers when integer (step is then at least 1)."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Choices:
    """Distinct values in order: scalars, or lists of scalars."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Parameter:
    """One leaf; it is active while every parameter named in `when` has one of the values listed there.

    The choices of a leaf that names a config group are files of the group, whose keys stand in `options`.
    """

    path: str
    domain: Range | Choices
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of a study, parents before children."""

    parameters: tuple[Parameter, ...]


def parse_space(tree: Mapping[str, Any]) -> SearchSpace:
    """Read a tree of leaves: a list, `choices`, or `low/high[/step/log]`, each with an optional `when`.

    The parameters have the order of the tree, except that a parent precedes its children.
    """
    leaves: dict[str, Any] = {}
    for path, leaf in _leaves(tree, ""):
        if path in leaves:
            raise invalid(path, "is defined twice: keep one")
        leaves[path] = leaf
    parameters: dict[str, Parameter] = {}
    while waiting := [path for path in leaves if path not in parameters]:
        for path in waiting:
            if all(parent in parameters for parent in _parents(path, leaves)):
                parameters[path] = _parse_leaf(path, leaves[path], parameters)
        if waiting == [path for path in leaves if path not in parameters]:
            names = ", ".join(waiting)
            raise invalid(f"{waiting[0]}.when", f"is in a circle of conditions among {names}: drop one")
    return SearchSpace(tuple(parameters.values()))


def in_order_of(space: SearchSpace, first: SearchSpace) -> SearchSpace:
    """Return a space with its parameters in the order of another one, those it lacks last."""
    place = {each.path: index for index, each in enumerate(first.parameters)}
    last = len(place)
    return SearchSpace(tuple(sorted(space.parameters, key=lambda each: place.get(each.path, last))))


def read_space(tree: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return a tree of leaves with text such as 1e-4 as a number, where the key of the leaf takes a float."""

    def numbers(node: Any, kind: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: inner if key == "when" else numbers(inner, kind) for key, inner in node.items()}
        return [numbers(inner, kind) for inner in node] if isinstance(node, list) else read(node, kind)

    def branch(node: Any, path: str) -> Any:
        if path in keys:
            return numbers(node, keys[path].kind)
        if not isinstance(node, Mapping) or LEAF_MARKS & node.keys():
            return node
        return {key: branch(inner, f"{path}.{key}" if path else str(key)) for key, inner in node.items()}

    return dict(branch(tree, ""))


def stored_value(value: Value) -> Scalar:
    """Return a value as Optuna stores it: a list as its JSON text, such as `["rsi", "adx"]`."""
    return json.dumps(value) if isinstance(value, list) else value


def read_value(domain: Choices, stored: Scalar) -> Value:
    """Return the choice that is stored as this."""
    return next((value for value in domain.values if stored_value(value) == stored), stored)


def invalid(path: str, problem: str) -> BadInputError:
    """Return the error of one leaf."""
    return BadInputError(f"space.{path} {problem}")


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, Mapping):
        raise BadInputError(f"space={tree!r} is not a tree: write key: {{low: a, high: b}} or key: [a, b]")
    for key, node in tree.items():
        path = f"{prefix}{key}"
        if isinstance(node, Mapping) and not LEAF_MARKS & node.keys():
            yield from _leaves(node, f"{path}.")
        elif node is not None:
            yield path, node


def _parents(path: str, leaves: Mapping[str, Any]) -> list[str]:
    """Return the paths that the conditions of a leaf name; refuse one that is no leaf."""
    leaf = leaves[path]
    when = leaf.get("when") if isinstance(leaf, Mapping) else None
    if not isinstance(when, Mapping):
        return []
    for parent in when:
        if parent not in leaves:
            known = ", ".join(leaves)
            raise invalid(f"{path}.when", f"names {parent!r}, no parameter of the space: it has {known}")
    return list(when)


def _parse_leaf(path: str, leaf: Any, earlier: Mapping[str, Parameter]) -> Parameter:
    if isinstance(leaf, list | tuple):
        return Parameter(path, parse_choices(path, leaf))
    if not isinstance(leaf, Mapping):
        raise invalid(path, f"is {leaf!r}: write a list of choices or {{low: a, high: b}}")
    allowed = CHOICE_KEYS if "choices" in leaf else RANGE_KEYS
    for key in leaf:
        if key not in allowed:
            raise invalid(f"{path}.{key}", f"is not known here: a leaf takes {', '.join(allowed)}")
    domain = parse_choices(path, leaf["choices"]) if "choices" in leaf else _parse_range(path, leaf)
    options = leaf.get("options") or {}
    if options and (not isinstance(domain, Choices) or {*options} != {*map(str, domain.values)}):
        raise invalid(f"{path}.options", f"has the keys of {', '.join(options)}: write those of each choice")
    return Parameter(path, domain, _parse_when(path, leaf.get("when") or {}, earlier), options)


def parse_choices(path: str, values: Any) -> Choices:
    """Read a list of distinct choices, each a scalar or a list of scalars."""
    if not isinstance(values, list | tuple) or not values:
        raise invalid(path, f"has choices {values!r}: write a list of at least one value")
    read: list[Value] = []
    for choice in values:
        value: Value = list(choice) if isinstance(choice, list | tuple) else choice
        if not all(map(_is_scalar, value if isinstance(value, list) else [value])):
            raise invalid(
                path,
                f"has the choice {choice!r}: allowed are finite numbers, text, true, false, null, or lists "
                "of these",
            )
        if value in read:
            raise invalid(path, f"has the choice {choice!r} twice: keep one")
        read.append(value)
    return Choices(tuple(read))


def _is_scalar(value: object) -> bool:
    """Return whether a value is one that a choice may be: no nested list, no mapping, no infinity."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)


def _parse_range(path: str, leaf: Mapping[str, Any]) -> Range:
    low, high = _number(path, leaf, "low"), _number(path, leaf, "high")
    step = None if leaf.get("step") is None else _number(path, leaf, "step")
    log = leaf.get("log", False)
    if not isinstance(log, bool):
        raise invalid(f"{path}.log", f"is {log!r}: write true or false")
    if low >= high:
        raise invalid(path, f"is the empty range {low}..{high}: low must be below high; null drops the leaf")
    if log and low <= 0:
        raise invalid(path, f"has low {low} on a log scale: low must be > 0, or log false")
    if step is not None and step <= 0:
        raise invalid(path, f"has step {step}: it must be > 0")
    integer = all(isinstance(value, int) for value in (low, high, step) if value is not None)
    if log and step is not None and not (integer and step == 1):
        raise invalid(path, "has both log and step: keep one")
    if step is not None and (rest := (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step))):
        reachable = Decimal(str(high)) - rest
        raise invalid(path, f"never reaches high {high} in steps of {step} from {low}: set high {reachable}")
    if integer:
        return Range(low, high, step or 1, log, integer=True)
    return Range(float(low), float(high), None if step is None else float(step), log)


def _number(path: str, leaf: Mapping[str, Any], key: str) -> int | float:
    value = read(leaf.get(key), float)
    if isinstance(value, str):
        raise invalid(f"{path}.{key}", f"is the text {value!r}: write a number, such as 1.0e-5")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise invalid(f"{path}.{key}", f"is {value!r}: a range needs finite numbers low and high")
    return value


def _parse_when(
    path: str, when: Any, earlier: Mapping[str, Parameter]
) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    if not isinstance(when, Mapping):
        raise invalid(f"{path}.when", f"is {when!r}: write {{path: [values]}}")
    conditions = []
    for parent, listed in when.items():
        domain = earlier[parent].domain
        if not isinstance(domain, Choices):
            raise invalid(f"{path}.when", f"names the range {parent}: a parent must be a list of choices")
        values = parse_choices(f"{path}.when", listed).values
        if wrong := [value for value in values if value not in domain.values]:
            raise invalid(f"{path}.when", f"lists {wrong[0]!r}, no choice of {parent}: {list(domain.values)}")
        conditions.append((parent, values))
    return tuple(conditions)
