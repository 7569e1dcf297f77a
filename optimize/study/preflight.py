"""Run the whole path once, tiny, on a throwaway database and folder, before a study spends hours."""

import dataclasses
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from optimize.agents.agent import load_agent
from optimize.data.dataset import refuse_leaking_features
from optimize.data.scaling import load_scaler
from optimize.data.spec import FeatureSpec
from optimize.errors import StudyStoppedError, WalkforgeError
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import EDGES, WindowDates
from optimize.results import launches
from optimize.results.progress import PREFLIGHT
from optimize.results.records import RETRIED, RunRecord
from optimize.search.space import Choices, parse_space
from optimize.study.claims.caps import Claim, claim
from optimize.study.claims.perform import perform
from optimize.study.devices import Device, environment_of, main_left_out
from optimize.study.export.bundle import Grounds, replay_bundle
from optimize.study.export.contents import write_bundle
from optimize.study.files import SCALER, run_folder, window_folder, write_window
from optimize.study.handle import Handle, enroll, open_study
from optimize.study.spec import StudySpec
from optimize.study.trial import Trained, evaluate_window, lay_ground, run_window, seed_of

STEPS_PER_ENV = 64

Say = Callable[[str], None]


def preflight(spec: StudySpec, cache_dir: Path, say: Say) -> None:
    """Go through every stage of a trial; raise StudyStoppedError naming the stage that failed."""
    with tempfile.TemporaryDirectory(prefix="walkforge-preflight-") as folder:
        with _stage("Data and windows", say):
            first = lay_ground(spec, cache_dir).plan.windows[0]
            refuse_leaking_features(spec.data, offered_features(spec), spec.session)
            tiny = shrink(spec, first, Path(folder))
            ground = lay_ground(tiny, cache_dir)
        window = ground.windows[0]
        with _stage("Training", say):
            trained, measured, trades = run_window(tiny, ground, window, seed_of([spec.seed, 0], 0, 0))
        with _stage("Saving and loading", say):
            target = window_folder(Path(folder) / "saved", window.index, 0)
            sessions = ground.market.session_date[slice(*window.test_sessions)]
            write_window(target, sessions, trained, measured, trades)
            loaded = Trained(load_agent(target), load_scaler(target / SCALER, ground.market.feature_names))
        with _stage("Evaluation", say):
            again, made_again = evaluate_window(tiny, ground, window, loaded)
            if not (np.array_equal(again.returns, measured.returns) and made_again.equals(trades)):
                raise WalkforgeError("the saved agent does not reproduce the returns of the trained one")
        with _stage("Recording", say):
            run = _record(tiny, cache_dir)
        if run.score is None:  # an untrained agent may never trade, and what has no score has no bundle
            say(f"[STAGE --] Export: not tried, the tiny agent has no score ({run.reason})")
            return
        with _stage("Export", say):
            _export(tiny, run, Path(folder) / "bundle")


def offered_features(spec: StudySpec) -> FeatureSpec:
    """Return the study's features together with all that its space offers in their place."""
    whole = dataclasses.asdict(spec.feature)
    for parameter in parse_space(spec.space).parameters:
        group, _, key = parameter.path.partition(".")
        if group == "feature" and isinstance(whole.get(key), list) and isinstance(parameter.domain, Choices):
            offered = (each for value in parameter.domain.values if isinstance(value, list) for each in value)
            whole[key] = list(dict.fromkeys([*whole[key], *offered]))
    return FeatureSpec(**whole)


def preflight_on(device: Device, spec: StudySpec, cache_dir: Path) -> None:
    """Do so in a process of its own that sees one GPU, so that this one takes hold of none."""
    spawn = multiprocessing.get_context("spawn")
    with environment_of(device, 1), main_left_out(), ProcessPoolExecutor(1, mp_context=spawn) as process:
        process.submit(preflight, spec, cache_dir, _say_at_once).result()


def _say_at_once(line: str) -> None:
    print(line, flush=True)


@contextmanager
def announced(handle: Handle) -> Iterator[None]:
    """Let `status` see that the preflight runs, in which process, and how it ended."""
    with launches.announced(handle.engine, handle.spec.name, PREFLIGHT, "the preflight"):
        yield


def shrink(spec: StudySpec, window: WindowDates, folder: Path) -> StudySpec:
    """Return the same study with its first window and seconds of budget, in a place of its own."""
    agent = dataclasses.replace(spec.agent, total_timesteps=STEPS_PER_ENV * spec.agent.n_envs)
    score = ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0)
    span = {edge: str(getattr(window, edge)) for edge in EDGES}
    windows = dataclasses.replace(spec.window, kind="canonical", file=None, spans=[span], embargo_sessions=0)
    database = dataclasses.replace(spec.database, url=f"sqlite:///{folder / 'preflight.db'}")
    return dataclasses.replace(
        spec,
        name="preflight",
        n_trials=1,
        agent=agent,
        score=score,
        window=windows,
        database=database,
        output_dir=str(folder),
    )


def _record(tiny: StudySpec, cache_dir: Path) -> RunRecord:
    """Claim, run, record and tell one trial of a throwaway study."""
    handle = open_study(tiny)
    try:
        enroll(handle, lay_ground(tiny, cache_dir))
        claimed = claim(handle, 0, lambda spec: lay_ground(spec, cache_dir))
        if not isinstance(claimed, Claim):
            raise WalkforgeError(f"a fresh study gave no trial: {claimed.value}")
        run = perform(handle, claimed, stopping=lambda: False)
    finally:
        handle.close()
    if run.state in ("FAIL", RETRIED):
        raise WalkforgeError(run.failure_message or "the trial failed without a message")
    return run


def _export(tiny: StudySpec, run: RunRecord, bundle: Path) -> None:
    """Write a bundle of the throwaway trial and replay it."""
    grounds: Grounds = {}
    source = run_folder(tiny.folder, run.trial_number, run.run_uuid)
    write_bundle(bundle, run, run.score or 0.0, source, grounds)
    if not replay_bundle(bundle, grounds=grounds).bitwise:
        raise WalkforgeError("the bundle does not replay bit for bit")


@contextmanager
def _stage(name: str, say: Say) -> Iterator[None]:
    try:
        yield
    except WalkforgeError as error:
        say(f"[STAGE FAILED] {name}: {error}")
        raise StudyStoppedError(f"preflight failed in stage {name!r}: {error}") from error
    except Exception as error:  # any library may be the one that fails; the stage says where
        say(f"[STAGE FAILED] {name}: {type(error).__name__}: {error}")
        raise StudyStoppedError(
            f"preflight failed in stage {name!r}: {type(error).__name__}: {error}"
        ) from error
    say(f"[STAGE ok] {name}")
