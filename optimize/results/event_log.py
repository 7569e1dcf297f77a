"""The event log of a study: rows of wf_events, each with a message for people and a record for programs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from sqlalchemy import Connection, insert, select

from optimize import clock
from optimize.results.events import KEY, Event
from optimize.results.rows import where
from optimize.results.tables import EVENTS

E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True)
class Logged(Generic[E_co]):
    """An event of a study as it was logged."""

    study_name: str
    message: str
    event: E_co
    at: datetime


def log_event(conn: Connection, study: str, message: str, event: Event, at: datetime | None = None) -> None:
    """Store an event."""
    row = {
        "study_name": study,
        "at": at or clock.now(),
        "kind": str(event.kind),
        "message": message,
        "detail": detail_of(event),
    }
    conn.execute(insert(EVENTS).values(row))


def events(conn: Connection, study: str, kind: type[E]) -> list[Logged[E]]:
    """Return the events of a kind in a study, oldest first; rows that lack a field are left out."""
    rows = where(EVENTS, study_name=study, kind=str(kind.kind)).order_by(EVENTS.c.event_id)
    read = (_logged(row, (kind,)) for row in conn.execute(rows).mappings())
    return [each for each in read if each is not None]


def last_event(conn: Connection, studies: Iterable[str], kinds: Sequence[type[E]]) -> Logged[E] | None:
    """Return the newest event of these kinds in the studies; None without one or where it lacks a field."""
    names = [str(kind.kind) for kind in kinds]
    newest = select(EVENTS).where(EVENTS.c.study_name.in_(list(studies)), EVENTS.c.kind.in_(names))
    row = conn.execute(newest.order_by(EVENTS.c.event_id.desc()).limit(1)).mappings().one_or_none()
    return None if row is None else _logged(row, kinds)


def detail_of(event: Event) -> dict[str, Any] | None:
    """Return the record of an event as plain data; None for one without fields."""
    return {_key(each): _plain(getattr(event, each.name)) for each in fields(event)} or None


def _logged(row: Mapping[Any, Any], kinds: Sequence[type[E]]) -> Logged[E] | None:
    kind = next(kind for kind in kinds if kind.kind == row[EVENTS.c.kind])
    event = read_event(kind, row[EVENTS.c.detail])
    if event is None:
        return None
    return Logged(row[EVENTS.c.study_name], row[EVENTS.c.message], event, row[EVENTS.c.at])


def read_event(kind: type[E], detail: Mapping[str, Any] | None) -> E | None:
    """Return the event of a stored detail; None where it lacks a field, as one of an older version may."""
    try:
        event: E = _record(kind, detail or {})
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return event


def _record(kind: Any, stored: Mapping[str, Any]) -> Any:
    """Return a dataclass from plain data; KeyError where a field without a default is missing."""
    hints = get_type_hints(kind, vars(sys.modules[kind.__module__]))
    values = {}
    for each in fields(kind):
        if _key(each) in stored:
            values[each.name] = _typed(hints[each.name], stored[_key(each)])
        elif each.default is MISSING and each.default_factory is MISSING:
            raise KeyError(each.name)
    return kind(**values)


def _typed(hint: Any, value: Any) -> Any:
    """Return plain data as a value of a field's type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None:
            return None
        (inner,) = (each for each in arguments if each is not NoneType)
        return _typed(inner, value)
    if origin is tuple:
        inner = arguments[:1] * len(value) if arguments[-1:] == (...,) else arguments
        return tuple(_typed(each, part) for each, part in zip(inner, value, strict=True))
    if is_dataclass(hint):
        return _record(hint, value)
    return hint(value) if isinstance(hint, type) and issubclass(hint, StrEnum) else value


def _plain(value: Any) -> Any:
    """Return a field's value as JSON holds it."""
    if is_dataclass(value):
        return {_key(each): _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, StrEnum) else value


def _key(each: "Field[Any]") -> str:
    return str(each.metadata.get(KEY, each.name))
