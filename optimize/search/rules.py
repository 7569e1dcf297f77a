"""Which keys and values may be searched: those that change the model or the market of the study at hand."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from envs.rewards import REWARDS, find_reward
from optimize.agents.budget import BUDGETED_KEYS, ROUNDED_KEYS, effective_hyperparameters
from optimize.agents.engines import choose_engine
from optimize.agents.registry import hyperparameters_of, searchable_keys, unsearchable
from optimize.agents.spec import AgentSpec, check_agent
from optimize.data.features import check_groups
from optimize.data.features.registry import FEATURES, check_feature_keys
from optimize.data.features.spec import FEATURE_KEYS
from optimize.errors import BadInputError
from optimize.search.parse import Parameter, invalid
from optimize.search.space import Choices, SearchSpace, Value, apply, expand, lint_space, offered_values
from optimize.search.spec import INDICATORS, TIMEFRAME
from optimize.walkforward.forecasters import NO_FORECAST, find_forecaster
from optimize.walkforward.spec import RunSpec, at_timeframe

REWARD = "reward.name"
GROUPS_KEY, SELECT, FORECAST = "feature.groups", "feature.select", "feature.forecast"
READ_BY_FEW = frozenset({"zigzag_pct"})  # keys under `feature` that few features read
READ_BESIDE: dict[str, tuple[str, Callable[[Any], bool], str]] = {  # by hyperparameter: the other one, when
    "sde_sample_freq": ("use_sde", bool, "true"),
    "use_sde_at_warmup": ("use_sde", bool, "true"),
    "rms_prop_eps": ("use_rms_prop", bool, "true"),
    "target_entropy": ("ent_coef", lambda value: isinstance(value, str), "auto"),
}
# Keys in steps, which have no effect beyond the length of a training.
STEP_INTERVALS = {
    "target_update_interval",
    "train_freq",
}
LONGEST_TRAINING = 2**40  # no training is as long: values that conflict even then do not fit by its length


def check_space(spec: RunSpec, space: SearchSpace) -> None:
    """Refuse a space that may not be searched, or a value in it that a trial would refuse."""
    lint_space(space, spec, lambda path: why_unsearchable(spec, space, path))
    _check_groups(spec, space)
    for parameter in space.parameters:
        for value in _offered(parameter):
            try:
                chosen = _parents(space, parameter) | {parameter.path: value}
                offered = apply(spec, expand(space, chosen))
                _check_agent(offered.agent)
                check_feature_keys(offered.feature)
                if offered.feature.forecast != NO_FORECAST:
                    find_forecaster(offered.feature.forecast)
                find_reward(offered.reward.name)
            except BadInputError as error:
                if str(error) == _own_fault(spec):  # whatever the space offers
                    raise
                raise invalid(parameter.path, f"offers {value!r}: {error}") from None


def _check_groups(spec: RunSpec, space: SearchSpace) -> None:
    """Refuse groups of columns that are empty for some of the features which a trial may have beside them."""
    configured = spec.feature.indicators
    for groups in offered_values(space, GROUPS_KEY):
        for names in values_beside(space, GROUPS_KEY, INDICATORS, [*configured]):
            try:
                check_groups(apply(spec, {INDICATORS: names, GROUPS_KEY: groups}).feature)
            except BadInputError as error:
                raise invalid(GROUPS_KEY, f"offers {groups!r}: {error}") from None


def _own_fault(spec: RunSpec) -> str | None:
    """Return why the agent without its space is refused, None where it is not."""
    try:
        _check_agent(spec.agent)
    except BadInputError as error:
        return str(error)
    return None


def _check_agent(agent: AgentSpec) -> None:
    """Refuse hyperparameters that SB3 would refuse, and an engine that cannot train them."""
    check_agent(agent)
    choose_engine(agent)


def unread_keys(spec: RunSpec, space: SearchSpace) -> list[str]:
    """Return the searched keys that no trial reads because of another setting, a text each."""
    found = []
    for path in (parameter.path for parameter in space.parameters):
        group, _, key = path.partition(".")
        reason = None
        if group == "feature" and key in READ_BY_FEW:
            reason = _unread_by_features(space, path, spec)
        elif path in ("feature.horizon", "feature.forecast_alone"):
            reason = _unread_without_forecast(spec, space, path)
        elif path == SELECT and all(
            values_beside(space, path, "feature.forecast_alone", spec.feature.forecast_alone)
        ):
            reason = "feature.forecast_alone=true hides the columns that it chooses among"
        elif group == "agent" and key in READ_BESIDE:
            reason = _unread_beside(spec, space, path)
        if reason:
            found.append(f"space.{path} changes no trial: {reason}")
    return found


def _unread_beside(spec: RunSpec, space: SearchSpace, path: str) -> str | None:
    """Return why no trial reads a hyperparameter that an agent reads beside some values of another only."""
    other, reads, remedy = READ_BESIDE[path.partition(".")[2]]
    known = hyperparameters_of(spec.agent.name)
    default = known[other].default if other in known else None
    offered = values_beside(space, path, f"agent.{other}", spec.agent.hyperparameters.get(other, default))
    if any(map(reads, offered)):
        return None
    return f"{spec.agent.name} reads it with agent.{other}={remedy} only"


def _unread_without_forecast(spec: RunSpec, space: SearchSpace, path: str) -> str | None:
    """Return why no trial reads a key of the forecast, None where one does; select reads the horizon too."""
    if any(value != NO_FORECAST for value in values_beside(space, path, FORECAST, spec.feature.forecast)):
        return None
    if path == "feature.forecast_alone":
        return "no trial has a forecast; set feature.forecast=ridge or search it"
    selects = spec.feature.select > 0 or any(each.path == SELECT for each in space.parameters)
    return None if selects else "it is read with feature.select or feature.forecast only"


def budget_conflicts(spec: RunSpec, space: SearchSpace) -> list[str]:
    """Return the offered values that the training budget of a timeframe cannot honour, a text each.

    Two values that train alike are a conflict too: the sampler would learn from a difference that is none.
    With train.passes each window has a budget of its own, known only once its market is built.
    """
    if spec.train.passes is not None:
        return []
    found = []
    for parameter in space.parameters:
        group, _, key = parameter.path.partition(".")
        if group == "agent" and key in BUDGETED_KEYS:
            for timeframe in values_beside(space, parameter.path, TIMEFRAME, spec.data.target):
                found += _conflicts(spec, space, parameter, str(timeframe))
    return found


def sufficient_budget(spec: RunSpec, space: SearchSpace) -> int | None:
    """Return the fewest agent.total_timesteps that honour every offered value; None where no number does."""

    def honours(steps: int) -> bool:
        agent = dataclasses.replace(spec.agent, total_timesteps=steps)
        return not budget_conflicts(dataclasses.replace(spec, agent=agent), space)

    few, enough = spec.agent.total_timesteps, 2 * spec.agent.total_timesteps
    while not honours(enough):
        few, enough = enough, 2 * enough
        if enough > LONGEST_TRAINING:
            return None
    while enough - few > 1:  # more steps never cut a value that fewer steps honour
        middle = (few + enough) // 2
        few, enough = (few, middle) if honours(middle) else (middle, enough)
    return enough


def _conflicts(spec: RunSpec, space: SearchSpace, parameter: Parameter, timeframe: str) -> list[str]:
    """Return the values that a timeframe's training cuts, then those that train alike."""
    key = parameter.path.partition(".")[2]
    cut: dict[Any, list[str]] = {}  # by the value in effect
    alike: dict[Any, list[str]] = {}
    for value in _offered(parameter):
        chosen = _longest_rollout(space) | _parents(space, parameter) | {parameter.path: value}
        chosen.pop(TIMEFRAME, None)
        whole = apply(spec, expand(space, chosen))
        agent = at_timeframe(apply(whole, {TIMEFRAME: timeframe}), spec.data.target).agent
        came = effective_hyperparameters(agent)[key]
        # A rollout follows the timeframe by design, so that its length is compared before.
        kept = effective_hyperparameters(whole.agent)[key] if key == "n_steps" else came
        if key in STEP_INTERVALS:
            kept = min(kept, agent.total_timesteps // (agent.n_envs if key == "train_freq" else 1))
        # Rounding to whole steps of all environments is no cut, unless two values become one.
        if kept == value or (key in ROUNDED_KEYS and 0 < value - kept < agent.n_envs):
            alike.setdefault(came, []).append(repr(value))
        else:
            cut.setdefault(kept, []).append(repr(value))
    works = f"but a training of {agent.total_timesteps} steps at {timeframe} works with"
    found = [(values, f"{works} {kept}") for kept, values in cut.items()]
    found += [(values, f"{works} {came} for all of them") for came, values in alike.items() if values[1:]]
    return [f"space.{parameter.path} offers {' and '.join(values)}, {text}" for values, text in found]


def _offered(parameter: Parameter) -> tuple[Any, ...]:
    """Return the choices of a parameter, or the ends of its range."""
    domain = parameter.domain
    return domain.values if isinstance(domain, Choices) else (domain.low, domain.high)


def _parents(space: SearchSpace, parameter: Parameter) -> dict[str, Value]:
    """Return values under which a parameter is active, its parents' parents included."""
    by_path = {each.path: each for each in space.parameters}
    found: dict[str, Value] = {}
    for path, values in parameter.when:
        found |= _parents(space, by_path[path]) | {path: values[0]}
    return found


def _longest_rollout(space: SearchSpace) -> dict[str, Value]:
    """Return the largest n_steps that is offered: the size of a batch is judged beside it."""
    of_steps = (each for each in space.parameters if each.path == "agent.n_steps" and not each.when)
    return {each.path: max(_offered(each)) for each in of_steps}


def why_unsearchable(spec: RunSpec, space: SearchSpace, path: str) -> str | None:
    """Return why a key may not be searched although it is no part of the exam, or None."""
    group, _, key = path.partition(".")
    if group == "agent":
        return _unread_by_agent(spec.agent.name, key)
    if group == "feature" and key in FEATURE_KEYS:
        return _unread_by_features(space, path, spec)
    if group == "reward" and key != "name":
        return _unread_by_rewards(values_beside(space, path, REWARD, spec.reward.name), key, space)
    if path == "train.patience" and 0 in values_beside(
        space, path, "train.validation", spec.train.validation
    ):
        return "it needs a validation tail; set train.validation=0.2, or search it beside values above 0"
    if path == "env.rebalance_band" and spec.env.action == "discrete":
        return "discrete actions trade on every change, whatever the band; set env.action=continuous"
    if path == "env.episode_bars":
        episodes = values_beside(space, path, "env.episode", spec.env.episode)
        return None if "bars" in episodes else "env.episode=session makes every episode one whole session"
    return None


def values_beside(space: SearchSpace, path: str, key: str, default: Value) -> tuple[Value, ...]:
    """Return the values that `key` can have in a trial that searches `path`."""
    found = {parameter.path: parameter for parameter in space.parameters}
    conditions = dict(found[path].when) if path in found else {}
    if key in conditions:
        return conditions[key]
    group, _, name = key.rpartition(".")
    if group in found and found[group].options:  # each choice is a file of the group
        chosen = [found[group].options[str(choice)] for choice in conditions.get(group, found[group].options)]
        return tuple(option.get(name, default) for option in chosen)
    domain = found[key].domain if key in found else None  # its choices have the default among them
    return domain.values if isinstance(domain, Choices) else (default,)


def _unread_by_features(space: SearchSpace, path: str, spec: RunSpec) -> str | None:
    """Return that no feature which a trial can have reads a key, and which feature does."""
    key = path.partition(".")[2]
    readers = [name for name, known in FEATURES.items() if key in (*known.keys, *known.reads)]
    lists = values_beside(space, path, INDICATORS, [*spec.feature.indicators])
    offered = {name for value in lists if isinstance(value, list) for name in value}
    if offered & set(readers):
        return None
    return f"no feature of a trial reads it; add {' or '.join(readers)} to {INDICATORS}"


def _unread_by_agent(name: str, key: str) -> str | None:
    reason, known = unsearchable(key), searchable_keys(name)
    if reason is None and key not in known:
        reason = f"is not an argument of {name}; it has {', '.join(sorted(known))}"
    return reason


def _unread_by_rewards(names: Sequence[Value], key: str, space: SearchSpace) -> str | None:
    """Return why a key is unread by all these rewards, with those that read it; None if any reads it."""
    rewards = [name for name in names if isinstance(name, str) and name in REWARDS]  # others are refused
    read = dict.fromkeys(known for name in rewards for known in REWARDS[name].parameters)
    if key in read or not rewards:
        return None
    readers = [name for name, reward in REWARDS.items() if key in reward.parameters]
    named = [each.path for each in space.parameters if each.path in (REWARD, REWARD.partition(".")[0])]
    searched = bool(named)
    when = f"search it when: {{{named[0] if named else REWARD}: [{', '.join(readers)}]}}"
    remedy = when if searched else f"set reward={' or reward='.join(readers)}"
    return f"reward={' or '.join(rewards)} reads {', '.join(read) or 'no such key'}; {remedy}"
