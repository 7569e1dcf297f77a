"""Run the whole path once, tiny, on a throwaway database and folder, before a study spends hours."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from optimize.agents.agent import load_agent
from optimize.data.scaling import load_scaler
from optimize.errors import StudyStoppedError, WalkforgeError
from optimize.evaluate.score import ScoreSpec
from optimize.study.caps import Claim, claim
from optimize.study.files import SCALER, window_folder, write_window
from optimize.study.handle import enroll, open_study
from optimize.study.perform import perform
from optimize.study.spec import StudySpec
from optimize.study.trial import Ground, Trained, evaluate_window, lay_ground, run_window, seed_of

STEPS_PER_ENV = 64

Say = Callable[[str], None]


def preflight(spec: StudySpec, cache_dir: Path, say: Say) -> None:
    """Go through every stage of a trial; raise StudyStoppedError naming the stage that failed."""
    with tempfile.TemporaryDirectory(prefix="walkforge-preflight-") as folder:
        tiny = shrink(spec, Path(folder))
        with _stage("Data and windows", say):
            ground = lay_ground(spec, cache_dir)
            ground = dataclasses.replace(ground, windows=ground.windows[:1])
        window = ground.windows[0]
        with _stage("Training", say):
            trained, measured = run_window(tiny, ground, window, seed_of([spec.seed, 0], 0, 0))
        with _stage("Saving and loading", say):
            target = window_folder(Path(folder) / "saved", window.index, 0)
            write_window(target, ground.market.session_date[slice(*window.test_sessions)], trained, measured)
            loaded = Trained(load_agent(target), load_scaler(target / SCALER, ground.market.feature_names))
        with _stage("Evaluation", say):
            again = evaluate_window(tiny, ground, window, loaded)
            if not np.array_equal(again.returns, measured.returns):
                raise WalkforgeError("the saved agent does not reproduce the returns of the trained one")
        with _stage("Recording", say):
            _record(tiny, ground)


def shrink(spec: StudySpec, folder: Path) -> StudySpec:
    """Return the same study with a budget of seconds, in a folder and database of its own."""
    agent = dataclasses.replace(spec.agent, total_timesteps=STEPS_PER_ENV * spec.agent.n_envs)
    score = ScoreSpec(kind="joined", min_periods=2, min_trades=0, min_volatility=0.0)
    database = dataclasses.replace(spec.database, url=f"sqlite:///{folder / 'preflight.db'}")
    return dataclasses.replace(
        spec,
        name="preflight",
        n_trials=1,
        agent=agent,
        score=score,
        database=database,
        output_dir=str(folder),
    )


def _record(tiny: StudySpec, ground: Ground) -> None:
    """Claim, run, record and tell one trial of a throwaway study."""
    handle = open_study(tiny)
    enroll(handle, ground)
    lay = _same_windows(ground, handle.cache_dir)
    claimed = claim(handle, 0, lay)
    if not isinstance(claimed, Claim):
        raise WalkforgeError(f"a fresh study gave no trial: {claimed.value}")
    run = perform(handle, claimed, stopping=lambda: False)
    handle.engine.dispose()
    if run.state == "FAIL":
        raise WalkforgeError(run.failure_message or "the trial failed without a message")


def _same_windows(ground: Ground, cache_dir: Path) -> Callable[[StudySpec], Ground]:
    """Return a source of ground that keeps to the first window; searched timeframes are built anew."""

    def lay(spec: StudySpec) -> Ground:
        if spec.data.timeframe == ground.market.timeframe:
            return ground
        other = lay_ground(spec, cache_dir)
        return dataclasses.replace(other, windows=other.windows[:1])

    return lay


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
