"""Schedules of exchanges, which take most of the time of these tests, are built once for all of them."""

from collections.abc import Iterator
from functools import lru_cache

import pytest

from optimize.data import sessions
from optimize.data.calendars.exchanges import exchange_schedule

SCHEDULE = lru_cache(maxsize=None)(exchange_schedule.__wrapped__)


@pytest.fixture(autouse=True, scope="session")
def schedules_kept() -> Iterator[None]:
    """Keep every schedule; a study keeps 32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "exchange_schedule", SCHEDULE)
        yield
