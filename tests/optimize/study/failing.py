"""Trainings that fail in this process, and the reports about them."""

import contextlib
import io
from collections.abc import Callable

import pytest

from optimize.agents.sb3.train import train as train_agent
from optimize.cli.status import status
from optimize.schemas.records import StatusConfig
from optimize.study.context import StudyContext
from optimize.study.failures.policy import FailurePolicy
from optimize.study.failures.report import FailureReport, failure_report
from optimize.walkforward import run as trial_module


def trainer(monkeypatch: pytest.MonkeyPatch, errors: Callable[[int], Exception | None]) -> list[int]:
    """Let the n-th training raise `errors(n)`; return the list of trainings."""
    calls: list[int] = []

    def train(*args: object, **options: object) -> object:
        calls.append(len(calls))
        if (error := errors(calls[-1])) is not None:
            raise error
        return train_agent(*args, **options)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(trial_module, "train", train)
    return calls


def report_of(context: StudyContext) -> FailureReport:
    with context.engine.connect() as conn:
        return failure_report(conn, context.spec.name, context.spec.n_trials, FailurePolicy())


def status_of(context: StudyContext) -> str:
    """Return the output of `walkforge status`, without and with failures=true."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for failures in (False, True):
            status(StatusConfig(name="small", failures=failures, database=context.spec.database))
    return said.getvalue()
