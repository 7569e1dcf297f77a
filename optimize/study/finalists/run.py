"""Retrain the finalists of a study with its workers, rank them and draw the winner's curse."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from optimize.database import DatabaseSpec, Engine, open_engine
from optimize.errors import BadInputError, StudyStoppedError
from optimize.report.finalist_picture import write_finalists_picture
from optimize.report.format import format_score
from optimize.results.finalists import (
    Finalist,
    FinalistHoldout,
    FinalistRun,
    StressRecord,
    finalist_holdouts,
    finalist_runs,
    stress_of,
)
from optimize.results.queries import find_study
from optimize.results.records import load_study
from optimize.results.states import COUNTED, RunState
from optimize.study.context import open_study
from optimize.study.finalists.holdout import check_holdout, measure_on_holdout
from optimize.study.finalists.plan import FinalistPlan, choose_entrants
from optimize.study.finalists.ranking import rank_finalists
from optimize.study.finalists.retrain import Place
from optimize.study.finalists.work import entrant_markets, work_on_finalists
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.workers.machine_compatibility import MachineSettings, spec_on_machine
from optimize.study.workers.process import check_sockets
from optimize.study.workers.supervisor import Supervisor
from optimize.walkforward.files import FINALISTS_FOLDER, FINALISTS_LOCK

FINALISTS_PICTURE = Path("figures") / "finalists.png"
READ_S = 1.0  # interval at which ended runs are read


@dataclass(frozen=True)
class FinalistSettings:
    """Settings of `walkforge finalists`."""

    name: str
    top_n: int = 10
    seeds: int = 8
    volume_share: float = 0.01
    holdout: bool = False  # evaluate them on the holdout, which is logged, counted and then spent
    output_dir: str = "studies"
    data_path: str | None = None
    extensions: list[str] | None = None
    database: DatabaseSpec = field(default_factory=DatabaseSpec)
    worker: WorkerSpec = field(default_factory=WorkerSpec)


@dataclass(frozen=True)
class FinalistResults:
    """The ranking of a study's finalists, their stress tests, and the picture of both scores."""

    study: str
    finalists: list[Finalist]
    runs: list[FinalistRun]
    stress: list[StressRecord]
    holdout: list[FinalistHoldout]
    picture: Path


def run_finalists(settings: FinalistSettings, echo: Callable[[str], None]) -> FinalistResults:
    """Retrain the best parameter sets on fresh seeds, or go on with it; return their ranking.

    A run that has ended is never trained again, and more seeds or a larger top_n add runs.
    """
    if settings.worker.kind != "local":
        raise BadInputError(
            f"worker={settings.worker.kind} is not allowed: finalists train on this machine, also those of a "
            "study that ran on a cluster; leave it out, or give worker=local worker.count=4"
        )
    check_sockets()
    if settings.worker.trial_timeout_s is not None or settings.worker.max_memory_mb is not None:
        echo("worker.trial_timeout_s and worker.max_memory_mb hold for trials of a study, not for finalists")
    spec = _stored_spec(settings)
    folder = spec.folder / FINALISTS_FOLDER
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / FINALISTS_LOCK, timeout=0), closing(open_study(spec)) as context:
            entrants = choose_entrants(context.engine, spec, settings.top_n, settings.data_path)
            plan = FinalistPlan(
                spec.name, spec.seed, entrants, settings.seeds, settings.volume_share, spec.gate
            )
            if len(entrants) < settings.top_n:
                echo(f"top_n={settings.top_n} were asked for; {len(entrants)} parameter sets are feasible")
            waiting = _waiting(context.engine, plan)
            echo(
                f"{spec.name}: {len(entrants)} parameter sets on {plan.seeds} fresh seeds, "
                f"{waiting} of {len(entrants) * plan.seeds} runs to train, "
                f"{spec.worker.count} worker{'s' * (spec.worker.count != 1)}"
            )
            market_of = entrant_markets(spec)
            if settings.holdout:
                check_holdout(plan, market_of)
            progress = _Progress(context.engine, plan, echo)
            Supervisor(context, target=partial(work_on_finalists, plan)).run(progress)
            progress.refresh()
            finalists = _ranked(context.engine, plan)
            if settings.holdout and (left := _waiting(context.engine, plan)):
                echo(f"the holdout stays closed: {left} runs have not ended; launch it again")
            elif settings.holdout:
                measure_on_holdout(Place(spec.folder, context.engine), plan, finalists, market_of, echo)
            return _results(context.engine, spec, plan, finalists)
    except Timeout:
        raise BadInputError(
            f"another `walkforge finalists name={settings.name}` runs: wait for its end, or end it"
        ) from None


def _stored_spec(settings: FinalistSettings) -> StudySpec:
    """Return the study's spec with the folders, the database and the workers of this machine."""
    database = settings.database
    engine = open_engine(database.url, read_only=True, busy_timeout_s=database.busy_timeout_s)
    try:
        study = find_study(engine, settings.name)
        with engine.connect() as conn:
            record = load_study(conn, study)
    finally:
        engine.dispose()
    if record is None:
        raise BadInputError(
            f"study {study} has no record of its own: it was not started by `walkforge study`"
        )
    # Limits of a trial do not hold: each parameter set has trained within them before.
    worker = dataclasses.replace(settings.worker, trial_timeout_s=None, max_memory_mb=None)
    machine = MachineSettings(database=database, worker=worker, extensions=settings.extensions)
    spec = spec_on_machine(record, settings.output_dir, machine)
    if not spec.folder.is_dir():
        raise BadInputError(
            f"output_dir={settings.output_dir}: there is no folder {spec.folder}: name that of the study"
        )
    return spec


def _waiting(engine: Engine, plan: FinalistPlan) -> int:
    """Return how many runs of the plan have not ended."""
    with engine.connect() as conn:
        ended = {
            (run.parameter_set, run.seed) for run in finalist_runs(conn, plan.study) if run.state in COUNTED
        }
    return sum((entrant.parameter_set, seed) not in ended for entrant, seed in plan.runs())


@dataclass
class _Progress:
    """Prints a line for each run that ends, read at most every READ_S seconds."""

    engine: Engine
    plan: FinalistPlan
    echo: Callable[[str], None]
    known: set[str] = field(default_factory=set)
    looked_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.known = {run.run_uuid for run in self._ended()}

    def __call__(self) -> None:
        if time.monotonic() - self.looked_at >= READ_S:
            self.refresh()

    def refresh(self) -> None:
        """Print the runs that ended since the last call."""
        self.looked_at = time.monotonic()
        for run in self._ended():
            if run.run_uuid not in self.known:
                self.known.add(run.run_uuid)
                self.echo(_line(run))

    def _ended(self) -> list[FinalistRun]:
        with self.engine.connect() as conn:
            found = finalist_runs(conn, self.plan.study)
        return [run for run in found if run.state in COUNTED or _failed_now(run, self.plan)]


def _failed_now(run: FinalistRun, plan: FinalistPlan) -> bool:
    """Return whether a run failed since the plan was launched."""
    return run.state == RunState.FAIL and run.finished_at is not None and run.finished_at >= plan.launched_at


def _line(run: FinalistRun) -> str:
    told = f"score {format_score(run.score)}" if run.score is not None else f"{run.state}: {_reason(run)}"
    return f"trial {run.trial_number}, seed {run.seed}: {told} ({run.seconds or 0.0:.1f} s)"


def _reason(run: FinalistRun) -> str:
    return run.failure_message or run.reason or "no reason is stored"


def _ranked(engine: Engine, plan: FinalistPlan) -> list[Finalist]:
    """Rank the ended seeds; raise StudyStoppedError where none has ended."""
    finalists = rank_finalists(engine, plan)
    if not finalists:
        with engine.connect() as conn:
            runs = finalist_runs(conn, plan.study)
        failed = next((run for run in runs if _failed_now(run, plan)), None)
        why = "it was interrupted" if failed is None else f"the first failed with {_reason(failed)}"
        raise StudyStoppedError(f"no run of a finalist of {plan.study} has ended: {why}; launch it again")
    return finalists


def _results(
    engine: Engine, spec: StudySpec, plan: FinalistPlan, finalists: list[Finalist]
) -> FinalistResults:
    """Draw the ranking and return it with all that stands behind it."""
    with engine.connect() as conn:
        runs, stress = finalist_runs(conn, plan.study), stress_of(conn, plan.study)
        holdout = finalist_holdouts(conn, plan.study)
    ended = [run for run in runs if run.state in COUNTED]
    picture = spec.folder / FINALISTS_PICTURE
    write_finalists_picture(picture, plan.study, finalists, ended)
    return FinalistResults(plan.study, finalists, runs, stress, holdout, picture)
