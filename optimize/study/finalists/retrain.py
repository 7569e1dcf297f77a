"""Train one parameter set on one fresh seed, window by window, each stored before the next starts."""

import dataclasses
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from envs.plain import to_plain
from optimize.agents.engines import local_engine
from optimize.database import Engine
from optimize.errors import DamagedReturnsError, WalkforgeError
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window
from optimize.results.finalists import FinalistRun, finish_finalist, save_finalist_window, start_finalist
from optimize.results.instrument_names import instruments_of
from optimize.results.outcome import outcome_of, window_record
from optimize.results.records import Outcome, WindowRecord, load_baselines
from optimize.results.returns import save_returns
from optimize.results.runs import windows_of
from optimize.results.states import COUNTED, FailureKind, TryKind
from optimize.results.tries import Try, record_try
from optimize.study.failures.classify import failed
from optimize.study.failures.shortages import patiently
from optimize.study.finalists.plan import Entrant, FinalistPlan
from optimize.study.trials.execute import StopRequestedError
from optimize.study.trials.probe import probe_beside
from optimize.walkforward.files import (
    RETURNS,
    finalist_folder,
    holds_agent,
    read_returns,
    window_folder,
    write_window,
)
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import WindowKey, WindowModel, run_trial
from optimize.walkforward.versions import conditions, source, versions

RUN_LOCK, ATTEMPTS = ".lock", "attempts"
MOST_DEATHS = 2  # of its worker within one window, after which a run fails


@dataclass(frozen=True, eq=False)
class Place:
    """Where the runs of a plan are stored: the study's folder and its database."""

    folder: Path
    engine: Engine


def retrain(
    place: Place,
    plan: FinalistPlan,
    entrant: Entrant,
    seed: int,
    market_of: Callable[[Entrant], WindowedMarket],
    stopping: Callable[[], bool],
) -> FinalistRun | None:
    """Run an entrant on a fresh seed, or go on with a run that was interrupted; return the ended run.

    None while another worker has it, or where it failed since the plan was launched.
    """
    folder = finalist_folder(place.folder, entrant.parameter_set, seed)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / RUN_LOCK, timeout=0):
            return _retrain(place, plan, entrant, seed, market_of, stopping)
    except Timeout:
        return None


def _retrain(
    place: Place,
    plan: FinalistPlan,
    entrant: Entrant,
    seed: int,
    market_of: Callable[[Entrant], WindowedMarket],
    stopping: Callable[[], bool],
) -> FinalistRun | None:
    started = time.perf_counter()
    folder = finalist_folder(place.folder, entrant.parameter_set, seed)
    run = patiently(lambda: _begin(place, plan, entrant, seed))
    if run is None or run.state in COUNTED:
        return run
    try:
        done = _finished(place, run, folder)
        _count_attempt(folder, len(done))
        outcome = _train(place, plan, run, entrant, folder, market_of(entrant), done, stopping)
    except StopRequestedError:
        (folder / ATTEMPTS).unlink(missing_ok=True)
        raise
    except WorkerDiedError as error:
        outcome = dataclasses.replace(failed(error, 0.0), failure_kind=FailureKind.STALE)
    except Exception as error:  # whatever a trainer raises fails its run, typed, and not the worker
        outcome = failed(error, time.perf_counter() - started)
    ended = patiently(lambda: _finish(place, run.run_uuid, outcome))
    (folder / ATTEMPTS).unlink(missing_ok=True)
    return ended


def _begin(place: Place, plan: FinalistPlan, entrant: Entrant, seed: int) -> FinalistRun | None:
    """Store the run; None where it failed since the plan was launched."""
    spec = entrant.spec
    made_with = conditions(spec.agent, local_engine(spec.agent))
    run = FinalistRun(
        run_uuid=str(uuid.uuid4()),
        study_name=plan.study,
        parameter_set=entrant.parameter_set,
        seed=seed,
        trial_number=entrant.trial_number,
        parameters=entrant.parameters,
        spec=to_plain(spec),
        entropy=plan.entropy(seed),
        versions=versions() | made_with | source(spec.feature.indicators, spec.extensions),
        data_fingerprint=entrant.data_fingerprint,
    )
    with place.engine.begin() as conn:
        return start_finalist(conn, run, plan.launched_at)


def _train(
    place: Place,
    plan: FinalistPlan,
    run: FinalistRun,
    entrant: Entrant,
    folder: Path,
    windowed: WindowedMarket,
    done: dict[WindowKey, WindowResult],
    stopping: Callable[[], bool],
) -> Outcome:
    """Train the windows that are not done, store each, and return the outcome of all."""
    began = time.perf_counter()

    def keep(
        window: Window, repeat: int, trained: WindowModel, measured: WindowResult, trades: Trades
    ) -> None:
        target = window_folder(folder, window.index, repeat)
        sessions = windowed.market.session_date[slice(*window.test_sessions)]
        path = str((target / RETURNS).relative_to(place.folder))
        record = window_record(run.run_uuid, windowed.market, window, repeat, measured, path)

        def store() -> None:
            write_window(target, sessions, trained, measured, trades)
            with place.engine.begin() as conn:
                save_finalist_window(conn, record)
                save_returns(conn, run.run_uuid, window.index, repeat, measured.returns, measured.levels)
                record_try(conn, _try_of(run, record, windowed))

        patiently(store)
        (folder / ATTEMPTS).unlink(missing_ok=True)
        if stopping() and window.index < len(windowed.windows) - 1:
            raise StopRequestedError

    result = run_trial(
        entrant.spec, windowed, list(run.entropy), keep=keep, report=lambda step, value: False, finished=done
    )
    earlier = sum(measured.seconds for measured in done.values())
    seconds = earlier + time.perf_counter() - began
    probe = probe_beside(place.engine, run.study_name, entrant.spec, windowed)
    with place.engine.connect() as conn:
        baselines = load_baselines(conn, run.study_name)
    return outcome_of(entrant.spec, windowed, result, seconds, baselines, plan.gates, probe)


def _try_of(run: FinalistRun, window: WindowRecord, windowed: WindowedMarket) -> Try:
    """Return the try of a run that evaluated a window; it counts, because the best is chosen again."""
    symbols = instruments_of(run.spec["data"], windowed.market.symbols)
    return Try(
        run_uuid=run.run_uuid,
        kind=TryKind.FINALIST,
        study_name=run.study_name,
        symbols=symbols,
        first=window.test_start,
        end=window.test_end,
        trial_number=run.trial_number,
    )


def _finished(place: Place, run: FinalistRun, folder: Path) -> dict[WindowKey, WindowResult]:
    """Return the windows that an interrupted run stored, with whole files."""
    with place.engine.connect() as conn:
        stored = windows_of(conn, run.run_uuid)
    found: dict[WindowKey, WindowResult] = {}
    for window in stored:
        target = window_folder(folder, window.window, window.repeat)
        with suppress(DamagedReturnsError):
            if holds_agent(target):
                found[window.window, window.repeat] = read_returns(target / RETURNS)[1]
    return found


def _count_attempt(folder: Path, windows: int) -> None:
    """Count an attempt that stored no window so far; raise after too many that killed their worker."""
    path = folder / ATTEMPTS
    deaths = int(path.read_text()) if path.is_file() else 0
    if deaths >= MOST_DEATHS:
        raise WorkerDiedError(f"its worker died {deaths} times within window {windows}")
    path.write_text(str(deaths + 1))


class WorkerDiedError(WalkforgeError):
    """The worker of a run died too often within one window."""


def _finish(place: Place, run_uuid: str, outcome: Outcome) -> FinalistRun:
    with place.engine.begin() as conn:
        return finish_finalist(conn, run_uuid, outcome)
