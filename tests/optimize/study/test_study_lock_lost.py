"""The cap of a study on a server, where the session that holds the study lock may die at any moment."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from optimize.database import DatabaseSpec
from optimize.errors import LockLostError
from optimize.results import runs
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial
from optimize.study.spec import StudySpec
from optimize.study.trials import ask as batch
from optimize.study.trials import claim as caps
from optimize.study.trials.claim import Claim, claim
from optimize.study.workers.process import market_builder
from tests.optimize.study.databases import record
from tests.optimize.study.studies import opened, small_spec, states

pytestmark = pytest.mark.postgres


@pytest.fixture
def spec(tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> StudySpec:
    monkeypatch.chdir(tmp_path)  # markets of a server's studies are kept in its databases/market
    return small_spec(tmp_path, n_trials=1, database=DatabaseSpec(url=postgres))


def end_locks(url: str) -> None:
    held = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    with psycopg.connect(url, autocommit=True) as conn:
        assert conn.execute(held).fetchall()


@pytest.mark.parametrize("queued", [False, True])
def test_nobody_asks_beyond_the_cap_without_the_lock(
    spec: StudySpec, monkeypatch: pytest.MonkeyPatch, queued: bool
) -> None:
    one, other = opened(spec), opened(spec)
    if queued:
        for rate in (1e-3, 2e-3):
            one.study.enqueue_trial({"agent.learning_rate": rate})
    real, found = batch.ask_next, list[Any]()

    def ask(context: StudyContext, *arguments: Any) -> Any:
        if context is one and not found:
            end_locks(spec.database.url)
            with monkeypatch.context() as patch:  # the other worker is another process
                patch.setattr("optimize.database.postgresql._held", type("Held", (), {})())
                found.append(claim(other, 1, market_builder(other)))
        return real(context, *arguments)

    monkeypatch.setattr(batch, "ask_next", ask)
    with pytest.raises(LockLostError):
        claim(one, 0, market_builder(one))
    assert isinstance(found[0], Claim)
    assert states(one)["RUNNING"] == 1
    assert claim(one, 0, market_builder(one)) is NoTrial.WAIT
    record(other, found[0], 1.0)
    assert claim(one, 0, market_builder(one)) is NoTrial.FULL


def test_what_was_handed_out_stands_though_the_lock_is_gone_at_its_end(
    spec: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(spec)

    def start_run(*arguments: Any) -> Any:
        end_locks(spec.database.url)
        return runs.start_run(*arguments)

    monkeypatch.setattr(caps, "start_run", start_run)
    found = claim(context, 0, market_builder(context))
    assert isinstance(found, Claim)
    record(context, found, 1.5)
    assert context.study.best_value == 1.5
