"""Settings that an evaluation may change: the fields of a bundle's spec, all of them optional."""

import dataclasses
import typing
from typing import Any, TypeVar

Spec = TypeVar("Spec")


def changes_of(kind: type) -> type:
    """Return a frozen dataclass with a spec's plain fields, each None by default: as in the bundle."""
    hints = typing.get_type_hints(kind)
    plain = [part.name for part in dataclasses.fields(kind) if not dataclasses.is_dataclass(hints[part.name])]
    fields = [(name, typing.Optional[hints[name]], dataclasses.field(default=None)) for name in plain]  # noqa: UP045
    return dataclasses.make_dataclass(f"{kind.__name__}Changes", fields, frozen=True)


def changed(spec: Spec, changes: Any) -> Spec:
    """Return the spec with every given field replaced; None and an empty list or map keep its value."""
    stated = {part.name: getattr(changes, part.name) for part in dataclasses.fields(changes)}
    for name, value in stated.items():
        if isinstance(value, dict):
            stated[name] = {key: part for key, part in value.items() if part is not None}
    kept = {name: value for name, value in stated.items() if value not in (None, [], {})}
    return dataclasses.replace(spec, **kept)  # type: ignore[type-var]  # a TypeVar cannot ask for a dataclass
