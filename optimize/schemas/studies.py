"""Schemas of the verbs that read or write a market, a study or a bundle, and their translation to specs."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.costs import CostSpec
from envs.fields import KIND_WORDS, keys_of, setting_of
from envs.plain import read, widened
from optimize.agents.hyperparameters import HYPERPARAMETERS
from optimize.agents.registry import ALGORITHMS, hyperparameters_of
from optimize.agents.spec import AgentSpec
from optimize.bundles.changes import changes_of
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec
from optimize.database import DatabaseSpec
from optimize.errors import require, require_count
from optimize.evaluate.windows import WindowSpec
from optimize.extensions import name_extensions
from optimize.schemas.records import FORMATS, MovedConfig, RecordsConfig
from optimize.search.parse import read_space
from optimize.study.spec import MISSING_NAME, StudySpec, WorkerSpec, check_name, resolve

OUTPUTS = (".parquet", ".csv")
RESERVED = {"artifacts"}  # folders of output_dir that belong to no study, whatever their case
LONGEST_STUDY_NAME = 100
MOST_SEEDS = 1000  # of a finalist
ACTIONS = ("run", "pause", "resume", "stop")


@dataclass(frozen=True)
class MarketConfig:
    """Configuration of `walkforge data`: a market without an agent."""

    cache_dir: str = "databases/market"
    format: str = "table"
    features: bool = False
    output: str | None = None
    extensions: list[str] = field(default_factory=list)
    data: DataSpec = field(default_factory=DataSpec)
    session: SessionSpec = field(default_factory=SessionSpec)
    feature: FeatureSpec = field(default_factory=FeatureSpec)

    def __post_init__(self) -> None:
        require(self.format in FORMATS, "format", self.format, f"one of {', '.join(FORMATS)}", FORMATS)
        if self.output is None:
            require(not self.features, "features", self.features, "false without output=FILE.parquet")
        else:
            known = Path(self.output).suffix.lower() in OUTPUTS
            require(known, "output", self.output, f"a file that ends in {' or '.join(OUTPUTS)}")


@dataclass(frozen=True)
class StudyConfig(StudySpec):
    """A study as it is composed: StudySpec with the keys of the agent as one open group."""

    agent: dict[str, Any] = field(default_factory=dict)  # type: ignore[assignment]  # read by to_agent

    def __post_init__(self) -> None:
        """Leave the checks to the StudySpec that `to_spec` builds."""


@dataclass(frozen=True)
class RunStudyConfig(StudyConfig):
    """Configuration of `walkforge study`: a study, and the action on it."""

    action: str = "run"  # pause, resume or stop: only name and database count then

    def __post_init__(self) -> None:
        require(self.action in ACTIONS, "action", self.action, f"one of {', '.join(ACTIONS)}", ACTIONS)


@dataclass(frozen=True)
class WalkForwardConfig(StudyConfig):
    """Configuration of `walkforge walk-forward`: one configuration, no search."""

    dry_run: bool = False  # build and check every window, train nothing
    deterministic: bool = True  # false: sample the policy's actions


@dataclass(frozen=True)
class ProbeConfig(StudyConfig):
    """Configuration of `walkforge probe`: the inputs to compare."""

    timeframes: list[str] = field(default_factory=list)
    lookbacks: list[int] = field(default_factory=lambda: [1, 4, 16])
    groups: bool = True

    def __post_init__(self) -> None:
        whole = bool(self.lookbacks) and all(each >= 1 for each in self.lookbacks)
        require(whole, "lookbacks", self.lookbacks, "a list of whole numbers from 1 on")
        for key in ("timeframes", "lookbacks"):
            values = getattr(self, key)
            require(len(set(values)) == len(values), key, values, "a list without repeats")


@dataclass(frozen=True)
class PlacesConfig:
    """Where data lies on a machine; its content is the study's."""

    path: str | None = None
    folder: str | None = None


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
class FinalistsConfig(RecordsConfig):
    """`walkforge finalists`."""

    top_n: int = 10
    seeds: int = 8
    volume_share: float = 0.01
    holdout: bool = False  # evaluate them on the holdout: logged, counted and spent
    data: MovedConfig = field(default_factory=MovedConfig)
    extensions: list[str] | None = None  # where the study's lie now; None: where its launch had them
    worker: WorkerSpec = field(default_factory=WorkerSpec)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("top_n", self.top_n)
        require(1 <= self.seeds <= MOST_SEEDS, "seeds", self.seeds, f"from 1 to {MOST_SEEDS}")
        share = self.volume_share
        require(0 < share <= 1, "volume_share", share, "above 0 and at most 1, of the volume of a bar")


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
    equity: float | None = None
    format: str = "table"

    def __post_init__(self) -> None:
        require(self.format in ("table", "json"), "format", self.format, "table or json")
        amount = self.equity is None or (0.0 < self.equity < math.inf)
        require(amount, "equity", self.equity, "an amount above 0, or null")


def check_new_name(name: str) -> None:
    """Refuse a name that a folder beside those of studies has, or that is too long for one."""
    require(name.lower() not in RESERVED, "name", name, f"another than {', '.join(sorted(RESERVED))}")
    require(len(name) <= LONGEST_STUDY_NAME, "name", name, f"at most {LONGEST_STUDY_NAME} characters long")


def to_spec(config: StudyConfig) -> StudySpec:
    """Return the StudySpec of a composed study, checked as a whole."""
    check_name(config.name)
    check_new_name(config.name)
    shared = {f.name: getattr(config, f.name) for f in dataclasses.fields(StudySpec) if f.name != "agent"}
    shared["extensions"] = name_extensions(config.extensions)
    shared["space"] = read_space(config.space, keys_of(StudySpec))
    return resolve(StudySpec(agent=to_agent(config.agent), **shared))


def to_agent(flat: Mapping[str, Any]) -> AgentSpec:
    """Return the agent of an open group of keys; other keys than its fields are hyperparameters."""
    hints = typing.get_type_hints(AgentSpec)
    del hints["hyperparameters"]
    fields: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    for key, value in flat.items():
        if key in hints:
            kinds = [typing.get_origin(kind) or kind for kind in typing.get_args(hints[key]) or (hints[key],)]
            declared = setting_of(AgentSpec.__dataclass_fields__[key])
            words = [KIND_WORDS[kind] for kind in kinds if kind in KIND_WORDS and not declared.allowed]
            allowed = ", ".join(filter(None, [*words, declared.range]))
            fields[key] = widened(value, hints[key])
            require(type(fields[key]) in kinds, f"agent.{key}", value, allowed)
        else:
            arguments[key] = read(value, _kind_of_argument(str(flat.get("name", AgentSpec.name)), key))
    return AgentSpec(**fields, hyperparameters=arguments)


def _kind_of_argument(agent: str, key: str) -> Any:
    """Return the type of a hyperparameter, of an agent of an extension too; None where it is unknown."""
    if key in HYPERPARAMETERS:
        return HYPERPARAMETERS[key].kind
    known = hyperparameters_of(agent) if agent in ALGORITHMS else {}
    return float if key in known and float in known[key].types else None
