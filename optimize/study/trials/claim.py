"""The exact cap: under the study lock, recover lost runs, count, then take over a trial or add a new one.

COMPLETE + PRUNED + RUNNING never exceeds the cap, at any number of workers, because trials are added only
under the lock. Training happens outside it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from optuna.trial import FrozenTrial, Trial

from envs.plain import to_plain
from optimize.agents.budget import as_trained
from optimize.agents.engines import Engine, local_engine
from optimize.database import server_time, study_lock
from optimize.errors import LockLostError
from optimize.results import leases
from optimize.results.leases import Lease
from optimize.results.processes import Identity
from optimize.results.records import Outcome, RunRecord, WindowRecord
from optimize.results.runs import adopt_windows, finished_runs, start_run
from optimize.results.states import FailureKind, RunState
from optimize.search.proposals import queued_value_error
from optimize.search.space import Value, apply, expand, suggest
from optimize.search.spec import TIMEFRAME_PHASE
from optimize.search.storage import trial_id
from optimize.study.context import StudyContext, cap_of
from optimize.study.control import NoTrial
from optimize.study.failures.classify import SHORTAGES, failed
from optimize.study.failures.stops import hold_reason, stop_at_limit
from optimize.study.spec import StudySpec
from optimize.study.trials import ask as batch
from optimize.study.trials.ask import REPETITION, Census, repetition
from optimize.study.trials.close import close_surplus, close_unfit
from optimize.study.trials.settle import settle, settle_killed
from optimize.study.trials.tell import in_batches, tell, tell_recorded
from optimize.walkforward.files import find_returns, holds_agent
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.spec import at_timeframe
from optimize.walkforward.versions import conditions, source, versions

MAX_LOSSES = 2  # in one window: the second loss fails the trial as stale
MarketBuilder = Callable[[StudySpec], WindowedMarket]
TRAINED_WITH = "trained_with"  # user attribute: values that training used instead of the drawn ones


class _NothingToRunError(Exception):
    """The found trial needs no run: a run that seemed lost recorded its outcome, or the trial failed."""

    def __init__(self, short: bool = False) -> None:
        super().__init__()
        self.short = short  # whether the worker must wait for disk or database


@dataclass(frozen=True, eq=False)
class Claim:
    """A trial that this worker runs now, with its lease."""

    trial: FrozenTrial  # as it was claimed
    trial_id: int  # of Optuna's storage
    lease: Lease
    run: RunRecord
    spec: StudySpec  # resolved for this trial
    windowed: WindowedMarket
    engine: Engine | None  # None: chosen by the run
    adopted: tuple[WindowRecord, ...]  # windows that lost runs of this trial finished

    @property
    def entropy(self) -> list[int]:
        """Return the seed entropy of this trial, to which window and repeat are added."""
        return list(self.run.entropy)


def claim(
    context: StudyContext, worker: int, build_market: MarketBuilder, supervisor: Identity | None = None
) -> Claim | NoTrial:
    """Return a trial to run, or the reason for none; every decision is made under the study lock.

    `supervisor` is the parent process that decides whether a death of this worker counts as a loss.
    """
    # Reading thousands of trials takes seconds: not while others wait for the lock.
    if context.proposals.empty:
        context.proposals.follow(context.study.get_trials(deepcopy=False))
    found: Claim | NoTrial | None = None
    try:
        with study_lock(context.spec.database.url, context.spec.name):
            found = _claim(context, worker, build_market, supervisor)
    except LockLostError:  # the claimed trial stays valid: its lease has a lock of its own
        if found is None:
            raise
    return found


def _claim(
    context: StudyContext, worker: int, build_market: MarketBuilder, supervisor: Identity | None
) -> Claim | NoTrial:
    while True:
        census, takeable = _reap(context)
        found = _next(context, census, takeable)
        if isinstance(found, NoTrial):
            return found
        try:
            return _start(context, found, worker, build_market, supervisor)
        except _NothingToRunError as over:
            if over.short:
                return NoTrial.SHORT


def _reap(context: StudyContext) -> tuple[Census, set[int]]:
    """Close recorded trials, fail those lost twice; return all trials and those without a live run.

    Leases of ended trials, left by workers that were killed, are released.
    """
    census = Census(context.study.get_trials(deepcopy=False))
    told, waiting = tell_recorded(context, census.running) if census.running else (set(), set())
    takeable, stale = _lost_trials(context, census.running - told - waiting)
    for lease in stale:
        _fail_stale(context, lease)
    return Census(context.study.get_trials(deepcopy=False)) if told or stale else census, takeable


def _next(context: StudyContext, census: Census, takeable: set[int]) -> FrozenTrial | NoTrial:
    """Return the next trial: one without a live run, else a new one."""
    cap = cap_of(context)
    if closed := close_surplus(context, takeable, census.counted - cap, cap):
        census, takeable = Census(context.study.get_trials(deepcopy=False)), takeable - closed
    running, known = census.running, len(census.trials)
    if census.counted >= cap and not running:
        return NoTrial.FULL
    if (held := hold_reason(context)) is not None:
        return held
    whole = batch.complete_batch(context, census, cap)
    takeable |= set(range(known, len(whole)))
    if takeable:
        return whole[min(takeable)]
    if census.counted >= cap or (running and in_batches(context)):
        return NoTrial.WAIT
    if stop_at_limit(context, census.failed):
        return NoTrial.FAILING
    asked = batch.ask_next(context, census, cap)
    queued = len(asked) == known  # by hand, and taken now
    return asked[min(Census(asked).running - running)] if queued else asked[known]


def _lost_trials(context: StudyContext, numbers: set[int]) -> tuple[set[int], list[Lease]]:
    """Return the running trials without a live run, and the leases that were lost too often."""
    name = context.spec.name
    with context.engine.begin() as conn:
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
    # A trial has no lease if its worker died before it took one, or if it was added with its batch.
    free = (numbers - leased) | {lease.trial_number for lease in mine}
    return free - {lease.trial_number for lease in stale}, stale


def _fail_stale(context: StudyContext, lost: Lease) -> None:
    """Fail a trial whose workers died twice in one window: the trial may kill them."""
    message = (
        f"its worker died {lost.losses} times within one window (last: worker {lost.worker}, pid {lost.pid})"
    )
    with context.engine.begin() as conn:
        run = settle_killed(conn, lost, FailureKind.STALE, message)
        leases.release(conn, lost)
    tell(context, run)


def fail_claimed(context: StudyContext, lease: Lease, kind: str, message: str) -> RunRecord:
    """Fail the trial of a worker that was killed, or release it for one more try.

    A recorded outcome is kept. Raises StaleRunError if another run owns the trial.
    """
    with context.engine.begin() as conn:
        run = settle_killed(conn, lease, kind, message)
    _tell_failed(context, lease, run)
    return run


def _tell_failed(context: StudyContext, lease: Lease, run: RunRecord) -> None:
    """Close a failed trial in Optuna and release its lease; a retried trial has no lease any more."""
    if run.state == RunState.RETRIED:
        return
    with study_lock(context.spec.database.url, context.spec.name):
        tell(context, run)
        with context.engine.begin() as conn:
            leases.release(conn, lease)


def _start(
    context: StudyContext,
    found: FrozenTrial,
    worker: int,
    build_market: MarketBuilder,
    supervisor: Identity | None,
) -> Claim:
    """Fix the trial's parameters and seeds, take the lease and store the run."""
    spec = context.spec
    trial, parameters = _parameters(context, found)
    repeated = int(trial.user_attrs[REPETITION])
    resolved, windowed, engine = _resolve(spec, expand(context.space, parameters), build_market)
    with context.engine.begin() as conn:
        lease = leases.acquire(
            conn,
            spec.name,
            trial.number,
            worker=worker,
            lease_s=spec.worker.lease_s,
            now=server_time(conn),
            supervisor=supervisor,
        )
        # The fenced run may have recorded its outcome since the trials were read: then it keeps its lease.
        if lease.token > 1 and finished_runs(conn, spec.name, [trial.number]):
            raise _NothingToRunError
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
                versions=versions()
                | conditions(resolved.agent, engine)
                | source(resolved.feature.indicators, resolved.extensions),
                data_fingerprint=windowed.market.fingerprint if isinstance(windowed, WindowedMarket) else "",
                repetition=repeated,
            ),
        )
        adopted = adopt_windows(conn, lease, partial(_is_whole, context)) if run.attempt > 1 else []
    stored = trial_id(context.storage, spec.name, trial.number)
    context.storage.set_trial_user_attr(stored, "run_uuid", lease.run_uuid)
    if other := _trained_with(resolved, parameters):
        context.storage.set_trial_user_attr(stored, TRAINED_WITH, other)
    if isinstance(windowed, Outcome):
        with context.engine.begin() as conn:
            run = settle(conn, lease, windowed)
        _tell_failed(context, lease, run)
        raise _NothingToRunError(short=run.state == RunState.RETRIED and run.failure_kind in SHORTAGES)
    return Claim(trial, stored, lease, run, resolved, windowed, engine, tuple(adopted))


def _parameters(context: StudyContext, found: FrozenTrial) -> tuple[FrozenTrial, dict[str, Value]]:
    """Return a trial and its parameters; close it where a value queued by hand lies outside the space."""
    try:
        if (unfit := queued_value_error(context.space, found)) is not None:
            raise ValueError(unfit)
        trial = _drawn(context, found)
        return trial, suggest(context.space, trial)
    except ValueError as error:  # also raised by Optuna for a distribution that changed
        close_unfit(context, found.number, " ".join(str(error).split()))
        raise _NothingToRunError from None


def _trained_with(resolved: StudySpec, parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Return the drawn hyperparameters that timeframe or budget changed, with the values that are used."""
    trained = {f"agent.{key}": value for key, value in resolved.agent.hyperparameters.items()}
    return {path: trained[path] for path, value in parameters.items() if trained.get(path, value) != value}


def _is_whole(context: StudyContext, window: WindowRecord) -> bool:
    """Return whether all files of a finished window exist; a crash may have left its row alone."""
    path = context.spec.folder / (window.returns_path or "")
    return holds_agent(path.parent) and find_returns(path) is not None


def _resolve(
    spec: StudySpec, parameters: Mapping[str, Any], build_market: MarketBuilder
) -> tuple[StudySpec, WindowedMarket | Outcome, Engine | None]:
    """Return the spec of a trial with its market and engine, or the outcome of a trial that cannot start."""
    resolved, engine = spec, None
    try:
        resolved = at_timeframe(apply(spec, parameters), spec.data.target)
        engine = local_engine(resolved.agent)
        if resolved.train.passes is None:  # else each window has a budget of its own
            resolved = dataclasses.replace(resolved, agent=as_trained(resolved.agent))
        return resolved, build_market(resolved), engine
    except Exception as error:  # any error fails this trial with a kind, not the worker
        return resolved, failed(error, 0.0), engine


def is_timeframe_phase(spec: StudySpec) -> bool:
    """Return whether trials of this study share seeds across combinations."""
    return spec.name.endswith(f".{TIMEFRAME_PHASE}")


def _drawn(context: StudyContext, found: FrozenTrial) -> FrozenTrial:
    """Return a trial with parameters and repetition, drawn now if it was queued or added by hand."""
    if REPETITION in found.user_attrs:
        return found
    trial = Trial(context.study, trial_id(context.storage, context.spec.name, found.number))
    suggest(context.space, trial)
    others = context.study.get_trials(deepcopy=False)
    trial.set_user_attr(REPETITION, repetition(trial.number, trial.params, others))
    return context.study.get_trials(deepcopy=False)[trial.number]
