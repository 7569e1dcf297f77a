"""The contestants of the battery: each is trained on a planted market and measured on fresh bars of it.

A walk-forward is measured by the model of its last window, as an export would deploy it. A study runs as a
user would run it, as processes whose CPU time is all counted; the model of its winner is measured, and with
finalists the mean of the models of the best finalist, one for each fresh seed.
"""

import inspect
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stable_baselines3 import PPO

from benchmarks.battery_boosting import INSTALLED, fit_boosting
from benchmarks.battery_markets import Place
from benchmarks.battery_rows import SCRATCH, Row
from benchmarks.battery_specs import Verb, placed, words_at
from benchmarks.battery_truth import (
    FreshBars,
    Truth,
    fresh_bars,
    truth_of_model,
    truth_of_oracle,
    truth_of_policy,
)
from benchmarks.processes import cpu_seconds
from envs.types import Market
from optimize.agents.threads import limit_threads
from optimize.bundles.replay import load_window_model
from optimize.database import Engine, open_engine
from optimize.evaluate.probe import Probe, fit_probe
from optimize.evaluate.rollout import RecordedPolicy
from optimize.results.finalists import ranked_finalists
from optimize.results.queries import best_models
from optimize.results.runs import load_run, run_of_trial
from optimize.study.spec import StudySpec
from optimize.walkforward.files import finalist_folder, run_folder
from optimize.walkforward.markets import WindowedMarket, fit_to_window, observe_window
from optimize.walkforward.run import SINGLE_RUN, run_window, seed_of
from optimize.walkforward.spec import RunSpec, read_run

CONF = Path(__file__).resolve().parent / "battery_conf"
OF_0_1 = (f"hydra.searchpath=[{CONF}]", "experiment=version_0_1")
NOT_SETTINGS = ("policy", "env", "verbose", "seed", "device")  # of the constructor of stable-baselines3
STUDIES = {"study": "finalists", "study of 0.1": "finalists of 0.1"}  # each with its finalists
NO_AGENT = Truth(0.0, 0.0)  # of a search that ends without a feasible trial: nothing is traded


@dataclass(frozen=True)
class BatteryJob:
    """One contestant on one market; a study measures its finalists as well where there are seeds for them."""

    contestant: str
    place: Place
    seed: int
    settings_id: str
    bars: int
    fresh: int
    trials: int = 0
    finalists: int = 0
    seeds: int = 0

    def key(self, contestant: str) -> tuple[object, ...]:
        """Return the identity of the row of a contestant of this job."""
        place = self.place
        sizes = (
            (self.trials, self.finalists, self.seeds)
            if contestant in STUDIES.values()
            else (self.trials, 0, 0)
        )
        of_market = (place.kind, place.strength, place.number)
        return contestant, self.settings_id, *of_market, self.seed, self.bars, self.fresh, *sizes

    @property
    def rows(self) -> tuple[str, ...]:
        """Return the contestants that the job measures."""
        after = STUDIES.get(self.contestant) if self.seeds else None
        return (self.contestant,) if after is None else (self.contestant, after)


@dataclass(frozen=True)
class Outcome:
    """The truth about the models of a contestant, and the CPU seconds that it took."""

    truths: tuple[Truth, ...]
    cpu_s: float


def stock_words() -> tuple[str, ...]:
    """Return the settings by which an agent is PPO of stable-baselines3 with the defaults of its own."""
    known = {key: each.default for key, each in inspect.signature(PPO).parameters.items()}
    kept = [
        *("learning_rate", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range"),
        *("ent_coef", "vf_coef", "max_grad_norm", "normalize_advantage"),
    ]
    own = [f"agent.{key}={known[key]}" for key in kept]
    net = ("agent.net=small", "agent.activation=tanh", "agent.n_envs=1", "agent.weight_decay=0.0")
    undisturbed = ("train.observation_noise=0.0", "train.column_dropout=0.0")
    return ("agent=ppo", "agent.engine=stock", *net, *own, *undisturbed)


WORDS: dict[str, tuple[Verb, tuple[str, ...]]] = {
    "default run": ("walk-forward", ()),
    "study": ("study", ()),
    "probe": ("walk-forward", ()),
    "stock PPO": ("walk-forward", stock_words()),
    "run of 0.1": ("walk-forward", OF_0_1),
    "study of 0.1": ("study", OF_0_1),
}
if INSTALLED:
    WORDS["LightGBM"] = ("walk-forward", ())


def contest(job: BatteryJob) -> list[Row]:
    """Train a contestant and measure it on fresh bars; a study returns a row for its finalists too."""
    limit_threads(1)
    if job.contestant in STUDIES:
        outcomes, spec = search(job)
    else:
        spec, windowed = placed(WORDS[job.contestant][1], job.place, job.bars)
        measure: Measure = forecast if job.contestant in FORECASTERS else train
        outcomes = [measure(job, spec, windowed, fresh_bars(spec, job.place, SCRATCH, job.fresh))]
    oracle = truth_of_oracle(spec, fresh_bars(spec, job.place, SCRATCH, job.fresh), job.place)
    return [
        {
            "key": list(job.key(name)),
            "expected": round(float(np.mean([each.expected for each in found.truths])), 4),
            "realised": round(float(np.mean([each.realised for each in found.truths])), 4),
            "oracle": [round(oracle.expected, 4), round(oracle.realised, 4)],
            "cpu_s": round(found.cpu_s, 2),
        }
        for name, found in zip(job.rows, outcomes, strict=True)
    ]


Measure = Callable[[BatteryJob, StudySpec, WindowedMarket, FreshBars], Outcome]


def train(job: BatteryJob, spec: StudySpec, windowed: WindowedMarket, fresh: FreshBars) -> Outcome:
    """Walk a configuration forward and measure the model of its last window."""
    began = time.process_time()
    for window in windowed.windows:
        model, _, _ = run_window(spec, windowed, window, seed_of([job.seed, SINGLE_RUN], window.index, 0))
    spent = time.process_time() - began
    return Outcome((truth_of_model(spec, fresh, model),), spent)


def forecast(job: BatteryJob, spec: StudySpec, windowed: WindowedMarket, fresh: FreshBars) -> Outcome:
    """Fit the linear probe, or gradient boosting in its place, in the last window alone, and measure it.

    Its CPU time is multiplied by the number of windows, as other contestants train all of them.
    """
    fit, window = FORECASTERS[job.contestant], windowed.windows[-1]
    began = time.process_time()
    representation, market = fit_to_window(spec, windowed, window)
    fitted = fit(market, (window.train_first, window.train_last), spec)
    spent = (time.process_time() - began) * len(windowed.windows)
    if fitted is None:
        return Outcome((NO_AGENT,), spent)
    seen = observe_window(fresh.windowed, fresh.windowed.windows[0], representation, spec.feature)
    actions = [fitted.actions(seen, first, last, spec.env) for (first, last), _ in fresh.spans]
    return Outcome((truth_of_policy(spec, fresh, seen, RecordedPolicy(actions)),), spent)


def fit_ridge(market: Market, train: tuple[int, int], spec: StudySpec) -> Probe | None:
    """Fit the linear probe on a train span."""
    return fit_probe(market, train, env=spec.env, cost=spec.cost, lookback=spec.feature.lookback)


Fit = Callable[[Market, tuple[int, int], StudySpec], Probe | None]
FORECASTERS: dict[str, Fit] = {"probe": fit_ridge, "LightGBM": fit_boosting}


def search(job: BatteryJob) -> tuple[list[Outcome], StudySpec]:
    """Run a study as a process, and its finalists; measure the winner of each."""
    words = WORDS[job.contestant][1]
    name = f"name={job.place.kind}"
    command = [sys.executable, "-m", "optimize"]
    typed = [*words_at(words, job.place, job.bars), f"n_trials={job.trials}", f"seed={job.seed}"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cpu_s = cpu_seconds([*command, "study", *typed, "worker.count=1", "preflight=false"], folder)
        engine = open_engine(f"sqlite:///{folder / 'databases' / 'walkforge.db'}")
        try:
            outcomes = [Outcome(winner(engine, job, folder), cpu_s)]
            if job.seeds:
                sizes = [f"top_n={job.finalists}", f"seeds={job.seeds}"]
                more = 0.0
                if best_models(engine, job.place.kind, 1):
                    more = cpu_seconds([*command, "finalists", name, *sizes, "worker.count=1"], folder)
                outcomes.append(Outcome(best_finalist(engine, job, folder), cpu_s + more))
        finally:
            engine.dispose()
    return outcomes, placed(words, job.place, job.bars)[0]


def winner(engine: Engine, job: BatteryJob, folder: Path) -> tuple[Truth, ...]:
    """Return the truth about the best trial of a study, for each of its repeats."""
    rows = best_models(engine, job.place.kind, 1)
    if not rows or rows[0].run_uuid is None:
        return (NO_AGENT,)
    with engine.connect() as conn:
        run = load_run(conn, rows[0].run_uuid)
    assert run is not None
    study = folder / "studies" / job.place.kind
    return truths_in(job, read_run(run.spec), [run_folder(study, run.trial_number, run.run_uuid)])


def best_finalist(engine: Engine, job: BatteryJob, folder: Path) -> tuple[Truth, ...]:
    """Return the truth about the best finalist of a study, for each of its fresh seeds."""
    with engine.connect() as conn:
        ranked = ranked_finalists(conn, job.place.kind)
    best = next((each for each in ranked if each.rank == 1), None)
    if best is None:
        return (NO_AGENT,)
    with engine.connect() as conn:
        run = run_of_trial(conn, job.place.kind, best.trial_number)
    assert run is not None
    study = folder / "studies" / job.place.kind
    places = [finalist_folder(study, best.parameter_set, seed) for seed in range(job.seeds)]
    return truths_in(job, read_run(run.spec), [place for place in places if place.is_dir()])


def truths_in(job: BatteryJob, spec: RunSpec, folders: Sequence[Path]) -> tuple[Truth, ...]:
    """Return the truth about the models of the last window in the folders of runs."""
    fresh = fresh_bars(spec, job.place, SCRATCH, job.fresh)
    newest = max((folders[0] / "windows").iterdir(), key=lambda each: int(each.name)).name
    places = [place for folder in folders for place in sorted((folder / "windows" / newest).iterdir())]
    return tuple(
        truth_of_model(spec, fresh, load_window_model(spec, fresh.windowed, place)) for place in places
    )
