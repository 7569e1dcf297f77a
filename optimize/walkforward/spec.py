"""RunSpec: the settings that decide the result of one run, from data to score."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from envs.costs import CostSpec
from envs.fields import EXAM, MARKET, RUN, group, setting
from envs.plain import from_plain
from envs.rewards import RewardSpec, find_reward
from envs.spec import EnvSpec
from optimize.agents.budget import budget_of_passes, check_budget, divide_budget
from optimize.agents.engines import choose_engine
from optimize.agents.registry import action_of, hyperparameters_of
from optimize.agents.spec import AgentSpec, check_agent
from optimize.agents.train_spec import TrainSpec
from optimize.data.calendars.spec import SessionSpec
from optimize.data.describe import resolve_data
from optimize.data.features import check_groups
from optimize.data.features.registry import read_feature_keys
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec
from optimize.data.timeframes import timeframe_ns
from optimize.errors import BadInputError
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec, inline_file
from optimize.walkforward.forecasters import NO_FORECAST, find_forecaster

RunT = TypeVar("RunT", bound="RunSpec")


@dataclass(frozen=True)
class RunSpec:
    """One configuration: data, session, features, env, costs, reward, agent, training, windows and score."""

    # The content of extensions is compared by its hash, and the files may move.
    extensions: list[str] = setting(
        [], RUN, "Files or modules that register features, rewards and agents of your own.", changeable=True,
        fixed="it names code and no value",
    )  # fmt: skip
    data: DataSpec = group(DataSpec, "Bars and their source.", role=MARKET, fixed=EXAM)
    session: SessionSpec = group(SessionSpec, "Sessions and the forced exit.", role=MARKET, fixed=EXAM)
    feature: FeatureSpec = group(FeatureSpec, "Inputs of the agent.", role=MARKET)
    env: EnvSpec = group(EnvSpec, "How actions become orders, and how long an episode is.")
    cost: CostSpec = group(CostSpec, "Costs of trading and holding.", fixed=EXAM)
    reward: RewardSpec = group(RewardSpec, "The reward that the agent learns from.")
    agent: AgentSpec = group(AgentSpec, "The agent, its hyperparameters and its training budget.")
    train: TrainSpec = group(
        TrainSpec, "How long the agent of a window trains, and on which disturbed observations."
    )
    window: WindowSpec = group(WindowSpec, "Walk-forward windows.", fixed=EXAM)
    score: ScoreSpec = group(ScoreSpec, "The objective of the search.", fixed=EXAM)


def resolve_run(spec: RunT) -> RunT:
    """Check the settings of a run together; replace null and file names by their contents."""
    check_agent(spec.agent)
    find_reward(spec.reward.name)
    choose_engine(spec.agent)  # refuses an engine that cannot train the agent
    if spec.train.passes is None:  # else each window has a budget of its own
        check_budget(spec.agent)
    check_forecast(spec.feature)
    spec = resolve_together(spec)
    return dataclasses.replace(spec, data=resolve_data(spec.data), window=inline_file(spec.window))


def check_forecast(feature: FeatureSpec) -> None:
    """Refuse an unknown forecaster, an agent that sees nothing of the market, a choice of hidden columns."""
    if feature.forecast != NO_FORECAST:
        find_forecaster(feature.forecast)
    elif feature.forecast_alone:
        raise BadInputError(
            "feature.forecast_alone=true needs a forecast: set feature.forecast=ridge, or leave it out"
        )
    if feature.select and feature.forecast_alone:
        raise BadInputError(
            f"feature.select={feature.select} chooses among columns that feature.forecast_alone=true hides: "
            "set feature.forecast_alone=false, or leave feature.select out"
        )


def resolve_together(spec: RunT) -> RunT:
    """Replace the values that follow from other settings, such as the kind of action from the agent."""
    env = dataclasses.replace(spec.env, action=action_of(spec.agent.name, spec.env.action))
    feature = read_feature_keys(spec.feature)
    check_groups(feature)
    return dataclasses.replace(spec, feature=feature, env=env)


def at_timeframe(spec: RunT, base: str) -> RunT:
    """Return the spec with the budget and the discount of timeframe `base` converted to its own timeframe.

    Trials make equal passes over the train span and discount equally in time: half the bars, half the steps.
    With train.passes the budget of a window follows its bars already.
    """
    ratio = timeframe_ns(spec.data.target) / timeframe_ns(base)
    if ratio == 1:
        return spec
    known = hyperparameters_of(spec.agent.name)
    agent = divide_budget(spec.agent, ratio) if spec.train.passes is None else spec.agent
    if "gamma" in known:
        gamma = float(agent.hyperparameters.get("gamma", known["gamma"].default)) ** ratio
        agent = dataclasses.replace(agent, hyperparameters={**agent.hyperparameters, "gamma": gamma})
    return dataclasses.replace(spec, agent=agent)


def agent_of_window(spec: RunSpec, bars: int) -> AgentSpec:
    """Return the agent with the budget of a window that trains on this number of bars."""
    return spec.agent if spec.train.passes is None else budget_of_passes(spec.agent, spec.train.passes, bars)


def read_run(plain: Mapping[str, Any]) -> RunSpec:
    """Rebuild the settings of a run from stored ones, which may be those of a whole study."""
    own = {part.name for part in dataclasses.fields(RunSpec)}
    return from_plain(RunSpec, {key: value for key, value in plain.items() if key in own})
