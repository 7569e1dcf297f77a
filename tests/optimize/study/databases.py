"""Small studies on each database in turn, for the tests of this folder and the conformance suites."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from optimize.database import DatabaseSpec, study_lock
from optimize.results import leases
from optimize.results.records import Outcome
from optimize.results.runs import finish_run
from optimize.results.states import RunState
from optimize.study.context import StudyContext
from optimize.study.spec import StudySpec
from optimize.study.trials.claim import Claim
from optimize.study.trials.tell import tell
from tests.optimize.study.studies import OPENED, small_spec

Small = Callable[..., StudySpec]


@pytest.fixture
def small(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Small]:
    """Yield a function that makes the spec of a small study; its engines are closed afterwards."""
    monkeypatch.chdir(tmp_path)  # markets of a server's studies are kept in its databases/market
    yield partial(small_spec, tmp_path, database=DatabaseSpec(url=database_url))
    close_studies()


def close_studies() -> None:
    while OPENED:
        OPENED.pop().close()


def record(context: StudyContext, found: Claim, score: float) -> None:
    """Record a trained trial as a worker does."""
    with context.engine.begin() as conn:
        run = finish_run(conn, found.lease, Outcome(RunState.COMPLETE, 1.0, score=score))
    with study_lock(context.spec.database.url, context.spec.name):
        tell(context, run)
        with context.engine.begin() as conn:
            leases.release(conn, found.lease)
