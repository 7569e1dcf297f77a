"""Run one claimed trial: renew its lease, store every window, record the outcome, tell Optuna."""

import copy
import dataclasses
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from envs.plain import to_plain
from optimize.database import server_time, study_lock
from optimize.errors import StaleRunError
from optimize.evaluate.gates import blocking_gate
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window
from optimize.results import leases
from optimize.results.instrument_names import instruments_of
from optimize.results.outcome import gate_rule, outcome_of, window_record
from optimize.results.records import BaselineRecord, Outcome, RunRecord, WindowRecord, load_baselines
from optimize.results.returns import save_returns
from optimize.results.runs import save_window
from optimize.results.states import RunState, TryKind
from optimize.results.study_names import is_nested
from optimize.results.tries import Try, record_try
from optimize.study.context import StudyContext
from optimize.study.failures.classify import failed
from optimize.study.failures.shortages import in_full, patiently, write_log
from optimize.study.trials.claim import Claim
from optimize.study.trials.probe import probe_beside
from optimize.study.trials.reuse import trained_before
from optimize.study.trials.settle import settle
from optimize.study.trials.tell import tell
from optimize.walkforward.files import (
    RETURNS,
    adopt_files,
    read_returns,
    run_folder,
    window_folder,
    write_window,
)
from optimize.walkforward.run import TrialResult, WindowKey, WindowModel, run_trial

RENEWALS_PER_LEASE = 4
RENEW_AGAIN_S = 1.0  # after a renewal that failed: before the next claim of a worker that waits as well
PRUNED_FOR = {"median": "below the median", "successive_halving": "not in the better half"}
UNCONFINED: AbstractContextManager[None] = nullcontext()


class StopRequestedError(Exception):
    """The study is asked to stop; the trial goes back to be taken over."""


class Heartbeat:
    """Renew a lease from a thread of its own until the trial ends or another run owns it."""

    def __init__(self, context: StudyContext, lease: leases.Lease) -> None:
        self._context = context
        self._lease = lease
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self.window: int | None = None
        self.stale: StaleRunError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        pause_s = self._lease.lease_s / RENEWALS_PER_LEASE
        failing = False
        while not self._ended.wait(min(pause_s, RENEW_AGAIN_S) if failing else pause_s):
            try:
                self.renew()
                failing = False
            except StaleRunError as error:
                self.stale = error
                return
            except Exception as error:  # whatever it is, the lease may outlive it, and must have its chance
                if not failing:
                    write_log(in_full(error))
                failing = True

    def renew(self) -> None:
        """Prolong the lease; raise StaleRunError where another run owns the trial."""
        with self._context.engine.begin() as conn:
            leases.renew(conn, self._lease, server_time(conn), self.window)


def perform(
    context: StudyContext,
    claim: Claim,
    stopping: Callable[[], bool],
    room: AbstractContextManager[None] = UNCONFINED,
) -> RunRecord:
    """Run a claimed trial to its record; raise StopRequestedError or StaleRunError between windows.

    One that failed for a passing reason comes back RETRIED: its trial waits for the next claim.

    `room` is held while it trains: its place on a device, which it may have to wait for.
    """
    started = time.perf_counter()
    folder = run_folder(context.spec.folder, claim.run.trial_number, claim.run.run_uuid)
    with Heartbeat(context, claim.lease) as heartbeat:
        try:
            with room:
                result = _run(context, claim, folder, heartbeat, stopping)
            outcome = _outcome(context, claim, result, time.perf_counter() - started)
        except StopRequestedError:
            patiently(lambda: _give_back(context, claim.lease))
            raise
        except StaleRunError:
            raise
        except Exception as error:  # whatever a trainer raises fails its trial, typed, and not the worker
            outcome = failed(error, time.perf_counter() - started)
        run = patiently(lambda: _settle(context, claim.lease, outcome))
        if run.state == RunState.RETRIED:
            return run
    patiently(lambda: _store_outcome(context, claim.lease, run))
    return run


def _give_back(context: StudyContext, lease: leases.Lease) -> None:
    with context.engine.begin() as conn:
        leases.abandon(conn, lease)


def _settle(context: StudyContext, lease: leases.Lease, outcome: Outcome) -> RunRecord:
    with context.engine.begin() as conn:
        return settle(conn, lease, outcome)


def _store_outcome(context: StudyContext, lease: leases.Lease, run: RunRecord) -> None:
    with study_lock(context.spec.database.url, context.spec.name):
        tell(context, run)
        with context.engine.begin() as conn:
            leases.release(conn, lease)


def _run(
    context: StudyContext, claim: Claim, folder: Path, heartbeat: Heartbeat, stopping: Callable[[], bool]
) -> TrialResult:
    finished = _adopt(context, claim, folder)
    own = copy.deepcopy(claim.trial)
    reported = own.last_step
    heartbeat.window = 0
    ended = dict(finished)
    gates = gate_rule(claim.spec, claim.spec.gate, claim.windowed.market.sessions_per_year)

    def keep(
        window: Window, repeat: int, trained: WindowModel, measured: WindowResult, trades: Trades
    ) -> None:
        target = window_folder(folder, window.index, repeat)
        sessions = claim.windowed.market.session_date[slice(*window.test_sessions)]
        path = (target / RETURNS).relative_to(context.spec.folder)
        market = claim.windowed.market
        ended[window.index, repeat] = measured
        so_far = [ended[number, repeat] for number in range(window.index + 1)]
        record = window_record(claim.run.run_uuid, market, window, repeat, measured, str(path))
        record = dataclasses.replace(record, gate=blocking_gate(gates, [so_far]))

        def store() -> None:
            _check_owned(heartbeat)
            write_window(target, sessions, trained, measured, trades)
            with context.engine.begin() as conn:
                if claim.lease.losses:
                    leases.forget_losses(conn, claim.lease)
                save_window(conn, claim.lease, record)
                record_try(conn, _try_of(claim, record))
                save_returns(conn, record.run_uuid, window.index, repeat, measured.returns, measured.levels)

        patiently(store)  # retry: a full disk must not discard hours of training
        heartbeat.window = window.index + (repeat + 1 == claim.spec.score.repeats)
        _check_owned(heartbeat)
        if stopping():  # only now: the window that ran when the stop came is not lost
            raise StopRequestedError

    def report(step: int, value: float) -> bool:
        if reported is not None and step < reported:  # a lost run reported it, and was not stopped by it
            return False
        if step != reported:
            patiently(lambda: _report(context, claim, step, value))
            own.intermediate_values[step] = value
        return patiently(lambda: context.study.pruner.prune(context.study, own))

    return run_trial(
        claim.spec,
        claim.windowed,
        claim.entropy,
        keep=keep,
        report=report,
        engine=claim.engine,
        finished=finished,
    )


def _adopt(context: StudyContext, claim: Claim, folder: Path) -> dict[WindowKey, WindowResult]:
    """Take over the windows that lost runs finished, or another study trained identically: files first."""
    finished: dict[WindowKey, WindowResult] = {}
    for record in claim.adopted:
        source = context.spec.folder / (record.returns_path or "")
        target = window_folder(folder, record.window, record.repeat)
        path = str((target / RETURNS).relative_to(context.spec.folder))
        adopted = dataclasses.replace(record, returns_path=path)
        measured = read_returns(source)[1]
        patiently(partial(_copy, context, claim, source.parent, target, adopted, measured))
        finished[record.window, record.repeat] = measured
    with context.engine.connect() as conn:
        alike = list(trained_before(context, conn, claim, finished))
    for source, record in alike:
        target = window_folder(folder, record.window, record.repeat)
        path = str((target / RETURNS).relative_to(context.spec.folder))
        own = dataclasses.replace(record, run_uuid=claim.run.run_uuid, returns_path=path, seconds=0.0)
        measured = read_returns(source)[1]
        patiently(partial(_copy, context, claim, source.parent, target, own, measured))
        finished[record.window, record.repeat] = measured
    return finished


def _copy(
    context: StudyContext,
    claim: Claim,
    source: Path,
    target: Path,
    adopted: WindowRecord,
    measured: WindowResult,
) -> None:
    adopt_files(source, target)
    with context.engine.begin() as conn:
        save_window(conn, claim.lease, adopted)
        save_returns(
            conn, adopted.run_uuid, adopted.window, adopted.repeat, measured.returns, measured.levels
        )
        record_try(conn, _try_of(claim, adopted))


def _try_of(claim: Claim, window: WindowRecord) -> Try:
    """Return the try of a run that evaluated a window."""
    return Try(
        run_uuid=claim.run.run_uuid,
        kind=TryKind.NESTED if is_nested(claim.run.study_name) else TryKind.TRIAL,
        study_name=claim.run.study_name,
        symbols=instruments_of(to_plain(claim.spec.data), claim.windowed.market.symbols),
        first=window.test_start,
        end=window.test_end,
        trial_number=claim.run.trial_number,
    )


def _report(context: StudyContext, claim: Claim, step: int, value: float) -> None:
    """Store the value that pruners compare; raise StaleRunError if another run owns the trial.

    Optuna's storage commits by itself, so the fencing token is checked before and after the write. A run that
    loses its trial between the two leaves a value of the same parameters, seeds and windows as its
    successor's, which the successor overwrites when it gets there. A finished trial refuses the write.
    """
    _check_lease(context, claim.lease)
    context.storage.set_trial_intermediate_value(claim.trial_id, step, value)
    _check_lease(context, claim.lease)


def _check_lease(context: StudyContext, lease: leases.Lease) -> None:
    with context.engine.connect() as conn:
        leases.check_owned(conn, lease)


def _check_owned(heartbeat: Heartbeat) -> None:
    if heartbeat.stale is not None:
        raise heartbeat.stale


def _outcome(context: StudyContext, claim: Claim, result: TrialResult, seconds: float) -> Outcome:
    baselines = patiently(lambda: _baselines(context))
    study = context.spec.name
    probe = patiently(lambda: probe_beside(context.engine, study, claim.spec, claim.windowed))
    outcome = outcome_of(claim.spec, claim.windowed, result, seconds, baselines, claim.spec.gate, probe)
    if result.pruned_at is None:
        return outcome
    reason = f"pruner: {PRUNED_FOR[claim.spec.pruner.name]} after window {result.pruned_at}"
    return dataclasses.replace(outcome, reason=reason)


def _baselines(context: StudyContext) -> list[BaselineRecord]:
    with context.engine.connect() as conn:
        return load_baselines(conn, context.spec.name)
