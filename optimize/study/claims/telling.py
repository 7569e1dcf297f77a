"""Tell Optuna how recorded trials ended: at once, or in batch mode in the order of their numbers.

Our own record is committed first, so that a trial that a dead worker recorded is told and never run again.
"""

import sys
from collections.abc import Collection

import optuna
from optuna.trial import Trial, TrialState

from optimize.database import server_time, study_lock
from optimize.results import leases
from optimize.results.records import EventRecord, RunRecord, load_baselines, log_event
from optimize.results.runs import complete_but_untold, surplus_runs, windows_of
from optimize.study.files import drop_weights, run_folder, run_folders
from optimize.study.handle import Handle
from optimize.study.pages.dashboard import decorate

STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAIL}


def tell_finished(handle: Handle) -> None:
    """Tell Optuna of trials whose record is complete, which a dead worker could not; never run them again."""
    with study_lock(handle.spec.database.url, handle.spec.name):
        numbers = running(handle)
        if numbers:
            tell_recorded(handle, numbers)


def tell_recorded(handle: Handle, numbers: Collection[int]) -> tuple[set[int], set[int]]:
    """Tell what is recorded of these running trials, unless a living owner is about to do it.

    Returns which were told, and which are recorded and wait: for their owner, or for a lower number.
    """
    with handle.engine.begin() as conn:
        untold = {run.trial_number: run for run in complete_but_untold(conn, handle.spec.name, numbers)}
        if not untold:
            return set(), set()
        owned = {lease.run_uuid: lease for lease in leases.active(conn, handle.spec.name)}
        lost = leases.lost(conn, handle.spec.name, server_time(conn), leases.owner_alive)
    told, waiting, in_turn = set[int](), set[int](), True
    for number in sorted(numbers):
        run = untold.get(number)
        lease = None if run is None else owned.get(run.run_uuid)
        ready = run is not None and (lease is None or lease in lost)  # else its owner tells it after its note
        if run is not None and ready and (in_turn or lease is not None):
            illustrate(handle, run)
        if run is not None and ready and in_turn:
            tell_one(handle, run)
            told.add(number)
        elif run is not None:
            waiting.add(number)
        if ready and lease is not None:
            with handle.engine.begin() as conn:
                leases.release(conn, lease)
        in_turn = in_turn and (ready or not in_batches(handle))
    return told, waiting


def in_batches(handle: Handle) -> bool:
    """Say whether trials are asked for and told batch by batch."""
    return handle.spec.worker.mode == "batch"


def tell(handle: Handle, run: RunRecord) -> None:
    """Tell Optuna how a recorded run ended, called under the study lock by who recorded it.

    In batch mode it waits for lower numbers, and takes along the higher ones that waited for it.
    """
    if not in_batches(handle):
        tell_one(handle, run)
        return
    numbers = running(handle)
    with handle.engine.connect() as conn:
        untold = {each.trial_number: each for each in complete_but_untold(conn, handle.spec.name, numbers)}
        held = {lease.run_uuid for lease in leases.active(conn, handle.spec.name)} - {run.run_uuid}
    for number in sorted(numbers):
        if number not in untold or untold[number].run_uuid in held:  # it runs, or its note is being written
            return
        tell_one(handle, untold[number])


def tell_one(handle: Handle, run: RunRecord) -> None:
    """Tell Optuna how one trial ended, unless it is told; a constraint marks an infeasible one.

    Its weights are sorted out first: whoever is killed before the trial is told leaves both to the next.
    """
    drop_surplus_weights(handle, run)
    state, number = STATES[run.state], run.trial_number
    if state != TrialState.FAIL:
        feasible = run.reason is None or run.reason.startswith("pruner")
        trial, storage = trial_id(handle, number), handle.study._storage
        try:
            storage.set_trial_user_attr(
                trial, "feasible", feasible
            )  # the dashboard does not show constraints
        except optuna.exceptions.UpdateFinishedTrialError:
            return
        if not feasible:
            Trial(handle.study, trial).set_constraint("feasible", 1.0)
    value = run.score if state == TrialState.COMPLETE else None
    handle.study.tell(number, value, state=state, skip_if_finished=True)


def drop_surplus_weights(handle: Handle, run: RunRecord) -> None:
    """Keep the weights of the best keep_models parameter sets: drop this run's, or those of a set pushed out.

    Those of the trial's earlier runs go only now: until it ended they were all that a next run had.
    """
    folder = handle.spec.folder
    with handle.engine.connect() as conn:
        surplus = surplus_runs(conn, run, handle.spec.keep_models)
    own = run_folder(folder, run.trial_number, run.run_uuid)
    for each in run_folders(folder, run.trial_number):
        if each != own or run.state != "COMPLETE":
            drop_weights(each)
    for number, uuid in surplus:
        drop_weights(run_folder(folder, number, uuid))


def illustrate(handle: Handle, run: RunRecord) -> None:
    """Give a trial its note and picture; one that cannot be had is an event, never a lost trial."""
    trial = Trial(handle.study, trial_id(handle, run.trial_number))
    with handle.engine.connect() as conn:
        windows, baselines = windows_of(conn, run.run_uuid), load_baselines(conn, handle.spec.name)
    try:
        decorate(handle, trial, run, windows, baselines)
    except Exception as error:  # a full disk, a lost file: whatever it is, the record stands without it
        message = f"trial {run.trial_number} has no note or picture: {type(error).__name__}: {error}"
        print(message, file=sys.stderr)
        with handle.engine.begin() as conn:
            log_event(conn, EventRecord(handle.spec.name, "note_failed", message))


def running(handle: Handle) -> list[int]:
    """Return the numbers of the trials that have not been told."""
    return [t.number for t in handle.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]


def trial_id(handle: Handle, number: int) -> int:
    """Return what Optuna's storage calls a trial."""
    study = handle.study
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def counts(study: optuna.Study) -> dict[str, int]:
    """Return the number of trials in each state."""
    found = {state.name: 0 for state in TrialState}
    for trial in study.get_trials(deepcopy=False):
        found[trial.state.name] += 1
    return found


def counted(handle: Handle) -> int:
    """Return how many trials have ended that count against the cap."""
    found = counts(handle.study)
    return found["COMPLETE"] + found["PRUNED"]
