"""Column types that read the same in every database: JSON, times, days, odd text, finite numbers."""

import json
import math
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Dialect, Float, String, Text
from sqlalchemy.types import TypeDecorator


class JsonText(TypeDecorator[Any]):
    """Plain objects as JSON text; NaN and infinity are stored as null.

    The keys of mappings are sorted, except with keep_order: the order of a search space is that of its draws.
    """

    impl = Text
    cache_ok = True

    def __init__(self, *, keep_order: bool = False) -> None:
        super().__init__()
        self.keep_order = keep_order

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return the text to store."""
        if value is None:
            return None
        return json.dumps(_finite(value), sort_keys=not self.keep_order, allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Return the object that was stored."""
        return None if value is None else json.loads(value)


class UtcText(TypeDecorator[datetime]):
    """An aware datetime as ISO 8601 text in UTC, of one width so that text order is time order."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Return the text to store; a naive datetime is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a timestamp must carry its time zone, got naive {value.isoformat()}")
        return value.astimezone(UTC).isoformat(timespec="milliseconds")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Return the aware datetime that was stored."""
        return None if value is None else datetime.fromisoformat(value)


class DayText(TypeDecorator[date]):
    """A day as ISO 8601 text, which reads the same in every database."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: date | None, dialect: Dialect) -> str | None:
        """Return the text to store."""
        return None if value is None else value.isoformat()

    def process_result_value(self, value: str | None, dialect: Dialect) -> date | None:
        """Return the day that was stored."""
        return None if value is None else date.fromisoformat(value)


class AnyText(TypeDecorator[str]):
    """Text of any origin; characters that no database can hold, such as NUL, are escaped."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text to store."""
        if value is None:
            return None
        return value.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


class StateText(TypeDecorator[StrEnum]):
    """A member of an enumeration of texts."""

    impl = Text
    cache_ok = True

    def __init__(self, states: type[StrEnum]) -> None:
        super().__init__()
        self.states = states

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        """Return the text to store; ValueError for a value that is not a member."""
        return None if value is None else self.states(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        """Return the member that was stored."""
        return None if value is None else self.states(value)


class FiniteFloat(TypeDecorator[float]):
    """A number; NaN and infinity are stored as NULL, which every database orders and averages alike."""

    impl = Float
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """Return the number to store."""
        return None if value is None or not math.isfinite(value) else float(value)


def _finite(value: Any) -> Any:
    """Return the object with every NaN and infinity replaced by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value
