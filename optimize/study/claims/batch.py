"""Ask for trials: one when a worker is free, or in batch mode a whole batch before any of it runs.

A batch is asked for when every earlier trial has ended, under one lock; its trials are drawn in the order of
their numbers from the seed, the earlier batches, and the parameters of its own trials before them. So nothing
that a trial tries depends on who runs it, or when, or after which crash.
"""

from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from optimize.search.leaves import Scalar
from optimize.search.proposals import store
from optimize.search.pruners import BATCH
from optimize.search.storage import COUNTED, start_waiting
from optimize.study.claims.surplus import is_closed
from optimize.study.claims.telling import in_batches
from optimize.study.handle import Handle
from optimize.study.spec import StudySpec

REPETITION = "repetition"
BLIND = ("random", "qmc")  # samplers that look at no other trial


class Census:
    """All trials of a study, gone through once for what a claim asks about them."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        self.trials = trials  # a trial's place in the list is its number
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
        return self.count(*COUNTED)


def ask(handle: Handle, census: Census, cap: int) -> list[FrozenTrial]:
    """Ask for the next trial, or for the next batch; return all trials. Called under the study lock."""
    if census.count(TrialState.WAITING):  # somebody queued it by hand
        start_waiting(handle.storage, handle.study._study_id, cap)
        return handle.study.get_trials(deepcopy=False)
    if not in_batches(handle):
        return _ask(handle, census.trials, 1, cap)
    size = min(handle.spec.worker.batch_size, cap - census.counted)
    return _ask(handle, census.trials, size, cap, [len(census.trials), size])


def complete(handle: Handle, census: Census, cap: int) -> list[FrozenTrial]:
    """Ask for what is missing of the last batch, whose asker was killed; return all trials."""
    trials = census.trials
    if not trials or not in_batches(handle):
        return trials
    first, size = trials[-1].user_attrs.get(BATCH, (len(trials), 0))
    missing = min(first + size - len(trials), cap - census.counted)
    return _ask(handle, trials, missing, cap, [first, size]) if missing > 0 else trials


def _ask(
    handle: Handle, trials: Sequence[FrozenTrial], count: int, cap: int, batch: list[int] | None = None
) -> list[FrozenTrial]:
    asked = list(trials)
    for _ in range(count):
        drawn = handle.proposals.draw(asked)
        attributes: dict[str, object] = {REPETITION: repetition(drawn.number, drawn.params, asked)}
        attributes |= {BATCH: batch} if batch else {}
        asked.append(store(handle.storage, handle.study, drawn, attributes, cap))
    return asked


def repetition(number: int, parameters: Mapping[str, Scalar], trials: Sequence[FrozenTrial]) -> int:
    """Return which of the trials with these parameters a trial is: the lowest number not taken."""
    taken = {
        other.user_attrs.get(REPETITION)
        for other in trials
        if other.params == parameters and other.number != number and other.state != TrialState.FAIL
    }
    return next(candidate for candidate in range(len(trials) + 1) if candidate not in taken)


def on_timing(spec: StudySpec) -> str | None:
    """Return what several workers mean for a study: its trials depend on timing, or some workers idle."""
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
