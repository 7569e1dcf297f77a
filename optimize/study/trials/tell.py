"""Report the ends of recorded trials to Optuna: at once, or in batch mode in the order of their numbers.

Our own record is committed first, so that a trial that a dead worker recorded is told and never run again.
"""

from collections.abc import Collection
from contextlib import suppress

import optuna
from optuna.trial import Trial, TrialState

from optimize.database import server_time, study_lock
from optimize.results import leases
from optimize.results.records import RunRecord
from optimize.results.runs import finished_runs, surplus_runs
from optimize.results.states import RunState
from optimize.search.storage import trial_id
from optimize.study.context import StudyContext
from optimize.walkforward.files import drop_weights, run_folder, run_folders

STATES = {
    RunState.COMPLETE: TrialState.COMPLETE,
    RunState.PRUNED: TrialState.PRUNED,
    RunState.FAIL: TrialState.FAIL,
}


def tell_finished(context: StudyContext) -> None:
    """Report to Optuna the recorded trials of dead workers, without running them again."""
    with study_lock(context.spec.database.url, context.spec.name):
        numbers = running(context)
        if numbers:
            tell_recorded(context, numbers)


def tell_recorded(context: StudyContext, numbers: Collection[int]) -> tuple[set[int], set[int]]:
    """Report to Optuna the recorded ones of these running trials, except those with a living owner.

    Returns which were told, and which are recorded and wait: for their owner, or for a lower number.
    """
    with context.engine.begin() as conn:
        untold = {run.trial_number: run for run in finished_runs(conn, context.spec.name, numbers)}
        if not untold:
            return set(), set()
        owned = {lease.run_uuid: lease for lease in leases.active(conn, context.spec.name)}
        lost = leases.lost(conn, context.spec.name, server_time(conn), leases.owner_alive)
    told, waiting, in_turn = set[int](), set[int](), True
    for number in sorted(numbers):
        run = untold.get(number)
        lease = None if run is None else owned.get(run.run_uuid)
        ready = run is not None and (lease is None or lease in lost)  # else its owner reports it
        if run is not None and ready and in_turn:
            tell_one(context, run)
            told.add(number)
        elif run is not None:
            waiting.add(number)
        if ready and lease is not None:
            with context.engine.begin() as conn:
                leases.release(conn, lease)
        in_turn = in_turn and (ready or not in_batches(context))
    return told, waiting


def in_batches(context: StudyContext) -> bool:
    """Return whether trials are proposed and reported batch by batch."""
    return context.spec.worker.mode == "batch"


def tell(context: StudyContext, run: RunRecord) -> None:
    """Report a recorded run to Optuna; the worker that recorded it holds the study lock.

    In batch mode it waits for lower numbers, and takes along the higher ones that waited for it.
    """
    if not in_batches(context):
        tell_one(context, run)
        return
    numbers = running(context)
    with context.engine.connect() as conn:
        untold = {each.trial_number: each for each in finished_runs(conn, context.spec.name, numbers)}
        held = {lease.run_uuid for lease in leases.active(conn, context.spec.name)} - {run.run_uuid}
    for number in sorted(numbers):
        if number not in untold or untold[number].run_uuid in held:  # it runs, or has an owner to report it
            return
        tell_one(context, untold[number])


def tell_one(context: StudyContext, run: RunRecord) -> None:
    """Report one ended trial to Optuna, once; a constraint marks an infeasible one.

    Its weights are sorted out first: a process killed before it reports the trial leaves both to the next.
    """
    drop_surplus_weights(context, run)
    state, storage = STATES[run.state], context.storage
    stored = trial_id(storage, context.spec.name, run.trial_number)
    values = [run.score] if state == TrialState.COMPLETE and run.score is not None else None
    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        if state != TrialState.FAIL:
            feasible = run.reason is None or run.reason.startswith("pruner")
            storage.set_trial_user_attr(stored, "feasible", feasible)  # the dashboard shows no constraints
            if not feasible:
                Trial(context.study, stored).set_constraint("feasible", 1.0)
        storage.set_trial_state_values(stored, state, values)  # Study.tell would read the trial three times


def drop_surplus_weights(context: StudyContext, run: RunRecord) -> None:
    """Keep the weights of the best keep_models parameter sets: drop this run's, or those of a set pushed out.

    Those of the trial's earlier runs go only now: until it ended they were all that a next run had.
    """
    folder = context.spec.folder
    surplus = []
    if run.state == RunState.COMPLETE:  # no other outcome changes the ranks
        with context.engine.connect() as conn:
            surplus = surplus_runs(conn, run, context.spec.keep_models)
    own = run_folder(folder, run.trial_number, run.run_uuid)
    for each in run_folders(folder, run.trial_number):
        if each != own or run.state != RunState.COMPLETE:
            drop_weights(each)
    for number, uuid in surplus:
        drop_weights(run_folder(folder, number, uuid))


def running(context: StudyContext) -> list[int]:
    """Return the numbers of the trials that are RUNNING in Optuna."""
    return [t.number for t in context.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]


def counts(study: optuna.Study) -> dict[str, int]:
    """Return the number of trials in each state."""
    found = {state.name: 0 for state in TrialState}
    for trial in study.get_trials(deepcopy=False):
        found[trial.state.name] += 1
    return found


def counted(context: StudyContext) -> int:
    """Return how many trials have ended that count against the cap."""
    found = counts(context.study)
    return found[RunState.COMPLETE] + found[RunState.PRUNED]
