"""How a setting is declared: one dataclass field with its role, meaning, unit and range.

Every rule about keys derives from these declarations: the key of the market cache, which settings may
change when a study is resumed, which may be searched, `walkforge explain`, the help of a verb and the
reference page.
"""

import copy
import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeVar

from envs.errors import require

Role = Literal["market", "run", "search", "execution", "secret"]
MARKET: Role = "market"  # decides the arrays of the market
RUN: Role = "run"  # decides the result of a run on that market
SEARCH: Role = "search"  # decides which trials are tried
EXECUTION: Role = "execution"  # decides how far, how fast and where a study runs
SECRET: Role = "secret"  # is neither stored nor shown
CHANGED_ROLES = (EXECUTION, SECRET)
EXAM = "a space may not tune the exam; remove it from the space"
OUTSIDE_TRIALS: dict[Role, str] = {  # why a key of a role may not be searched
    SEARCH: "it decides which trials are tried, and is the same for all of them",
    EXECUTION: "it decides how a study runs, and changes no trial",
    SECRET: "it is a secret, and changes no trial",
}

KIND_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
}

_T = TypeVar("_T")
_KEY = "setting"  # of a field's metadata


class Unset(Enum):
    """The default of a key that has none of its own."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True)
class Setting:
    """The meaning of a key and the values it takes.

    Bounds hold for numbers and, where the key takes a list, for each of its entries; the entries of a mapping
    are checked by the spec itself.
    """

    role: Role
    meaning: str  # one plain sentence
    unit: str = ""
    low: float | None = None  # included
    high: float | None = None  # included
    above: float | None = None  # excluded
    below: float | None = None  # excluded
    excluded: tuple[float, ...] = ()  # numbers within the bounds that are not allowed
    choices: tuple[Any, ...] = ()
    allowed: str = ""  # the range in words, where the bounds alone do not describe it
    null: str = ""  # meaning of null, where the key takes it
    fixed: str | None = None  # reason why the key may not be searched; None: that of its group
    searchable: bool = False  # may be searched although its group may not
    changeable: bool | None = None  # between two launches of a study; None: as its role and group
    stored: Callable[[Any], Any] | None = None  # returns the form of the value that is stored
    before: Any = None  # value in force for a spec that was stored before the key existed

    @property
    def range(self) -> str:
        """Return which values the key takes, in words; empty where any value of its type will do."""
        if self.allowed:
            return self.allowed
        if self.choices:
            words = "one of " + ", ".join(map(str, self.choices))
        elif self.low is not None and self.high is not None:
            words = f"from {_text(self.low)} to {_text(self.high)}"
        else:
            ends = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
            words = " and ".join(f"{word} {_text(end)}" for word, end in ends.items() if end is not None)
        if words and self.unit and not self.choices:
            words += f" ({self.unit})"
        return f"{words}, or null ({self.null})" if words and self.null else words

    def holds(self, value: Any) -> bool:
        """Return whether a value lies in the range; null is left to the type of the key."""
        if value is None:
            return True
        if isinstance(value, Mapping):
            return True
        if isinstance(value, list | tuple):
            return all(self.holds(each) for each in value)
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        within = (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        apart = (self.above is None or value > self.above) and (self.below is None or value < self.below)
        finite = isinstance(value, int) or math.isfinite(value)
        return finite and within and apart and value not in self.excluded


@dataclass(frozen=True)
class Declared:
    """A key that stands under a spec without being a field of it, such as a hyperparameter of an agent."""

    kind: Any  # its type
    default: Any
    setting: Setting


@dataclass(frozen=True)
class Key:
    """One key of a spec type, as the command line, yaml, space and database spell it."""

    path: str
    kind: Any  # its type
    default: Any  # UNSET where it has none
    setting: Setting
    unsearchable: str | None  # reason why it may not be searched
    changeable: bool  # between two launches of a study


def setting(
    default: _T,
    role: Role,
    meaning: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    excluded: tuple[float, ...] = (),
    choices: tuple[Any, ...] = (),
    allowed: str = "",
    null: str = "",
    fixed: str | None = None,
    searchable: bool = False,
    changeable: bool | None = None,
    stored: Callable[[Any], Any] | None = None,
    before: Any = None,
    shown: bool = True,
    open_keys: Callable[[], Mapping[str, Declared]] | None = None,
) -> _T:
    """Declare a field of a spec dataclass; `shown` is whether its repr has it.

    `open_keys` is for a dict whose entries stand directly under the spec: it returns the keys that are known.
    """
    declared = Setting(
        role, meaning, unit, low, high, above, below, excluded, choices, allowed, null, fixed, searchable,
        changeable, stored, before,
    )  # fmt: skip
    metadata = {_KEY: declared, "open_keys": open_keys}
    mutable = isinstance(default, list | dict) or dataclasses.is_dataclass(default)
    if mutable:
        made: Any = dataclasses.field(
            default_factory=lambda: copy.deepcopy(default), metadata=metadata, repr=shown
        )
    else:
        made = dataclasses.field(default=default, metadata=metadata, repr=shown)
    field: _T = made
    return field


def group(
    kind: Callable[[], _T],
    meaning: str,
    *,
    role: Role = RUN,
    fixed: str | None = None,
    changeable: bool | None = None,
) -> _T:
    """Declare a field that holds another spec; `fixed` and `changeable` hold for all of its keys."""
    declared = Setting(role, meaning, fixed=fixed, changeable=changeable)
    made: Any = dataclasses.field(default_factory=kind, metadata={_KEY: declared})
    field: _T = made
    return field


def _text(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def setting_of(field: "dataclasses.Field[Any]") -> Setting:
    """Return the declaration of a field of a spec dataclass."""
    try:
        declared: Setting = field.metadata[_KEY]
    except KeyError:
        raise TypeError(
            f"the field {field.name} declares no setting: write {field.name} = setting(...)"
        ) from None
    return declared


def open_field(kind: Any) -> "dataclasses.Field[Any] | None":
    """Return the field of a spec whose entries stand directly under it, None where it has none."""
    return next((field for field in dataclasses.fields(kind) if field.metadata.get("open_keys")), None)


def open_keys(kind: Any) -> Mapping[str, Declared]:
    """Return the keys that stand under a spec without being fields of it."""
    field = open_field(kind)
    return {} if field is None else field.metadata["open_keys"]()


def keys_of(kind: type, prefix: str = "") -> dict[str, Key]:
    """Return every key of a spec type by its path, in order; groups are not among them.

    `keys_of(StudySpec)["feature.lookback"].setting.meaning` is the meaning of a key.
    """
    return {key.path: key for key in _walk(kind, f"{prefix}." if prefix else "", None, None)}


def groups_of(kind: type, prefix: str = "") -> dict[str, Setting]:
    """Return the declaration of every group of keys by its path, in order."""
    hints, found = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if is_spec(hints[field.name]):
            path = f"{prefix}{field.name}"
            own = setting_of(field)
            found[path] = dataclasses.replace(own, fixed=own.fixed or OUTSIDE_TRIALS.get(own.role))
            found |= groups_of(hints[field.name], f"{path}.")
    return found


def is_spec(kind: Any) -> bool:
    """Return whether a type is a dataclass, and so a group of keys."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _walk(kind: Any, prefix: str, fixed: str | None, changeable: bool | None) -> Iterator[Key]:
    hints = typing.get_type_hints(kind)
    opened = open_field(kind)
    for field in dataclasses.fields(kind):
        own, hint = setting_of(field), hints[field.name]
        reason = fixed if own.fixed is None else own.fixed
        change = changeable if own.changeable is None else own.changeable
        if is_spec(hint):
            yield from _walk(hint, f"{prefix}{field.name}.", reason, change)
        elif field is not opened:
            yield _key(f"{prefix}{field.name}", hint, _default(field), own, reason, change)
    for name, each in open_keys(kind).items():
        inherited = fixed if each.setting.fixed is None else each.setting.fixed
        yield _key(f"{prefix}{name}", each.kind, each.default, each.setting, inherited, changeable)


def _key(
    path: str, kind: Any, default: Any, own: Setting, reason: str | None, changeable: bool | None
) -> Key:
    """Return a key with the rules that its own declaration and its groups come to."""
    if own.searchable:
        reason = None
    if reason is None:
        reason = OUTSIDE_TRIALS.get(own.role)
    change = own.role in CHANGED_ROLES if changeable is None else changeable
    return Key(path, kind, default, own, reason, change)


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return UNSET if field.default_factory is dataclasses.MISSING else field.default_factory()


def check_ranges(spec: Any, path: str = "", of: Any = None) -> None:
    """Raise BadInputError for the first field of a spec, or of its parent class, outside of its range."""
    above = f"{path}." if path else ""
    for field in dataclasses.fields(of or spec):
        declared = setting_of(field)
        value = getattr(spec, field.name)
        names = declared.choices if isinstance(value, str) else ()
        require(declared.holds(value), f"{above}{field.name}", value, declared.range, names)
