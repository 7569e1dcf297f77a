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

from optimize.database import server_time, study_lock
from optimize.errors import StaleRunError
from optimize.evaluate.baselines import HOLD
from optimize.evaluate.summary import summarise
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window, train_start
from optimize.results import leases
from optimize.results.records import (
    RETRIED,
    SCORE_ERROR,
    BaselineRecord,
    Outcome,
    RunRecord,
    WindowRecord,
    load_baselines,
)
from optimize.results.runs import save_window
from optimize.search.storage import set_intermediate
from optimize.study.claims.caps import Claim
from optimize.study.claims.patience import in_full, patiently, say
from optimize.study.claims.telling import illustrate, tell
from optimize.study.claims.triage import failed, settle
from optimize.study.files import (
    RETURNS,
    adopt_files,
    read_returns,
    run_folder,
    window_folder,
    write_window,
)
from optimize.study.handle import Handle
from optimize.study.trial import Key, Measured, Trained, TrialResult, run_trial

RENEWALS_PER_LEASE = 4
RENEW_AGAIN_S = 1.0  # after a renewal that failed: before the next claim of a worker that waits as well
PRUNED_FOR = {"median": "below the median", "successive_halving": "not in the better half"}
NO_ROOM: AbstractContextManager[None] = nullcontext()


class StopRequestedError(Exception):
    """The study is asked to stop; the trial goes back to be taken over."""


class Heartbeat:
    """Renew a lease from a thread of its own until the trial ends or another run owns it."""

    def __init__(self, handle: Handle, lease: leases.Lease) -> None:
        self._handle = handle
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
                    say(in_full(error))
                failing = True

    def renew(self) -> None:
        """Prolong the lease; raise StaleRunError where another run owns the trial."""
        with self._handle.engine.begin() as conn:
            leases.renew(conn, self._lease, server_time(conn), self.window)


def perform(
    handle: Handle,
    claim: Claim,
    stopping: Callable[[], bool],
    room: AbstractContextManager[None] = NO_ROOM,
) -> RunRecord:
    """Run a claimed trial to its record; raise StopRequestedError or StaleRunError between windows.

    One that failed for a passing reason comes back RETRIED: its trial waits for the next claim.

    `room` is held while it trains: its place on a device, which it may have to wait for.
    """
    started = time.perf_counter()
    folder = run_folder(handle.spec.folder, claim.run.trial_number, claim.run.run_uuid)
    with Heartbeat(handle, claim.lease) as heartbeat:
        try:
            with room:
                result = _run(handle, claim, folder, heartbeat, stopping)
            outcome = _outcome(handle, claim, result, time.perf_counter() - started)
        except StopRequestedError:
            patiently(lambda: _give_back(handle, claim.lease))
            raise
        except StaleRunError:
            raise
        except Exception as error:  # whatever a trainer raises fails its trial, typed, and not the worker
            outcome = failed(error, time.perf_counter() - started)
        run = patiently(lambda: _settle(handle, claim.lease, outcome))
        if run.state == RETRIED:
            return run
        patiently(lambda: illustrate(handle, run))
    patiently(lambda: _tell(handle, claim.lease, run))
    return run


def _give_back(handle: Handle, lease: leases.Lease) -> None:
    with handle.engine.begin() as conn:
        leases.abandon(conn, lease)


def _settle(handle: Handle, lease: leases.Lease, outcome: Outcome) -> RunRecord:
    with handle.engine.begin() as conn:
        return settle(conn, lease, outcome)


def _tell(handle: Handle, lease: leases.Lease, run: RunRecord) -> None:
    with study_lock(handle.spec.database.url, handle.spec.name):
        tell(handle, run)
        with handle.engine.begin() as conn:
            leases.release(conn, lease)


def _run(
    handle: Handle, claim: Claim, folder: Path, heartbeat: Heartbeat, stopping: Callable[[], bool]
) -> TrialResult:
    finished = _adopt(handle, claim, folder)
    own = copy.deepcopy(claim.trial)
    reported = own.last_step
    heartbeat.window = 0

    def keep(window: Window, repeat: int, trained: Trained, measured: Measured, trades: Trades) -> None:
        target = window_folder(folder, window.index, repeat)
        sessions = claim.ground.market.session_date[slice(*window.test_sessions)]
        path = (target / RETURNS).relative_to(handle.spec.folder)
        record = window_record(claim, window, repeat, measured, str(path))

        def store() -> None:
            _check_owned(heartbeat)
            write_window(target, sessions, trained, measured, trades)
            with handle.engine.begin() as conn:
                leases.forget_losses(conn, claim.lease)
                save_window(conn, claim.lease, record)

        patiently(store)  # what was trained for hours is not given up for a disk that is full now
        heartbeat.window = window.index + (repeat + 1 == claim.spec.score.repeats)
        _check_owned(heartbeat)
        if stopping():  # only now: the window that ran when the stop came is not lost
            raise StopRequestedError

    def report(step: int, value: float) -> bool:
        if reported is not None and step < reported:  # a lost run reported it, and was not stopped by it
            return False
        if step != reported:
            patiently(lambda: _report(handle, claim, step, value))
            own.intermediate_values[step] = value
        return patiently(lambda: handle.study.pruner.prune(handle.study, own))

    return run_trial(claim.spec, claim.ground, claim.entropy, keep=keep, report=report, finished=finished)


def _adopt(handle: Handle, claim: Claim, folder: Path) -> dict[Key, Measured]:
    """Take over the windows that lost runs finished: files first, then what they measured."""
    finished: dict[Key, Measured] = {}
    for record in claim.adopted:
        source = handle.spec.folder / (record.returns_path or "")
        target = window_folder(folder, record.window, record.repeat)
        path = str((target / RETURNS).relative_to(handle.spec.folder))
        adopted = dataclasses.replace(record, returns_path=path)
        patiently(partial(_copy, handle, claim.lease, source.parent, target, adopted))
        finished[record.window, record.repeat] = read_returns(source)[1]
    return finished


def _copy(handle: Handle, lease: leases.Lease, source: Path, target: Path, adopted: WindowRecord) -> None:
    adopt_files(source, target)
    with handle.engine.begin() as conn:
        save_window(conn, lease, adopted)


def _report(handle: Handle, claim: Claim, step: int, value: float) -> None:
    """Store what a pruner looks at, as Optuna does, while the run still owns its trial."""
    lease = claim.lease
    with handle.engine.begin() as conn:
        leases.check_token(conn, lease.study_name, lease.trial_number, lease.run_uuid, lease.token)
        set_intermediate(conn, claim.trial._trial_id, step, value)


def _check_owned(heartbeat: Heartbeat) -> None:
    if heartbeat.stale is not None:
        raise heartbeat.stale


def window_record(
    claim: Claim, window: Window, repeat: int, measured: Measured, returns_path: str
) -> WindowRecord:
    """Return the row of one finished window."""
    dates, metrics = window.dates, dataclasses.asdict(measured.metrics)
    same = {f.name for f in dataclasses.fields(WindowRecord)} & metrics.keys()
    return WindowRecord(
        run_uuid=claim.run.run_uuid,
        window=window.index,
        repeat=repeat,
        train_start=train_start(window, claim.ground.market),
        train_end=dates.train_end,
        test_start=dates.test_start,
        test_end=dates.test_end,
        train_bars=window.train_last - window.train_first + 1,
        test_bars=metrics["bars"],
        seconds=measured.seconds,
        returns_path=returns_path,
        reward_active_share=measured.reward_active_share,
        **{name: metrics[name] for name in same},
    )


def _outcome(handle: Handle, claim: Claim, result: TrialResult, seconds: float) -> Outcome:
    """Return COMPLETE for a finite, feasible score of all windows, else PRUNED with its reason."""
    metrics = aggregate(result, claim.ground.market.sessions_per_year, claim.spec.score.risk_free)
    baselines = patiently(lambda: _baselines(handle))
    timeframe = claim.spec.data.target
    hold = [b.score for b in baselines if b.timeframe == timeframe and b.name == HOLD]
    metrics["buy_and_hold"] = hold[0] if hold else None
    metrics["sessions_per_year"] = claim.ground.market.sessions_per_year
    metrics[SCORE_ERROR] = result.score.standard_error
    outcome = Outcome("PRUNED", seconds, standard_error=result.score.standard_error, metrics=metrics)
    if result.pruned_at is not None:
        reason = f"pruner: {PRUNED_FOR[claim.spec.pruner.name]} after window {result.pruned_at}"
        return dataclasses.replace(outcome, reason=reason)
    if not result.score.feasible:
        return dataclasses.replace(outcome, reason=result.score.reason)
    return dataclasses.replace(outcome, state="COMPLETE", score=result.score.value)


def _baselines(handle: Handle) -> list[BaselineRecord]:
    with handle.engine.connect() as conn:
        return load_baselines(conn, handle.spec.name)


def aggregate(result: TrialResult, sessions_per_year: float, risk_free: float) -> dict[str, float | None]:
    """Return the metrics over all windows, as the median over repeats."""
    return dict(summarise(result.measured, sessions_per_year, risk_free))
