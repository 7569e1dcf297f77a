"""Specs as plain dicts and lists, as they are stored: keys stand where yaml and commands have them."""

import copy
import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from envs.errors import BadInputError
from envs.fields import SECRET, Role, is_spec, open_field, open_keys, setting_of

SpecT = TypeVar("SpecT")
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML 1.1 reads 1e-4 as text


def to_plain(spec: Any) -> dict[str, Any]:
    """Return a spec as plain dicts and lists, ready for JSON, without its secrets."""
    plain: dict[str, Any] = {}
    opened = open_field(spec)
    for field in dataclasses.fields(spec):
        declared, value = setting_of(field), getattr(spec, field.name)
        if declared.role == SECRET or field is opened:
            continue
        if dataclasses.is_dataclass(value):
            plain[field.name] = to_plain(value)
        else:
            plain[field.name] = copy.deepcopy(value) if declared.stored is None else declared.stored(value)
    return plain if opened is None else plain | copy.deepcopy(getattr(spec, opened.name))


def from_plain(kind: type[SpecT], plain: Mapping[str, Any], *, stored: bool = True) -> SpecT:
    """Rebuild a spec from its plain form; unknown keys are refused.

    A key that an older version did not have is at its default; where the default changes results, a stored
    spec has the value that was in force before.
    """
    values, hints, opened = {}, typing.get_type_hints(kind), open_field(kind)
    for field in dataclasses.fields(typing.cast(Any, kind)):
        before = setting_of(field).before
        if stored and before is not None:
            values[field.name] = before
        elif stored and is_spec(hints[field.name]) and field.name not in plain:  # a group of later keys
            values[field.name] = from_plain(typing.cast(Any, hints[field.name]), {}, stored=True)
    for key, value in flat_keys(kind, plain).items():
        hint = hints.get(key)
        if hint is None and opened is None:
            raise BadInputError(f"{kind.__name__} has no field {key!r}: it was written by another version")
        if hint is None and opened is not None:
            declared = open_keys(kind).get(key)
            values.setdefault(opened.name, {})[key] = (
                value if declared is None else read(value, declared.kind)
            )
        elif is_spec(hint):
            if not isinstance(value, Mapping):
                raise BadInputError(
                    f"{kind.__name__}.{key}={value!r} is not a mapping: the file was changed by hand"
                )
            values[key] = from_plain(typing.cast(Any, hint), value, stored=stored)
        else:
            values[key] = read(value, hint)
    return kind(**values)


def part_of(spec: Any, role: Role) -> dict[str, Any]:
    """Return the keys of one role as a plain dict."""
    part: dict[str, Any] = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            if inner := part_of(value, role):
                part[field.name] = inner
        elif setting_of(field).role == role:
            part[field.name] = copy.deepcopy(value)
    return part


def flat_keys(kind: Any, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plain spec with every key directly under its owner; version 0.1 nested some in a dict."""
    hints, opened, flat = typing.get_type_hints(kind), open_field(kind), dict[str, Any]()
    for key, value in plain.items():
        if opened is not None and key == opened.name and isinstance(value, Mapping):
            flat |= value
        elif is_spec(hints.get(key)) and isinstance(value, Mapping):
            flat[key] = flat_keys(hints[key], value)
        else:
            flat[key] = value
    return flat


def read(value: Any, kind: Any) -> Any:
    """Return a value as its key takes it: 1e-4 is a number where the key is one, 100.0 a whole number."""
    kinds = {*(typing.get_args(kind) or (kind,))} - {types.NoneType}
    number = value
    if isinstance(value, str) and kinds & {int, float} and EXPONENT.fullmatch(value.strip()):
        number = float(value)
    if kinds == {int} and isinstance(number, float):
        return int(number) if number.is_integer() else value
    return number


def widened(value: Any, kind: Any) -> Any:
    """Return a whole number as a fraction where the key takes fractions alone, any other value as it is."""
    kinds = {*(typing.get_args(kind) or (kind,))}
    return float(value) if type(value) is int and float in kinds and int not in kinds else value
