"""One torch thread, as a worker has."""

import pytest

from optimize.agents.threads import limit_threads


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    limit_threads(1)
