"""A small configuration with the shape of the real one."""

from dataclasses import dataclass
from typing import Any

from envs.fields import (
    EXAM,
    EXECUTION,
    MARKET,
    RUN,
    SEARCH,
    UNSET,
    Declared,
    Setting,
    check_ranges,
    group,
    setting,
)

ARGUMENTS = {key: Declared(float, UNSET, Setting(RUN, "Argument.")) for key in ("learning_rate", "n_steps")}


@dataclass(frozen=True)
class Data:
    timeframe: str = setting("1h", MARKET, "Bars.", searchable=True)
    path: str = setting("", EXECUTION, "A file.")


@dataclass(frozen=True)
class Feature:
    lookback: int = setting(8, RUN, "Bars.", low=1)

    def __post_init__(self) -> None:
        check_ranges(self, "feature")


@dataclass(frozen=True)
class Env:
    fill: str = setting("open", RUN, "Price.", fixed=EXAM)
    max_leverage: float = setting(1.0, RUN, "Leverage.")


@dataclass(frozen=True)
class Agent:
    name: str = setting("ppo", RUN, "Algorithm.")
    net: str | None = setting(None, RUN, "Layers.")
    device: str = setting("cpu", RUN, "Device.", fixed=EXAM)
    total_timesteps: int = setting(20_000, RUN, "Budget.", fixed=EXAM)
    n_envs: int = setting(8, RUN, "Environments.", fixed=EXAM)
    hyperparameters: dict[str, Any] = setting(
        {"learning_rate": 3e-4, "n_steps": 256}, RUN, "Arguments.", open_keys=lambda: ARGUMENTS
    )


@dataclass(frozen=True)
class Cost:
    commission_bps: float = setting(1.0, RUN, "Commission.")


@dataclass(frozen=True)
class Exam:
    train: int = setting(1, RUN, "A setting of the exam.")


@dataclass(frozen=True)
class Study:
    name: str = setting("a", SEARCH, "Name.", fixed=EXAM)
    seed: int = setting(0, SEARCH, "Seed.", fixed=EXAM)
    n_trials: int = setting(10, EXECUTION, "Cap.", fixed=EXAM)
    output_dir: str = setting("studies", EXECUTION, "Folder.", fixed=EXAM)
    data: Data = group(Data, "Bars.", fixed=EXAM)
    feature: Feature = group(Feature, "Inputs.")
    env: Env = group(Env, "Orders.")
    cost: Cost = group(Cost, "Costs.", fixed=EXAM)
    agent: Agent = group(Agent, "Agent.")
    window: Exam = group(Exam, "Windows.", fixed=EXAM)
    score: Exam = group(Exam, "Score.", fixed=EXAM)
    session: Exam = group(Exam, "Sessions.", fixed=EXAM)
    database: Exam = group(Exam, "Database.", fixed=EXAM)
    worker: Exam = group(Exam, "Workers.", fixed=EXAM)
    sampler: Exam = group(Exam, "Sampler.", fixed=EXAM)
    pruner: Exam = group(Exam, "Pruner.", fixed=EXAM)
    phase: Exam = group(Exam, "Phases.", fixed=EXAM)
