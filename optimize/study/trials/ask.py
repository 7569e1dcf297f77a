"""Ask for trials: one when a worker is free, or in batch mode a whole batch before any of it runs.

A batch is asked for when every earlier trial has ended, under one lock; its trials are drawn in the order of
their numbers from the seed, the earlier batches, and the parameters of its own trials before them. So nothing
that a trial tries depends on who runs it, or when, or after which crash.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from optuna.trial import FrozenTrial, TrialState

from optimize.database import lock_trials
from optimize.errors import LockLostError
from optimize.search.parse import Scalar
from optimize.search.proposals import store
from optimize.search.pruners import BATCH
from optimize.search.storage import CAP_STATES
from optimize.study.context import StudyContext
from optimize.study.spec import StudySpec
from optimize.study.trials.close import is_closed
from optimize.study.trials.tell import in_batches

REPETITION = "repetition"
BLIND = ("random", "qmc")  # samplers that look at no other trial


class Census:
    """The trials of a study with their counts by state, read once for a claim."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        self.trials = trials  # the index of a trial is its number
        states = [trial.state for trial in trials]
        self._of = {state: states.count(state) for state in TrialState}
        self._closed = sum(map(is_closed, trials)) if self._of[TrialState.FAIL] else 0
        live = self._of[TrialState.RUNNING]
        self.running = {n for n, state in enumerate(states) if state is TrialState.RUNNING} if live else set()

    def count(self, *states: TrialState) -> int:
        """Return how many trials are in one of the states."""
        return sum(self._of[state] for state in states)

    @property
    def failed(self) -> int:
        """Return how many trials failed, without those that a lowered cap closed."""
        return self._of[TrialState.FAIL] - self._closed

    @property
    def counted(self) -> int:
        """Return how many trials count in the cap."""
        return self.count(*CAP_STATES)


def ask_next(context: StudyContext, census: Census, cap: int) -> list[FrozenTrial]:
    """Add the next trial or the next batch and return all trials; needs the study lock."""
    if waiting := census.count(TrialState.WAITING):  # starting points, and trials queued by hand
        size = context.spec.worker.batch_size if in_batches(context) else 1
        for _ in range(min(waiting, size, cap - census.counted)):
            with _adding(context, cap):
                context.study.ask()
        return context.study.get_trials(deepcopy=False)
    if not in_batches(context):
        return _ask(context, census.trials, 1, cap)
    size = min(context.spec.worker.batch_size, cap - census.counted)
    return _ask(context, census.trials, size, cap, [len(census.trials), size])


def complete_batch(context: StudyContext, census: Census, cap: int) -> list[FrozenTrial]:
    """Add the missing trials of the last batch, whose process was killed; return all trials."""
    trials = census.trials
    if not trials or not in_batches(context):
        return trials
    first, size = trials[-1].user_attrs.get(BATCH, (len(trials), 0))
    missing = min(first + size - len(trials), cap - census.counted)
    return _ask(context, trials, missing, cap, [first, size]) if missing > 0 else trials


def _ask(
    context: StudyContext, trials: Sequence[FrozenTrial], count: int, cap: int, batch: list[int] | None = None
) -> list[FrozenTrial]:
    asked = list(trials)
    for _ in range(count):
        drawn = context.proposals.draw(asked)
        attributes: dict[str, object] = {REPETITION: repetition(drawn.number, drawn.params, asked)}
        attributes |= {BATCH: batch} if batch else {}
        with _adding(context, cap, drawn.number):
            asked.append(store(context.storage, context.spec.name, drawn, attributes))
    return asked


@contextmanager
def _adding(context: StudyContext, cap: int, number: int | None = None) -> Iterator[None]:
    """Keep the cap exact while a trial is added, even if the study lock was lost since the trials were read.

    On PostgreSQL the study lock belongs to a session, which the server may end at any moment. So a second
    lock, of a transaction, is taken there, and the trials are counted again under it. A lock file of SQLite
    cannot be lost. Raises LockLostError, with nothing stored, if another process added a trial.
    """
    with context.engine.begin() as conn:
        if lock_trials(conn, context.spec.name):
            census = Census(context.study.get_trials(deepcopy=False))
            if census.counted >= cap or number not in (None, len(census.trials)):
                raise LockLostError(
                    "another process added a trial since they were counted under the study lock"
                )
        yield


def repetition(number: int, parameters: Mapping[str, Scalar], trials: Sequence[FrozenTrial]) -> int:
    """Return the lowest free repetition number among the trials with these parameters."""
    taken = {
        other.user_attrs.get(REPETITION)
        for other in trials
        if other.params == parameters and other.number != number and other.state != TrialState.FAIL
    }
    return next(candidate for candidate in range(len(trials) + 1) if candidate not in taken)


def timing_note(spec: StudySpec) -> str | None:
    """Return a launch note if workers make trials depend on timing, or if some will idle; else None."""
    worker = spec.worker
    if worker.mode == "batch":
        if worker.count <= worker.batch_size:
            return None
        return (
            f"worker.batch_size={worker.batch_size} keeps no more than so many of {worker.count} workers busy"
        )
    if worker.count == 1 or (spec.sampler.name in BLIND and spec.pruner.name == "none"):
        return None
    return (
        f"with {worker.count} workers in worker.mode=async, what is tried depends on which trials end first; "
        f"worker.mode=batch worker.batch_size={worker.count} tries the same again"
    )
