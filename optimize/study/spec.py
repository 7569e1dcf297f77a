"""StudySpec: everything a study is, composed from the specs of the layers below."""

import dataclasses
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from envs.costs import CostSpec
from envs.errors import require
from envs.rewards import RewardSpec
from envs.vector import EnvSpec
from optimize.agents.budget import check_budget
from optimize.agents.registry import action_of
from optimize.agents.spec import AgentSpec, check_agent
from optimize.data.describe import resolve_data
from optimize.data.spec import (
    BEFORE_KEYS,
    DAY_NS,
    HOUR_NS,
    DataSpec,
    FeatureSpec,
    SessionSpec,
    timeframe_name,
    timeframe_ns,
)
from optimize.database import DatabaseSpec
from optimize.database.address import without_password
from optimize.errors import BadInputError
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec, inline_file
from optimize.search.pruners import PrunerSpec
from optimize.search.samplers import SamplerSpec

NAME = re.compile(r"[A-Za-z0-9_-]+")
MISSING_NAME = "???"
TIMEFRAME_PHASE = "timeframe"
MODEL_PHASE = "model"
MOST = 2**31 - 1  # of what is counted: more fits into no column
DAY_S = 86_400  # a lost worker is found after a lease at the latest
FAILURES, FAILED_SHARE = 10, 0.1  # that end a study, unless max_failures says otherwise
TIMEFRAME, LOOKBACK = "data.timeframe", "feature.lookback"  # what phase 1 searches
INDICATORS = "feature.indicators"
STEPS = (1, 2, 4, 6)  # times data.timeframe, that phase 1 searches where nothing else is listed
LONGEST_STEP_NS = 12 * HOUR_NS  # longer ones divide a day, so that none of its bars is a remainder
T = TypeVar("T")


@dataclass(frozen=True)
class WorkerSpec:
    """Who runs the trials: local processes that hold a lease on the trial they run."""

    kind: str = "local"  # local, or ray: on the nodes of a Ray cluster
    count: int = 1  # worker processes
    devices: Any = "auto"  # auto, cpu, or a list of GPU numbers
    per_device: int = 1  # workers on one GPU
    memory_fraction: float | None = None  # of a GPU's memory for each worker; None: 1 / per_device
    threads: int = 1  # torch and BLAS threads of a worker; 0: cores // count
    lease_s: float = 60.0  # a run that has not renewed its lease for so long is lost
    max_restarts: int = 10  # dead workers replaced while no trial finishes before the study stops
    trial_timeout_s: float | None = None  # wall clock of a run
    max_memory_mb: int | None = None  # resident memory of a worker
    mode: str = "async"  # async, or batch: the same trials from launch to launch at any number of workers
    batch_size: int = 0  # trials of one batch
    address: str = (
        "auto"  # of the Ray cluster; auto: RAY_ADDRESS, or the one that runs here; local: a new one
    )
    cpus_per_worker: float = 1.0  # what Ray sets aside for one worker
    gpus_per_worker: float = 0.0  # 0.25: four workers share one

    def __post_init__(self) -> None:
        require(self.kind in ("local", "ray"), "worker.kind", self.kind, "local or ray")
        cpus, gpus = self.cpus_per_worker, self.gpus_per_worker
        require(cpus > 0, "worker.cpus_per_worker", cpus, "above 0")
        require(0 <= gpus <= 1, "worker.gpus_per_worker", gpus, "from 0 to 1: a trial uses one GPU")
        require(self.count >= 1, "worker.count", self.count, "at least 1")
        require(1 <= self.lease_s <= DAY_S, "worker.lease_s", self.lease_s, f"from 1 to {DAY_S} seconds")
        require(self.max_restarts >= 0, "worker.max_restarts", self.max_restarts, "0 or more")
        listed = isinstance(self.devices, list) and bool(self.devices)
        numbers = listed and all(type(index) is int and index >= 0 for index in self.devices)
        require(
            self.devices in ("auto", "cpu") or (numbers and len(set(self.devices)) == len(self.devices)),
            "worker.devices",
            self.devices,
            "auto, cpu or a list of different GPU numbers, such as [0,1]",
        )
        require(self.per_device >= 1, "worker.per_device", self.per_device, "at least 1")
        share = self.memory_fraction
        most = 1 / self.per_device
        fits = f"above 0 and at most {most:g}, as worker.per_device={self.per_device} workers share a GPU"
        require(share is None or 0 < share <= most, "worker.memory_fraction", share, fits)
        require(self.threads >= 0, "worker.threads", self.threads, "at least 1, or 0 (cores // worker.count)")
        limit_s, limit_mb = self.trial_timeout_s, self.max_memory_mb
        require(limit_s is None or limit_s > 0, "worker.trial_timeout_s", limit_s, "above 0 seconds")
        require(limit_mb is None or limit_mb > 0, "worker.max_memory_mb", limit_mb, "above 0 megabytes")
        require(self.mode in ("async", "batch"), "worker.mode", self.mode, "async or batch")
        size, batch = self.batch_size, self.mode == "batch"
        allowed = "at least 1 where worker.mode=batch" if batch else "0 where worker.mode=async"
        fine = type(size) is int and (1 <= size <= MOST if batch else size == 0)
        require(fine, "worker.batch_size", size, allowed)


@dataclass(frozen=True)
class TimeframePhaseSpec:
    """Phase 1: a grid of timeframe x lookback with the same number of trials for each combination."""

    n_trials: int = 100
    timeframes: list[str] = field(default_factory=lambda: ["1h", "4h"])  # []: made of data.timeframe
    lookbacks: list[int] = field(default_factory=lambda: [1, 4])
    confidence: float = 0.90  # with which the best combination is among the kept
    bootstraps: int = 1000  # of the test that tells them apart

    def __post_init__(self) -> None:
        sure, drawn = self.confidence, self.bootstraps
        require(0.5 <= sure < 1, "phase.timeframe.confidence", sure, "from 0.5 to below 1, such as 0.9")
        require(drawn >= 100, "phase.timeframe.bootstraps", drawn, "at least 100")
        require_count("phase.timeframe.n_trials", self.n_trials)
        require(bool(self.lookbacks), "phase.timeframe.lookbacks", [], "a list with at least one value")
        combinations = len(self.timeframes) * len(self.lookbacks)
        for key in ("timeframes", "lookbacks"):
            values = getattr(self, key)
            require(len(set(values)) == len(values), f"phase.timeframe.{key}", values, "free of duplicates")
        if not combinations:  # until data.timeframe is known
            return
        require(
            self.n_trials >= 2 * combinations and self.n_trials % combinations == 0,
            "phase.timeframe.n_trials",
            self.n_trials,
            f"a multiple of the {combinations} combinations of timeframe x lookback, at least two trials "
            f"each (a spread needs two), such as {2 * combinations}",
        )

    def starting_from(self, timeframe: str) -> "TimeframePhaseSpec":
        """Return the grid; where it lists none, of a timeframe and as many multiples as n_trials serve."""
        if self.timeframes:
            return self
        own_ns = timeframe_ns(timeframe)
        steps = [step * own_ns for step in STEPS]
        if steps[-1] > LONGEST_STEP_NS:
            steps = [length for length in range(own_ns, DAY_NS + 1, own_ns) if DAY_NS % length == 0]
        names = [name for length in steps[: len(STEPS)] if (name := timeframe_name(length))]
        each = len(self.lookbacks)
        served = (most for most in range(len(names), 1, -1) if self.n_trials % (most * each) == 0)
        many = next((most for most in served if self.n_trials >= 2 * most * each), 1)
        return dataclasses.replace(self, timeframes=names[:many])


@dataclass(frozen=True)
class PhaseSpec:
    """One study (single), or timeframe first and model second (two), or the first alone."""

    kind: str = "single"
    timeframe: TimeframePhaseSpec = field(default_factory=TimeframePhaseSpec)

    def __post_init__(self) -> None:
        kinds = ("single", "two", "timeframe_only")
        require(self.kind in kinds, "phase.kind", self.kind, f"one of {', '.join(kinds)}")


@dataclass(frozen=True)
class StudySpec:
    """A study: frozen, plain, and equal to what is stored beside its trials."""

    name: str = MISSING_NAME
    seed: int = 0
    n_trials: int = 100  # total cap on COMPLETE + PRUNED of a single-phase study, or of the model phase
    max_failures: int | None = (
        None  # FAIL trials (never in the cap) before it stops itself; None: 10, or a tenth of n_trials
    )
    max_consecutive_failures: int = 5  # trials that fail in a row before the study stops itself
    max_alike_failures: int = 6  # of one cause, among the last 11 trials (2 * 6 - 1), before it stops itself
    keep_models: int = 20  # trials whose weights are kept
    preflight: bool = True  # run the whole path once, tiny, before trial 1
    output_dir: str = "studies"
    extensions: list[str] = field(default_factory=list)  # files that register features of the user's own
    data: DataSpec = field(default_factory=DataSpec)
    session: SessionSpec = field(default_factory=SessionSpec)
    feature: FeatureSpec = field(default_factory=FeatureSpec)
    env: EnvSpec = field(default_factory=EnvSpec)
    cost: CostSpec = field(default_factory=CostSpec)
    reward: RewardSpec = field(default_factory=RewardSpec)
    agent: AgentSpec = field(default_factory=AgentSpec)
    space: dict[str, Any] = field(default_factory=dict)
    window: WindowSpec = field(default_factory=WindowSpec)
    score: ScoreSpec = field(default_factory=ScoreSpec)
    sampler: SamplerSpec = field(default_factory=SamplerSpec)
    pruner: PrunerSpec = field(default_factory=PrunerSpec)
    database: DatabaseSpec = field(default_factory=DatabaseSpec)
    worker: WorkerSpec = field(default_factory=WorkerSpec)
    phase: PhaseSpec = field(default_factory=PhaseSpec)

    def __post_init__(self) -> None:
        if self.name != MISSING_NAME:
            check_name(self.name.removesuffix(f".{TIMEFRAME_PHASE}").removesuffix(f".{MODEL_PHASE}"))
        limits = ("max_consecutive_failures", "max_alike_failures", "keep_models")
        for key in ("n_trials", *limits, *(("max_failures",) if self.max_failures is not None else ())):
            require_count(key, getattr(self, key))
        require(0 <= self.seed < 2**63, "seed", self.seed, "from 0 to 2**63 - 1")

    @property
    def failures_allowed(self) -> int:
        """Return how many failed trials end the study: max_failures, else 10 or a tenth of a longer cap."""
        if self.max_failures is not None:
            return self.max_failures
        return max(FAILURES, int(FAILED_SHARE * self.n_trials))

    @property
    def folder(self) -> Path:
        """Return the folder of this study's own files."""
        return Path(self.output_dir) / self.name


def require_count(key: str, value: int) -> None:
    """Refuse a number of trials or models that is no positive one, or more than a database can hold."""
    require(1 <= value <= MOST, key, value, f"at least 1 and at most {MOST}")


def check_name(name: str) -> None:
    """Refuse a study name that is missing or could not be a folder, a key and a word in SQL."""
    if name in (MISSING_NAME, ""):
        raise BadInputError("name is missing: name the study, such as name=my_study")
    if not NAME.fullmatch(name):
        raise BadInputError(
            f"name={name!r} is not allowed: use letters, digits, _ and - only (the dot is for phases)"
        )


def resolve(spec: StudySpec) -> StudySpec:
    """Return spec checked as a whole; what is null or named by a file holds what it stands for."""
    check_agent(spec.agent)
    check_budget(spec.agent)
    action = action_of(spec.agent.name, spec.env.action)
    env = dataclasses.replace(spec.env, action=action)
    data = resolve_data(spec.data)
    grid = spec.phase.timeframe.starting_from(data.target)
    phase = dataclasses.replace(spec.phase, timeframe=grid)
    return dataclasses.replace(spec, data=data, env=env, phase=phase, window=inline_file(spec.window))


def to_plain(spec: Any) -> dict[str, Any]:
    """Return a dataclass as plain dicts and lists, ready for JSON; a database's password stays out."""
    plain = dataclasses.asdict(spec)
    if "url" in plain.get("database", ()):
        plain["database"]["url"] = without_password(plain["database"]["url"])
    return plain


def from_plain(kind: type[T], plain: dict[str, Any]) -> T:
    """Rebuild a (nested) dataclass from to_plain's output; unknown keys are refused.

    A key that an older version did not have is at its default, or at that of BEFORE_KEYS where the default
    changes results.
    """
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = dict(BEFORE_KEYS) if kind is DataSpec else {}
    for key, value in plain.items():
        if key not in hints:
            raise BadInputError(f"{kind.__name__} has no field {key!r}: it was written by another version")
        hint = hints[key]
        nested = isinstance(hint, type) and not isinstance(hint, types.GenericAlias)
        is_spec = nested and dataclasses.is_dataclass(hint)
        if is_spec and not isinstance(value, dict):
            raise BadInputError(
                f"{kind.__name__}.{key}={value!r} is no mapping: the file was changed by hand"
            )
        values[key] = from_plain(hint, value) if is_spec else value
    return kind(**values)
