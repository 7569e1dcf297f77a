"""Run every stage of a trial once, tiny, in a temporary database and folder, before a study starts."""

import dataclasses
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from optimize.agents.agent import load_agent
from optimize.bundles.replay import WindowedMarkets, replay_bundle
from optimize.bundles.write import write_bundle
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import refuse_leaking_features
from optimize.errors import StudyStoppedError, WalkforgeError
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import SPAN_EDGES, WindowDates
from optimize.results import launches
from optimize.results.events import PreflightEvent
from optimize.results.records import RunRecord
from optimize.results.states import RunState
from optimize.search.space import offered_values, parse_space
from optimize.spawning import main_left_out
from optimize.study.context import StudyContext, enroll, open_study
from optimize.study.spec import StudySpec
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import perform
from optimize.study.workers.gpus import Device, worker_environment
from optimize.walkforward.files import SCALER, run_folder, window_folder, write_window
from optimize.walkforward.markets import build_windowed_market
from optimize.walkforward.representation import load_representation
from optimize.walkforward.run import WindowModel, evaluate_window, run_window, seed_of

STEPS_PER_ENV = 64


def preflight(spec: StudySpec, cache_dir: Path, echo: Callable[[str], None]) -> None:
    """Run every stage of a trial; raise StudyStoppedError with the name of the stage that failed."""
    with tempfile.TemporaryDirectory(prefix="walkforge-preflight-") as folder:
        with _stage("Data and windows", echo):
            first = build_windowed_market(spec, cache_dir).plan.windows[0]
            refuse_leaking_features(spec.data, offered_features(spec), spec.session)
            tiny = shrink_spec(spec, first, Path(folder))
            windowed = build_windowed_market(tiny, cache_dir)
        window = windowed.windows[0]
        with _stage("Training", echo):
            trained, measured, trades = run_window(tiny, windowed, window, seed_of([spec.seed, 0], 0, 0))
        with _stage("Saving and loading", echo):
            target = window_folder(Path(folder) / "saved", window.index, 0)
            sessions = windowed.market.session_date[slice(*window.test_sessions)]
            write_window(target, sessions, trained, measured, trades)
            loaded = WindowModel(
                load_agent(target),
                load_representation(target / SCALER, tiny.feature, windowed.market.feature_names),
            )
        with _stage("Evaluation", echo):
            again, made_again = evaluate_window(tiny, windowed, window, loaded)
            if not (np.array_equal(again.returns, measured.returns) and made_again.equals(trades)):
                raise WalkforgeError("the saved agent does not reproduce the returns of the trained one")
        with _stage("Recording", echo):
            run = _record(tiny, cache_dir)
        if run.score is None:  # an untrained agent may never trade: a bundle needs a score
            echo(f"[STAGE --] Export: not tried, the tiny agent has no score ({run.reason})")
            return
        with _stage("Export", echo):
            _export(tiny, run, Path(folder) / "bundle")


def offered_features(spec: StudySpec) -> FeatureSpec:
    """Return the study's features together with all choices of its space for them."""
    whole, space = dataclasses.asdict(spec.feature), parse_space(spec.space)
    for key, value in whole.items():
        if isinstance(value, list):
            offered = (each for listed in offered_values(space, f"feature.{key}") for each in listed)
            whole[key] = list(dict.fromkeys([*value, *offered]))
    return FeatureSpec(**whole)


def preflight_on(device: Device, spec: StudySpec, cache_dir: Path) -> None:
    """Run the preflight in a process that sees one GPU, so that this process allocates nothing on it."""
    spawn = multiprocessing.get_context("spawn")
    with worker_environment(device, 1), main_left_out(), ProcessPoolExecutor(1, mp_context=spawn) as process:
        process.submit(preflight, spec, cache_dir, _print_flushed).result()


def _print_flushed(line: str) -> None:
    print(line, flush=True)


@contextmanager
def preflight_logged(context: StudyContext) -> Iterator[None]:
    """Record events for `status`: the preflight with its process id, and its end."""
    with launches.log_process(context.engine, context.spec.name, PreflightEvent, "the preflight"):
        yield


def shrink_spec(spec: StudySpec, window: WindowDates, folder: Path) -> StudySpec:
    """Return the study cut to its first window and a budget of seconds, with its own folder and database."""
    agent = dataclasses.replace(spec.agent, total_timesteps=STEPS_PER_ENV * spec.agent.n_envs)
    score = ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0)
    span = {edge: str(getattr(window, edge)) for edge in SPAN_EDGES}
    windows = dataclasses.replace(spec.window, kind="canonical", file=None, spans=[span], embargo_sessions=0)
    database = dataclasses.replace(spec.database, url=f"sqlite:///{folder / 'preflight.db'}")
    return dataclasses.replace(
        spec,
        name="preflight",
        n_trials=1,
        agent=agent,
        train=dataclasses.replace(spec.train, passes=None, average=1),
        score=score,
        window=windows,
        database=database,
        output_dir=str(folder),
    )


def _record(tiny: StudySpec, cache_dir: Path) -> RunRecord:
    """Claim, run and record one trial of a temporary study."""
    context = open_study(tiny)
    try:
        enroll(context, build_windowed_market(tiny, cache_dir))
        claimed = claim(context, 0, lambda spec: build_windowed_market(spec, cache_dir))
        if not isinstance(claimed, Claim):
            raise WalkforgeError(f"a fresh study gave no trial: {claimed.value}")
        run = perform(context, claimed, stopping=lambda: False)
    finally:
        context.close()
    if run.state in (RunState.FAIL, RunState.RETRIED):
        raise WalkforgeError(run.failure_message or "the trial failed without a message")
    return run


def _export(tiny: StudySpec, run: RunRecord, bundle: Path) -> None:
    """Write a bundle of the preflight's trial and replay it."""
    markets: WindowedMarkets = {}
    source = run_folder(tiny.folder, run.trial_number, run.run_uuid)
    write_bundle(bundle, run, run.score or 0.0, source, markets)
    if not replay_bundle(bundle, markets=markets).bitwise:
        raise WalkforgeError("the bundle does not replay bit for bit")


@contextmanager
def _stage(name: str, echo: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except WalkforgeError as error:
        echo(f"[STAGE FAILED] {name}: {error}")
        raise StudyStoppedError(f"preflight failed in stage {name!r}: {error}") from error
    except Exception as error:  # any library may fail; the message names the stage
        echo(f"[STAGE FAILED] {name}: {type(error).__name__}: {error}")
        raise StudyStoppedError(
            f"preflight failed in stage {name!r}: {type(error).__name__}: {error}"
        ) from error
    echo(f"[STAGE ok] {name}")
