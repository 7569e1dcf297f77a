"""The thin translator at the edge: Hydra's configuration becomes frozen specs, once."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.costs import CostSpec
from envs.rewards import RewardSpec
from envs.vector import EnvSpec
from optimize.agents.spec import AgentSpec
from optimize.data.spec import DataSpec, FeatureSpec, SessionSpec
from optimize.database import DatabaseSpec
from optimize.errors import BadInputError, WalkforgeError, require
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.extensions import name_extensions
from optimize.search.pruners import PrunerSpec
from optimize.search.samplers import SamplerSpec
from optimize.study.export.changes import changes_of
from optimize.study.spec import (
    MISSING_NAME,
    MOST,
    PhaseSpec,
    StudySpec,
    WorkerSpec,
    check_name,
    require_count,
    resolve,
)
from optimize.study.workers.notify import NotifySpec

T = TypeVar("T")
OUTPUTS = (".parquet", ".csv")
RESERVED = {"artifacts"}  # folders of output_dir that belong to no study, whatever their case
LONGEST_NAME = 100
FORMATS = ("table", "csv", "json")
ACTIONS = ("run", "pause", "resume", "stop")


@dataclass(frozen=True)
class MarketConfig:
    """What `walkforge data` reads: a market and nothing that trades in it."""

    cache_dir: str = "databases/market"
    format: str = "table"
    features: bool = False
    output: str | None = None
    extensions: list[str] = field(default_factory=list)
    data: DataSpec = field(default_factory=DataSpec)
    session: SessionSpec = field(default_factory=SessionSpec)
    feature: FeatureSpec = field(default_factory=FeatureSpec)

    def __post_init__(self) -> None:
        require(self.format in FORMATS, "format", self.format, f"one of {', '.join(FORMATS)}")
        if self.output is None:
            require(not self.features, "features", self.features, "false without output=FILE.parquet")
        else:
            known = Path(self.output).suffix.lower() in OUTPUTS
            require(known, "output", self.output, f"a file that ends in {' or '.join(OUTPUTS)}")


@dataclass(frozen=True)
class StudyConfig:
    """What describes a study: StudySpec with the agent's hyperparameters written flat."""

    name: str = MISSING_NAME
    seed: int = 0
    n_trials: int = 100
    max_failures: int | None = None
    max_consecutive_failures: int = 5
    max_alike_failures: int = 6
    keep_models: int = 20
    preflight: bool = True
    output_dir: str = "studies"
    extensions: list[str] = field(default_factory=list)
    data: DataSpec = field(default_factory=DataSpec)
    session: SessionSpec = field(default_factory=SessionSpec)
    feature: FeatureSpec = field(default_factory=FeatureSpec)
    env: EnvSpec = field(default_factory=EnvSpec)
    cost: CostSpec = field(default_factory=CostSpec)
    reward: RewardSpec = field(default_factory=RewardSpec)
    agent: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)
    window: WindowSpec = field(default_factory=WindowSpec)
    score: ScoreSpec = field(default_factory=ScoreSpec)
    sampler: SamplerSpec = field(default_factory=SamplerSpec)
    pruner: PrunerSpec = field(default_factory=PrunerSpec)
    database: DatabaseSpec = field(default_factory=DatabaseSpec)
    worker: WorkerSpec = field(default_factory=WorkerSpec)
    phase: PhaseSpec = field(default_factory=PhaseSpec)


@dataclass(frozen=True)
class RunStudyConfig(StudyConfig):
    """What `walkforge study` reads: a study, and what to do with it."""

    action: str = "run"  # pause, resume or stop: only name and database count then
    notify: NotifySpec = field(default_factory=NotifySpec)

    def __post_init__(self) -> None:
        require(self.action in ACTIONS, "action", self.action, f"one of {', '.join(ACTIONS)}")


@dataclass(frozen=True)
class WalkForwardConfig(StudyConfig):
    """What `walkforge walk-forward` reads: one configuration, no search."""

    dry_run: bool = False  # build and check every window, train nothing
    deterministic: bool = True  # false: sample the policy's actions


@dataclass(frozen=True)
class PlacesConfig:
    """Where data lies on a machine; its content is the study's."""

    path: str | None = None
    folder: str | None = None


@dataclass(frozen=True)
class MovedConfig:
    """Where the file of a trial or bundle lies now."""

    path: str | None = None


@dataclass(frozen=True)
class WorkerConfig:
    """`walkforge worker`."""

    name: str = MISSING_NAME
    output_dir: str | None = None
    extensions: list[str] | None = None
    data: PlacesConfig = field(default_factory=PlacesConfig)
    versions: str = "check"
    wait_s: float = 600.0
    database: DatabaseSpec = field(default_factory=DatabaseSpec)
    worker: WorkerSpec = field(default_factory=WorkerSpec)

    def __post_init__(self) -> None:
        require(self.versions in ("check", "ignore"), "versions", self.versions, "check or ignore")
        require(self.wait_s >= 0, "wait_s", self.wait_s, "0 seconds or more")


@dataclass(frozen=True)
class RecordsConfig:
    """What the reading verbs share: which study, in which database, shown how."""

    name: str = MISSING_NAME
    output_dir: str = "studies"
    format: str = "table"
    database: DatabaseSpec = field(default_factory=DatabaseSpec)

    def __post_init__(self) -> None:
        require(self.format in FORMATS, "format", self.format, f"one of {', '.join(FORMATS)}")


@dataclass(frozen=True)
class LeaderboardConfig(RecordsConfig):
    """`walkforge leaderboard`."""

    top_n: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("top_n", self.top_n)


@dataclass(frozen=True)
class StatusConfig(RecordsConfig):
    """`walkforge status`."""

    watch: bool = False  # print again every two seconds until Ctrl-C
    failures: bool = False  # what failed, what was done about it, and whether it is random or systematic


@dataclass(frozen=True)
class QueryConfig(RecordsConfig):
    """`walkforge query`."""

    sql: str | None = None  # a file of databases/queries; none lists them


@dataclass(frozen=True)
class ExportConfig(RecordsConfig):
    """`walkforge export`."""

    top_n: int = 3
    extensions: list[str] | None = None  # where the study's lie now; None: where its launch had them

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("top_n", self.top_n)


@dataclass(frozen=True)
class ReplayConfig(RecordsConfig):
    """`walkforge replay`."""

    bundle: str | None = None  # the folder of a bundle; no database is opened
    trial: int | None = None  # or a trial of study `name`, trained anew
    data: MovedConfig = field(default_factory=MovedConfig)
    data_path: str | None = None  # the older name of data.path
    extensions: list[str] | None = None  # where those of the trial or bundle lie; None: as stored
    trust: bool = False  # run the code that a bundle carries

    def __post_init__(self) -> None:
        super().__post_init__()
        trial = self.trial
        require(trial is None or 0 <= trial <= MOST, "trial", trial, f"from 0 to {MOST}")


DataChanges, CostChanges, WindowChanges = (changes_of(kind) for kind in (DataSpec, CostSpec, WindowSpec))


@dataclass(frozen=True)
class EvaluateConfig:
    """`walkforge evaluate`."""

    bundle: str = ""
    extensions: list[str] = field(default_factory=list)
    trust: bool = False  # run the code that the bundle carries
    span: str = "windows"
    deterministic: bool = True
    seed: int = 0
    data: DataChanges = field(default_factory=DataChanges)  # type: ignore[valid-type]  # made from DataSpec
    cost: CostChanges = field(default_factory=CostChanges)  # type: ignore[valid-type]
    window: WindowChanges = field(default_factory=WindowChanges)  # type: ignore[valid-type]
    database: DatabaseSpec = field(default_factory=DatabaseSpec)


@dataclass(frozen=True)
class ActConfig:
    """`walkforge act`."""

    bundle: str = ""
    extensions: list[str] = field(default_factory=list)
    trust: bool = False  # run the code that the bundle carries
    data: DataChanges = field(default_factory=DataChanges)  # type: ignore[valid-type]
    holding: Any = None
    since: str | None = None
    format: str = "table"

    def __post_init__(self) -> None:
        require(self.format in ("table", "json"), "format", self.format, "table or json")


@dataclass(frozen=True)
class DashboardConfig(RecordsConfig):
    """`walkforge dashboard`."""

    host: str = "127.0.0.1"
    port: int = 8080
    write: bool = False
    hosts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.port <= 65535, "port", self.port, "from 1 to 65535")


@dataclass(frozen=True)
class DoctorConfig:
    """`walkforge doctor`."""

    name: str = ""
    output_dir: str = "studies"
    format: str = "table"
    repair: bool = False
    database: DatabaseSpec = field(default_factory=DatabaseSpec)

    def __post_init__(self) -> None:
        require(self.format in ("table", "json"), "format", self.format, "table or json")


SCHEMAS: dict[str, type] = {
    "data": MarketConfig,
    "walk-forward": WalkForwardConfig,
    "study": RunStudyConfig,
    "worker": WorkerConfig,
    "status": StatusConfig,
    "leaderboard": LeaderboardConfig,
    "query": QueryConfig,
    "export": ExportConfig,
    "replay": ReplayConfig,
    "evaluate": EvaluateConfig,
    "act": ActConfig,
    "dashboard": DashboardConfig,
    "doctor": DoctorConfig,
}


@cache
def register_schema(verb: str) -> None:
    """Put the schema of a verb into Hydra's ConfigStore as `<verb>_schema`, and teach yaml to pick."""
    OmegaConf.register_new_resolver("pick", pick, replace=True)
    node = _writable(OmegaConf.structured(SCHEMAS[verb]))
    ConfigStore.instance().store(name=f"{verb}_schema", node=node)


def pick(choices: Mapping[str, Any], key: str, default: Any) -> Any:
    """Return the choice of a key, or the default: `${pick:{1d:60},${data.timeframe},12}` in a yaml."""
    return choices.get(key, default)


def _writable(config: Any) -> Any:
    """Lift the read-only flag that OmegaConf gives to frozen dataclasses, so that overrides apply."""
    config._set_flag("readonly", None)
    for key in config:
        node = config._get_node(key)
        if OmegaConf.is_dict(node) and not node._is_none() and not node._is_missing():
            _writable(node)
    return config


def to_config(config: DictConfig, kind: type[T]) -> T:
    """Return the composed configuration as the plain frozen dataclass of its verb."""
    try:
        plain = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        for inner in (error.__cause__, error.__context__):
            if isinstance(inner, WalkforgeError):  # of a resolver
                raise inner from None
        raise BadInputError(first_line(error)) from error
    if not isinstance(plain, kind):
        raise TypeError(f"the primary yaml lacks its schema: composed {type(plain)}, not {kind}")
    return plain


def check_new_name(name: str) -> None:
    """Refuse a name that a folder beside those of studies has, or that is too long for one."""
    require(name.lower() not in RESERVED, "name", name, f"another than {', '.join(sorted(RESERVED))}")
    require(len(name) <= LONGEST_NAME, "name", name, f"at most {LONGEST_NAME} characters long")


def to_spec(config: StudyConfig) -> StudySpec:
    """Return the StudySpec of a composed study, checked as a whole."""
    check_name(config.name)
    check_new_name(config.name)
    shared = {f.name: getattr(config, f.name) for f in dataclasses.fields(StudySpec) if f.name != "agent"}
    shared["extensions"] = name_extensions(config.extensions)
    return resolve(StudySpec(agent=to_agent(config.agent), **shared))


def to_agent(flat: dict[str, Any]) -> AgentSpec:
    """Fold what is no field of AgentSpec into its hyperparameters."""
    own = {f.name for f in dataclasses.fields(AgentSpec)} - {"hyperparameters"}
    for key in own & flat.keys():
        wanted = type(getattr(AgentSpec(), key))
        require(type(flat[key]) is wanted, f"agent.{key}", flat[key], f"of type {wanted.__name__}")
    fields = {key: value for key, value in flat.items() if key in own}
    return AgentSpec(**fields, hyperparameters={k: v for k, v in flat.items() if k not in own})


def first_line(error: BaseException) -> str:
    """Return what an OmegaConf or Hydra error says, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    keys = (line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:"))
    key = next(keys, None)
    return f"{key}: {lines[0]}" if key and key not in lines[0] else lines[0]
