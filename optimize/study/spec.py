"""StudySpec: the settings of a study, composed of its runs, its search and its execution."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import require
from envs.fields import EXECUTION, SEARCH, SECRET, check_ranges, group, setting
from envs.plain import from_plain, to_plain
from optimize.database import DatabaseSpec
from optimize.errors import LARGEST_COUNT, BadInputError
from optimize.results.study_names import typed_name
from optimize.search.spec import SearchSpec
from optimize.walkforward.spec import RunSpec, resolve_run, resolve_together

NAME = re.compile(r"[A-Za-z0-9_-]+")
MISSING_NAME = "???"
OCCASIONS = ("finish", "stop", "failure")  # on which a notification is sent
DAY_S = 86_400  # longest lease: a lost worker is found when its lease expires
DEVICES = "auto, cpu or a list of different GPU numbers, such as [0,1]"
LEAST_FAILURES, FAILED_SHARE = 10, 0.1  # failures that end a study without max_failures


@dataclass(frozen=True)
class WorkerSpec:
    """Settings of the workers: processes that run trials, each under a lease."""

    kind: str = setting(
        "local", EXECUTION, "Where workers run: on this machine, or on the nodes of a Ray cluster.",
        choices=("local", "ray"),
    )  # fmt: skip
    count: int = setting(1, EXECUTION, "Number of worker processes.", unit="processes", low=1)
    devices: Any = setting("auto", EXECUTION, "Devices of the workers.", allowed=DEVICES)
    per_device: int = setting(1, EXECUTION, "Workers that share one GPU.", unit="workers", low=1)
    memory_fraction: float | None = setting(
        None, EXECUTION, "Part of a GPU's memory for each worker.", unit="of the memory", above=0, high=1,
        null="1 / per_device",
    )  # fmt: skip
    threads: int = setting(
        1, EXECUTION, "Torch and BLAS threads of a worker; 0 shares the cores out.", unit="threads", low=0,
        allowed="at least 1, or 0 (cores // worker.count)",
    )  # fmt: skip
    lease_s: float = setting(
        60.0, EXECUTION, "Time without a renewal after which a run counts as lost.", unit="seconds",
        low=1, high=DAY_S,
    )  # fmt: skip
    max_restarts: int = setting(
        10, EXECUTION, "Dead workers that are replaced, while no trial ends, before the study stops.",
        unit="workers", low=0,
    )  # fmt: skip
    trial_timeout_s: float | None = setting(
        None, EXECUTION, "Longest time of a run.", unit="seconds", above=0, null="no limit"
    )
    max_memory_mb: int | None = setting(
        None, EXECUTION, "Most resident memory of a worker.", unit="megabytes", above=0, null="no limit"
    )
    mode: str = setting(
        "async", SEARCH, "Draw a trial when a worker is free (async), or whole batches at once (batch).",
        choices=("async", "batch"),
    )  # fmt: skip
    batch_size: int = setting(
        0, SEARCH, "Trials of one batch (mode=batch).", unit="trials", low=0, high=LARGEST_COUNT
    )
    address: str = setting(
        "auto",
        EXECUTION,
        "Address of the Ray cluster; auto takes RAY_ADDRESS or the one that runs here, local starts one.",
    )
    cpus_per_worker: float = setting(
        1.0, EXECUTION, "Cores that Ray sets aside for one worker.", unit="cores", above=0
    )
    gpus_per_worker: float = setting(
        0.0, EXECUTION, "Part of a GPU that Ray sets aside for one worker; 0.25 lets four share one.",
        unit="GPUs", low=0, high=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "worker")
        listed = isinstance(self.devices, list) and bool(self.devices)
        numbers = listed and all(type(index) is int and index >= 0 for index in self.devices)
        require(
            self.devices in ("auto", "cpu") or (numbers and len(set(self.devices)) == len(self.devices)),
            "worker.devices",
            self.devices,
            DEVICES,
        )
        share = self.memory_fraction
        most = 1 / self.per_device
        fits = f"above 0 and at most {most:g}, as worker.per_device={self.per_device} workers share a GPU"
        require(share is None or 0 < share <= most, "worker.memory_fraction", share, fits)
        size, batch = self.batch_size, self.mode == "batch"
        allowed = "at least 1 where worker.mode=batch" if batch else "0 where worker.mode=async"
        fine = type(size) is int and (1 <= size <= LARGEST_COUNT if batch else size == 0)
        require(fine, "worker.batch_size", size, allowed)


@dataclass(frozen=True)
class NotifySpec:
    """Addresses of notifications, and the events that are notified."""

    urls: list[str] = setting(
        [], SECRET, "Where messages are sent, as apprise addresses; they hold tokens.", shown=False
    )
    events: list[str] = setting(
        list(OCCASIONS), EXECUTION, "Notified events: the study ends, stops itself, or keeps failing.",
        choices=OCCASIONS,
    )  # fmt: skip

    def __post_init__(self) -> None:
        allowed = f"a list of {', '.join(OCCASIONS)}"
        require(
            bool(self.events) and set(self.events) <= set(OCCASIONS), "notify.events", self.events, allowed
        )


@dataclass(frozen=True)
class HoldoutSpec:
    """Use of a holdout that another study keeps."""

    open: bool = setting(
        False, EXECUTION, "Let windows reach into a kept holdout, which opens it: logged, counted and spent."
    )


@dataclass(frozen=True)
class ExecutionSpec:
    """Settings without effect on results: the cap, limits, workers, folders and database of a study."""

    n_trials: int = setting(
        100, EXECUTION, "Total number of completed and pruned trials, on every launch.", unit="trials",
        low=1, high=LARGEST_COUNT,
    )  # fmt: skip
    max_failures: int | None = setting(
        None, EXECUTION, "Failed trials before the study stops; they never count in n_trials.", unit="trials",
        low=1, high=LARGEST_COUNT, null="10, or a tenth of n_trials",
    )  # fmt: skip
    max_consecutive_failures: int = setting(
        5,
        EXECUTION,
        "Trials that fail in a row before the study stops.",
        unit="trials",
        low=1,
        high=LARGEST_COUNT,
    )
    max_alike_failures: int = setting(
        6,
        EXECUTION,
        "Failures of one cause before the study stops, among twice as many trials less one.",
        unit="trials",
        low=1,
        high=LARGEST_COUNT,
    )
    keep_models: int = setting(
        20, EXECUTION, "Best trials whose models are kept.", unit="trials", low=1, high=LARGEST_COUNT
    )
    nested: bool = setting(
        False,
        EXECUTION,
        "Run a whole study on the bars before each window, whose best trial trades the window.",
    )
    nested_finalists: int = setting(
        0,
        EXECUTION,
        "Best parameter sets of each study before a window that are retrained: the best finalist trades; "
        "0: the best trial does.",
        low=0,
        high=LARGEST_COUNT,
    )
    nested_seeds: int = setting(
        4, EXECUTION, "Fresh seeds of each finalist before a window.", unit="seeds", low=1, high=LARGEST_COUNT
    )
    preflight: bool = setting(True, EXECUTION, "Run the whole path once, tiny, before the first trial.")
    output_dir: str = setting("studies", EXECUTION, "Folder of the studies' own folders.", changeable=False)
    database: DatabaseSpec = group(DatabaseSpec, "Database of trials and results.", role=EXECUTION)
    worker: WorkerSpec = group(WorkerSpec, "Processes that run the trials.", role=EXECUTION)
    holdout: HoldoutSpec = group(HoldoutSpec, "Holdouts that the database keeps.", role=EXECUTION)
    notify: NotifySpec = group(NotifySpec, "Notifications about the study.", role=EXECUTION)

    def __post_init__(self) -> None:
        check_ranges(self, of=ExecutionSpec)

    @property
    def failures_allowed(self) -> int:
        """Return the failures that end the study: max_failures, else 10 or a tenth of a longer cap."""
        if self.max_failures is not None:
            return self.max_failures
        return max(LEAST_FAILURES, int(FAILED_SHARE * self.n_trials))


@dataclass(frozen=True)
class StudySpec(RunSpec, SearchSpec, ExecutionSpec):
    """A study by name: a key of the command line is a path of attributes here."""

    name: str = setting(MISSING_NAME, SEARCH, "Name of the study, its folder and its rows.")

    def __post_init__(self) -> None:
        if self.name != MISSING_NAME:
            check_name(typed_name(self.name))
        SearchSpec.__post_init__(self)
        ExecutionSpec.__post_init__(self)

    @property
    def folder(self) -> Path:
        """Return the folder of this study's own files."""
        return Path(self.output_dir) / self.name


def check_name(name: str) -> None:
    """Refuse a missing study name, or one that is invalid as a folder, a key or a word in SQL."""
    if name in (MISSING_NAME, ""):
        raise BadInputError("name is missing: name the study, such as name=my_study")
    if not NAME.fullmatch(name):
        raise BadInputError(
            f"name={name!r} is not allowed: use letters, digits, _ and - only (the dot is for phases)"
        )


def resolve(spec: StudySpec) -> StudySpec:
    """Return a checked study, in which null values and file names are replaced by their contents."""
    run = resolve_run(spec)
    run = dataclasses.replace(run, space=_resolved_options(run))
    grid = run.phase.timeframe.starting_from(run.data.target)
    return dataclasses.replace(run, phase=dataclasses.replace(run.phase, timeframe=grid))


def _resolved_options(spec: StudySpec) -> dict[str, Any]:
    """Return the space, in which a file of a config group has the values that the study resolves it to."""
    space = dict(spec.space)
    for path, leaf in spec.space.items():
        if not isinstance(leaf, Mapping) or not isinstance(leaf.get("options"), Mapping):
            continue
        options = {}
        for choice, values in leaf["options"].items():
            try:
                offered = from_plain(type(getattr(spec, path)), values, stored=False)
                resolved = resolve_together(dataclasses.replace(spec, **{path: offered}))
            except BadInputError:  # the check of the space refuses it by name
                options[choice] = values
                continue
            before, after = to_plain(offered), to_plain(getattr(resolved, path))
            changed = {key: value for key, value in after.items() if before.get(key) != value}
            options[choice] = {**values, **changed}
        space[path] = {**leaf, "options": options}
    return space
