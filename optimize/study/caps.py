"""The exact cap: under one lock, reap lost runs, count, then take a trial over or ask for a new one.

COMPLETE + PRUNED + RUNNING never exceeds the cap, at any number of workers, because nobody asks without the
lock; training happens outside it.
"""

import enum
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from optimize.database import server_time, study_lock
from optimize.results import leases
from optimize.results.leases import Lease
from optimize.results.records import (
    EventRecord,
    Outcome,
    RunRecord,
    WindowRecord,
    load_baselines,
    load_study,
    log_event,
)
from optimize.results.runs import adopt_windows, complete_but_untold, finish_run, start_run, windows_of
from optimize.search.space import Scalar, apply, suggest
from optimize.study.dashboard import decorate
from optimize.study.handle import Handle
from optimize.study.spec import TIMEFRAME_PHASE, StudySpec, to_plain
from optimize.study.trial import Ground, at_timeframe
from optimize.study.versions import versions

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
MAX_LOSSES = 2  # the second loss of a trial fails it as stale
REPETITION = "repetition"
Lay = Callable[[StudySpec], Ground]
STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAIL}


class Verdict(enum.Enum):
    """Why there is no trial to run."""

    FULL = "the cap is reached and every trial has ended"
    WAIT = "the cap is reached by trials that still run, and whose worker may yet be lost"
    FAILING = "too many trials failed"


class _RecordedError(Exception):
    """The run that seemed lost recorded its outcome after it was looked at: tell it, run nothing."""


@dataclass(frozen=True, eq=False)
class Claim:
    """A trial that this worker must run now."""

    trial: Trial
    lease: Lease
    run: RunRecord
    spec: StudySpec  # resolved for this trial
    ground: Ground
    adopted: tuple[WindowRecord, ...]  # what lost runs of this trial had finished

    @property
    def entropy(self) -> list[int]:
        """Return what the seeds of this trial are made of, before window and repeat."""
        return list(self.run.entropy)


def claim(handle: Handle, worker: int, lay: Lay) -> Claim | Verdict:
    """Reap, count, and return a trial to run; every decision is made under the study lock."""
    spec = handle.spec
    with study_lock(spec.database.url, spec.name):
        tell_finished(handle)
        lost = _lost_trials(handle)
        trials = handle.study.get_trials(deepcopy=False)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        taken = next((trial for trial in running if trial.number in lost), None)
        if taken is None:
            with handle.engine.connect() as conn:
                record = load_study(conn, spec.name)
            cap = record.n_trials if record else spec.n_trials
            if sum(trial.state in COUNTED for trial in trials) >= cap:
                return Verdict.WAIT if running else Verdict.FULL
            if sum(trial.state == TrialState.FAIL for trial in trials) >= spec.max_failures:
                return Verdict.FAILING
            trial = handle.study.ask()
        else:
            trial = Trial(handle.study, taken._trial_id)
        try:
            return _start(handle, trial, worker, trials, lay)
        except _RecordedError:
            return claim(handle, worker, lay)


def tell_finished(handle: Handle) -> None:
    """Tell Optuna of trials whose record is complete, which a dead worker could not; never run them again."""
    with study_lock(handle.spec.database.url, handle.spec.name):
        running = handle.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if running:
            _tell_lost(handle, [trial.number for trial in running])


def _tell_lost(handle: Handle, running: Sequence[int]) -> None:
    """Tell the recorded ones among the running trials unless a living owner is about to do it."""
    with handle.engine.begin() as conn:
        untold = complete_but_untold(conn, handle.spec.name, running)
        owned = {lease.run_uuid: lease for lease in leases.active(conn, handle.spec.name)}
        lost = leases.lost(conn, handle.spec.name, server_time(conn), leases.owner_alive)
    for run in untold:
        lease = owned.get(run.run_uuid)
        if lease is None or lease in lost:  # a living owner tells it itself, after note and picture
            _tell_for(handle, run)
            if lease is not None:
                with handle.engine.begin() as conn:
                    leases.release(conn, lease)


def _tell_for(handle: Handle, run: RunRecord) -> None:
    """Do for a recorded run what its worker did not live to do: note, picture, tell."""
    found = _find(handle, run.trial_number)
    if found is None or found.state.is_finished():
        return
    illustrate(handle, Trial(handle.study, found._trial_id), run)
    tell(handle, run)


def illustrate(handle: Handle, trial: Trial, run: RunRecord) -> None:
    """Give a trial its note and picture; one that cannot be had is an event, never a lost trial."""
    with handle.engine.connect() as conn:
        windows, baselines = windows_of(conn, run.run_uuid), load_baselines(conn, handle.spec.name)
    try:
        decorate(handle, trial, run, windows, baselines)
    except Exception as error:  # a full disk, a lost file: whatever it is, the record stands without it
        message = f"trial {run.trial_number} has no note or picture: {type(error).__name__}: {error}"
        print(message, file=sys.stderr)
        with handle.engine.begin() as conn:
            log_event(conn, EventRecord(handle.spec.name, "note_failed", message))


def tell(handle: Handle, run: RunRecord) -> None:
    """Tell Optuna how a recorded run ended, with the constraint that marks an infeasible trial."""
    found = _find(handle, run.trial_number)
    if found is None or found.state.is_finished():
        return
    state = STATES[run.state]
    if state != TrialState.FAIL:
        infeasible = run.reason is not None and not run.reason.startswith("pruner")
        trial = Trial(handle.study, found._trial_id)
        trial.set_constraint("feasible", 1.0 if infeasible else 0.0)
        trial.set_user_attr("feasible", not infeasible)  # the dashboard does not show constraints
    value = run.score if state == TrialState.COMPLETE else None
    handle.study.tell(run.trial_number, value, state=state, skip_if_finished=True)


def _lost_trials(handle: Handle) -> set[int]:
    """Return the running trials that nobody runs; a trial lost for the second time is failed here."""
    name = handle.spec.name
    with handle.engine.begin() as conn:
        lost = leases.lost(conn, name, server_time(conn), leases.owner_alive)
        leased = {lease.trial_number for lease in leases.active(conn, name)}
    numbers = {t.number for t in handle.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
    takeable = numbers - leased  # asked for by a worker that died before it took the lease
    for lease in lost:
        if lease.trial_number not in numbers:
            with handle.engine.begin() as conn:
                leases.release(conn, lease)
        elif lease.losses + (not lease.abandoned) >= MAX_LOSSES:
            _fail_stale(handle, lease)
        else:
            takeable.add(lease.trial_number)
    return takeable


def _fail_stale(handle: Handle, lost: Lease) -> None:
    """Fail a trial whose runs were lost twice: it may be what kills its workers."""
    message = f"the trial lost its worker {MAX_LOSSES} times (last: worker {lost.worker}, pid {lost.pid})"
    outcome = Outcome("FAIL", 0.0, failure_kind="stale", failure_message=message)
    with handle.engine.begin() as conn:
        run = finish_run(conn, lost, outcome)
        leases.release(conn, lost)
    tell(handle, run)


def _start(handle: Handle, trial: Trial, worker: int, trials: Sequence[FrozenTrial], lay: Lay) -> Claim:
    """Fix the trial's parameters and seeds, take the lease and store the run."""
    spec = handle.spec
    parameters = suggest(handle.space, trial)
    repetition = _repetition(trial, parameters, trials)
    entropy = [spec.seed, repetition if is_timeframe_phase(spec) else trial.number]
    resolved = at_timeframe(apply(spec, parameters), spec.data.timeframe)
    ground = lay(resolved)
    with handle.engine.begin() as conn:
        lease = leases.acquire(
            conn,
            spec.name,
            trial.number,
            worker=worker,
            lease_s=spec.worker.lease_s,
            now=server_time(conn),
        )
        if complete_but_untold(conn, spec.name, [trial.number]):  # the lease is ours: it stays so
            raise _RecordedError
        run = start_run(
            conn,
            lease,
            RunRecord(
                run_uuid=lease.run_uuid,
                study_name=spec.name,
                trial_number=trial.number,
                parameters=parameters,
                spec=to_plain(resolved),
                entropy=entropy,
                versions=versions(),
                data_fingerprint=ground.market.fingerprint,
                repetition=repetition,
            ),
        )
        adopted = adopt_windows(conn, lease)
    trial.set_user_attr("run_uuid", lease.run_uuid)
    return Claim(trial, lease, run, resolved, ground, tuple(adopted))


def is_timeframe_phase(spec: StudySpec) -> bool:
    """Say whether trials share seeds across combinations instead of having their own."""
    return spec.name.endswith(f".{TIMEFRAME_PHASE}")


def _repetition(trial: Trial, parameters: Mapping[str, Scalar], trials: Sequence[FrozenTrial]) -> int:
    """Return which of the trials with these parameters this one is: the lowest number not taken."""
    known = trial.user_attrs.get(REPETITION)
    if known is not None:
        return int(known)
    taken = {
        other.user_attrs.get(REPETITION)
        for other in trials
        if other.number != trial.number and other.state != TrialState.FAIL and other.params == parameters
    }
    repetition = next(number for number in range(len(trials) + 1) if number not in taken)
    trial.set_user_attr(REPETITION, repetition)
    return repetition


def _find(handle: Handle, number: int) -> FrozenTrial | None:
    trials = handle.study.get_trials(deepcopy=False)
    return next((trial for trial in trials if trial.number == number), None)


def counts(study: optuna.Study) -> dict[str, int]:
    """Return the number of trials in each state."""
    found = {state.name: 0 for state in TrialState}
    for trial in study.get_trials(deepcopy=False):
        found[trial.state.name] += 1
    return found
