"""The exact cap: under one lock, reap lost runs, count, then take a trial over or ask for a new one.

COMPLETE + PRUNED + RUNNING never exceeds the cap, at any number of workers, because nobody asks without the
lock; training happens outside it.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from optuna.trial import FrozenTrial, Trial

from optimize.agents.budget import as_trained
from optimize.database import server_time, study_lock
from optimize.errors import LockLostError
from optimize.results import leases
from optimize.results.leases import Lease
from optimize.results.processes import Identity
from optimize.results.records import RETRIED, Outcome, RunRecord, WindowRecord
from optimize.results.runs import adopt_windows, complete_but_untold, start_run
from optimize.search.proposals import why_unfit
from optimize.search.space import Value, apply, suggest
from optimize.search.storage import set_user_attribute
from optimize.study.claims import batch
from optimize.study.claims.batch import REPETITION, Census, repetition
from optimize.study.claims.surplus import close_surplus, close_unfit
from optimize.study.claims.telling import in_batches, tell, tell_recorded
from optimize.study.claims.triage import SHORTAGES, failed, gate, settle, settle_killed, stop_at_limit
from optimize.study.files import find_returns, holds_agent
from optimize.study.handle import Handle, cap_of
from optimize.study.spec import TIMEFRAME_PHASE, StudySpec, to_plain
from optimize.study.trial import Ground, at_timeframe
from optimize.study.versions import conditions, source, versions

MAX_LOSSES = 2  # in one window: its second loss there fails a trial as stale
Lay = Callable[[StudySpec], Ground]
TRAINED_WITH = "trained_with"  # user attribute of a trial: what its drawn values became in training


class Verdict(enum.Enum):
    """Why there is no trial to run."""

    FULL = "the cap is reached and every trial has ended"
    WAIT = "all that may run now runs elsewhere, and a worker there may yet be lost"
    FAILING = "too many trials failed"
    SYSTEMATIC = "the study stopped itself, because its failures have a cause that will not pass"
    SHORT = "the disk is full or the database away, so a trial was given back before it began"
    PAUSED = "the study is paused"
    STOPPED = "the study is stopped"


class _OverError(Exception):
    """There is nothing to run of this trial: the run that seemed lost recorded its outcome, or it failed."""

    def __init__(self, short: bool = False) -> None:
        super().__init__()
        self.short = short  # for what its worker is to wait


@dataclass(frozen=True, eq=False)
class Claim:
    """A trial that this worker must run now."""

    trial: FrozenTrial  # as it was claimed
    lease: Lease
    run: RunRecord
    spec: StudySpec  # resolved for this trial
    ground: Ground
    adopted: tuple[WindowRecord, ...]  # what lost runs of this trial had finished

    @property
    def entropy(self) -> list[int]:
        """Return what the seeds of this trial are made of, before window and repeat."""
        return list(self.run.entropy)


def claim(handle: Handle, worker: int, lay: Lay, supervisor: Identity | None = None) -> Claim | Verdict:
    """Reap, count, and return a trial to run; every decision is made under the study lock.

    `supervisor` is the process that watches over this one and decides what its death means.
    """
    found: Claim | Verdict | None = None
    try:
        with study_lock(handle.spec.database.url, handle.spec.name):
            found = _claim(handle, worker, lay, supervisor)
    except LockLostError:  # what was handed out stands: its rows have locks of their own
        if found is None:
            raise
    return found


def _claim(handle: Handle, worker: int, lay: Lay, supervisor: Identity | None) -> Claim | Verdict:
    while True:
        census, takeable = _reap(handle)
        found = _next(handle, census, takeable)
        if isinstance(found, Verdict):
            return found
        try:
            return _start(handle, found, worker, lay, supervisor)
        except _OverError as over:
            if over.short:
                return Verdict.SHORT


def _reap(handle: Handle) -> tuple[Census, set[int]]:
    """Tell what was recorded and fail what was lost twice; return all trials and those that nobody runs.

    The leases of trials that ended go, which a worker killed after telling left behind.
    """
    census = Census(handle.study.get_trials(deepcopy=False))
    told, waiting = tell_recorded(handle, census.running) if census.running else (set(), set())
    takeable, stale = _lost_trials(handle, census.running - told - waiting)
    for lease in stale:
        _fail_stale(handle, lease)
    return Census(handle.study.get_trials(deepcopy=False)) if told or stale else census, takeable


def _next(handle: Handle, census: Census, takeable: set[int]) -> FrozenTrial | Verdict:
    """Return the trial to run next: one that nobody runs, else a new one."""
    cap = cap_of(handle)
    if closed := close_surplus(handle, takeable, census.counted - cap, cap):
        census, takeable = Census(handle.study.get_trials(deepcopy=False)), takeable - closed
    running, known = census.running, len(census.trials)
    if census.counted >= cap and not running:
        return Verdict.FULL
    if (held := gate(handle)) is not None:
        return Verdict[held]
    whole = batch.complete(handle, census, cap)
    takeable |= set(range(known, len(whole)))
    if takeable:
        return whole[min(takeable)]
    if census.counted >= cap or (running and in_batches(handle)):
        return Verdict.WAIT
    if stop_at_limit(handle, census.failed):
        return Verdict.FAILING
    asked = batch.ask(handle, census, cap)
    queued = len(asked) == known  # by hand, and taken now
    return asked[min(Census(asked).running - running)] if queued else asked[known]


def _lost_trials(handle: Handle, numbers: set[int]) -> tuple[set[int], list[Lease]]:
    """Return those of the running trials that nobody runs, and the leases lost for the last time."""
    name = handle.spec.name
    with handle.engine.begin() as conn:
        leases.pull_back(conn, now := server_time(conn), name)
        lost = leases.lost(conn, name, now, leases.owner_alive)
        leased = {lease.trial_number for lease in leases.active(conn, name)}
        for lease in lost:
            if lease.trial_number not in numbers:
                leases.release(conn, lease)
    mine = [
        lease for lease in lost if lease.trial_number in numbers and not leases.awaits_supervisor(lease, now)
    ]
    stale = [lease for lease in mine if lease.losses >= MAX_LOSSES]
    # Without a lease: asked for by a worker that died before it took one, or by a whole batch's asker.
    free = (numbers - leased) | {lease.trial_number for lease in mine}
    return free - {lease.trial_number for lease in stale}, stale


def _fail_stale(handle: Handle, lost: Lease) -> None:
    """Fail a trial whose workers died alone in one window: it may be what kills them."""
    message = (
        f"its worker died {lost.losses} times within one window (last: worker {lost.worker}, pid {lost.pid})"
    )
    with handle.engine.begin() as conn:
        run = settle_killed(conn, lost, "stale", message)
        leases.release(conn, lost)
    tell(handle, run)


def fail_claimed(handle: Handle, lease: Lease, kind: str, message: str) -> RunRecord:
    """Fail the trial of a worker that was ended from outside, or give it back to be tried once more.

    A run that recorded an outcome before keeps it; raises StaleRunError where another run has the trial.
    """
    with handle.engine.begin() as conn:
        run = settle_killed(conn, lease, kind, message)
    _tell_failed(handle, lease, run)
    return run


def _tell_failed(handle: Handle, lease: Lease, run: RunRecord) -> None:
    """Tell that a run failed and end its lease; one that is tried again was given back before."""
    if run.state == RETRIED:
        return
    with study_lock(handle.spec.database.url, handle.spec.name):
        tell(handle, run)
        with handle.engine.begin() as conn:
            leases.release(conn, lease)


def _start(handle: Handle, found: FrozenTrial, worker: int, lay: Lay, supervisor: Identity | None) -> Claim:
    """Fix the trial's parameters and seeds, take the lease and store the run."""
    spec = handle.spec
    try:
        if (unfit := why_unfit(handle.space, found)) is not None:
            raise ValueError(unfit)
        trial = _drawn(handle, found)
        parameters = suggest(handle.space, trial)
    except ValueError as error:  # Optuna's too, of a parameter that somebody gave another distribution
        close_unfit(handle, found.number, " ".join(str(error).split()))
        raise _OverError from None
    repeated = int(trial.user_attrs[REPETITION])
    resolved, ground = _lay(spec, parameters, lay)
    # By Optuna's connection, which does not sync: a power cut that undoes a claim has ended its worker too.
    with handle.storage.engine.begin() as conn:
        lease = leases.acquire(
            conn,
            spec.name,
            trial.number,
            worker=worker,
            lease_s=spec.worker.lease_s,
            now=server_time(conn),
            supervisor=supervisor,
        )
        # A run that is fenced off only now may have recorded its outcome since we looked: it keeps its lease.
        if lease.token > 1 and complete_but_untold(conn, spec.name, [trial.number]):
            raise _OverError
        run = start_run(
            conn,
            lease,
            RunRecord(
                run_uuid=lease.run_uuid,
                study_name=spec.name,
                trial_number=trial.number,
                parameters=parameters,
                spec=to_plain(resolved),
                entropy=[spec.seed, repeated if is_timeframe_phase(spec) else trial.number],
                versions=versions() | conditions(resolved.agent) | source(resolved.feature.indicators),
                data_fingerprint=ground.market.fingerprint if isinstance(ground, Ground) else "",
                repetition=repeated,
            ),
        )
        adopted = adopt_windows(conn, lease, partial(_is_whole, handle)) if run.attempt > 1 else []
        set_user_attribute(conn, trial._trial_id, "run_uuid", lease.run_uuid)
        if other := _trained_with(resolved, parameters):
            set_user_attribute(conn, trial._trial_id, TRAINED_WITH, other)
    if isinstance(ground, Outcome):
        with handle.engine.begin() as conn:
            run = settle(conn, lease, ground)
        _tell_failed(handle, lease, run)
        raise _OverError(short=run.state == RETRIED and run.failure_kind in SHORTAGES)
    return Claim(trial, lease, run, resolved, ground, tuple(adopted))


def _trained_with(resolved: StudySpec, parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Return the drawn hyperparameters that the timeframe or the budget made another value of."""
    trained = {f"agent.{key}": value for key, value in resolved.agent.hyperparameters.items()}
    return {path: trained[path] for path, value in parameters.items() if trained.get(path, value) != value}


def _is_whole(handle: Handle, window: WindowRecord) -> bool:
    """Say whether the files of a finished window are all there: its row may have come to disk alone."""
    path = handle.spec.folder / (window.returns_path or "")
    return holds_agent(path.parent) and find_returns(path) is not None


def _lay(spec: StudySpec, parameters: Mapping[str, Value], lay: Lay) -> tuple[StudySpec, Ground | Outcome]:
    """Return the spec of a trial with its ground, or how the trial failed where it has none."""
    resolved = spec
    try:
        resolved = at_timeframe(apply(spec, parameters), spec.data.target)
        resolved = dataclasses.replace(resolved, agent=as_trained(resolved.agent))
        return resolved, lay(resolved)
    except Exception as error:  # whatever it is, it fails this trial, typed, and not the worker
        return resolved, failed(error, 0.0)


def is_timeframe_phase(spec: StudySpec) -> bool:
    """Say whether trials share seeds across combinations instead of having their own."""
    return spec.name.endswith(f".{TIMEFRAME_PHASE}")


def _drawn(handle: Handle, found: FrozenTrial) -> FrozenTrial:
    """Return a trial with all that it needs to run, also where it was queued or asked for by hand."""
    if REPETITION in found.user_attrs:
        return found
    trial = Trial(handle.study, found._trial_id)
    suggest(handle.space, trial)
    others = handle.study.get_trials(deepcopy=False)
    trial.set_user_attr(REPETITION, repetition(trial.number, trial.params, others))
    return handle.study.get_trials(deepcopy=False)[trial.number]
