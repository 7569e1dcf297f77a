"""Trials that take no time, run in batches, with every kind of end."""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from optimize.evaluate.score import Score
from optimize.evaluate.summary import WindowResult
from optimize.results.records import Outcome
from optimize.results.states import RunState
from optimize.search.spec import PrunerSpec, SamplerSpec
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.trials import execute as perform_module
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import perform
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import Report, TrialResult, WindowKey
from tests.optimize.study.studies import ground_of, never, opened, rows, small_spec

CAP, SIZE = 10, 3
FAILS, INFEASIBLE, RETRIES = 4, 1, 2
BATCHES = WorkerSpec(count=4, mode="batch", batch_size=SIZE)
SPACE = {
    "agent": {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "gamma": {"low": 0.9, "high": 0.999},
        "n_epochs": [1, 2, 4],
    }
}
Lay = Callable[[StudySpec], WindowedMarket]
Told = list[tuple[int, Mapping[str, Any], str, float | None, Mapping[int, float]]]


class KilledError(BaseException):
    """The process ended here."""


def run_trial(
    spec: StudySpec,
    windowed: WindowedMarket,
    entropy: Sequence[int],
    *,
    keep: Callable[..., None],
    report: Report,
    engine: Any = None,
    finished: Mapping[WindowKey, WindowResult] | None = None,
) -> TrialResult:
    """Take no time: score by parameters and number, fail once, ask to be tried again, be infeasible."""
    number = entropy[1]
    if number == FAILS:
        raise RuntimeError("the fourth one fails")
    if number == RETRIES and not retried(spec):
        raise MemoryError
    chance = random.Random(f"{number} {spec.agent.hyperparameters['gamma']}")
    running = 0.0
    for window in range(3):
        running = 1e3 * float(spec.agent.hyperparameters["learning_rate"]) + chance.gauss(0, 1)
        if report(window, running) and window < 2:
            return TrialResult(((),), Score(None, True, None, None, ()), window)
    feasible = number != INFEASIBLE
    score = Score(running, True, None, 0.1, ()) if feasible else Score(None, False, "min_trades", None, ())
    return TrialResult(((),), score, None)


def outcome_of(
    spec: StudySpec, windowed: WindowedMarket, result: TrialResult, seconds: float, *_: object
) -> Outcome:
    """Return the outcome of a trial that has no windows to measure."""
    ended = Outcome(RunState.PRUNED, seconds, standard_error=0.1, metrics={"trades": 1.0})
    if result.pruned_at is not None or not result.score.feasible:
        return dataclasses.replace(ended, reason=result.score.reason)
    return dataclasses.replace(ended, state=RunState.COMPLETE, score=result.score.value)


def take_no_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(perform_module, "run_trial", run_trial)
    patch.setattr(perform_module, "outcome_of", outcome_of)


def retried(spec: StudySpec) -> bool:
    return bool(rows(spec, "SELECT 1 FROM wf_runs WHERE state = 'RETRIED'"))


def batched(folder: Path, name: str, **changes: Any) -> tuple[StudyContext, Lay]:
    """Open a study in batches of which every trial is seen by the sampler and the pruner."""
    defaults = {
        "n_trials": CAP,
        "space": SPACE,
        "sampler": SamplerSpec(n_startup_trials=3),
        "pruner": PrunerSpec(n_startup_trials=3, n_warmup_steps=0, exempt_share=0.0),
        "worker": BATCHES,
    }
    spec = small_spec(folder, name=name, **(defaults | changes))
    context = opened(spec)
    windowed = ground_of(context, spec)
    return context, lambda _: windowed


def told(context: StudyContext) -> Told:
    """Return the sequence of trials."""
    return [
        (trial.number, trial.params, trial.state.name, trial.value, trial.intermediate_values)
        for trial in context.study.get_trials(deepcopy=False)
    ]


def in_turn(context: StudyContext, lay: Lay) -> Told:
    """Run the study with one worker that nothing disturbs."""
    while isinstance(found := claim(context, 0, lay), Claim):
        perform(context, found, never)
    assert found is NoTrial.FULL
    return told(context)
