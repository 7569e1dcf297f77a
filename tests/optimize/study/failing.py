"""Trainings that fail in this process, and what is reported about them."""

from collections.abc import Callable

import pytest

from optimize.agents.train import train as train_agent
from optimize.study import trial as trial_module
from optimize.study.claims.failures import FailureReport, failure_report
from optimize.study.claims.judgement import Policy
from optimize.study.handle import Handle


def trainer(monkeypatch: pytest.MonkeyPatch, errors: Callable[[int], Exception | None]) -> list[int]:
    """Let the n-th training raise what `errors(n)` says; return the list of trainings."""
    calls: list[int] = []

    def train(*args: object, **options: object) -> object:
        calls.append(len(calls))
        if (error := errors(calls[-1])) is not None:
            raise error
        return train_agent(*args, **options)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(trial_module, "train", train)
    return calls


def report_of(handle: Handle) -> FailureReport:
    with handle.engine.connect() as conn:
        return failure_report(conn, handle.spec.name, handle.spec.n_trials, Policy())
