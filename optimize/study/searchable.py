"""Which keys and values may be searched: those that change the model or the market of the study at hand."""

from collections.abc import Sequence
from typing import Any

from envs.rewards import REWARDS
from optimize.agents.budget import BUDGETED, ROUNDED, effective
from optimize.agents.registry import searchable_keys, unsearchable
from optimize.agents.spec import check_agent
from optimize.errors import BadInputError
from optimize.search.leaves import Parameter, refusal
from optimize.search.space import Choices, SearchSpace, Value, apply, lint_space, parse_space
from optimize.study.spec import TIMEFRAME, StudySpec
from optimize.study.trial import at_timeframe

FAILURES = {"max_failures", "max_consecutive_failures", "max_alike_failures"}
MODEL_NEUTRAL = FAILURES | {"keep_models", "preflight", "env.action", "agent.name"}
REWARD = "reward.name"
COUNTED = {"target_update_interval", "train_freq"}  # of steps: what is longer than a training never happens


def check_space(spec: StudySpec, space: SearchSpace) -> None:
    """Refuse a space that may not be searched, or that offers what a trial would refuse when it is drawn."""
    lint_space(space, spec, lambda path: why_unsearchable(spec, path))
    for parameter in space.parameters:
        for value in _offered(parameter):
            try:
                check_agent(apply(spec, _parents(space, parameter) | {parameter.path: value}).agent)
            except BadInputError as error:
                if str(error) == _own_fault(spec):  # whatever the space offers
                    raise
                raise refusal(parameter.path, f"offers {value!r}: {error}") from None


def _own_fault(spec: StudySpec) -> str | None:
    """Return why the agent without its space is refused, None where it is not."""
    try:
        check_agent(spec.agent)
    except BadInputError as error:
        return str(error)
    return None


def budget_conflicts(spec: StudySpec, space: SearchSpace) -> list[str]:
    """Return the offered values that the training budget of a timeframe cannot honour, a text each.

    Two values that train alike are a conflict too: the sampler would learn from a difference that is none.
    """
    found = []
    for parameter in space.parameters:
        group, _, key = parameter.path.partition(".")
        if group == "agent" and key in BUDGETED:
            for timeframe in values_beside(space, parameter.path, TIMEFRAME, spec.data.target):
                found += _conflicts(spec, space, parameter, str(timeframe))
    return found


def _conflicts(spec: StudySpec, space: SearchSpace, parameter: Parameter, timeframe: str) -> list[str]:
    """Return the first value that a timeframe's training cuts, or that trains like an earlier one."""
    key = parameter.path.partition(".")[2]
    seen: dict[Any, Any] = {}
    for value in _offered(parameter):
        chosen = _longest_rollout(space) | _parents(space, parameter) | {parameter.path: value}
        chosen.pop(TIMEFRAME, None)
        whole = apply(spec, chosen)
        agent = at_timeframe(apply(whole, {TIMEFRAME: timeframe}), spec.data.target).agent
        came = effective(agent)[key]
        # A rollout follows the timeframe by design, so that its length is compared before.
        kept = effective(whole.agent)[key] if key == "n_steps" else came
        if key in COUNTED:
            kept = min(kept, agent.total_timesteps // (agent.n_envs if key == "train_freq" else 1))
        offers = f"space.{parameter.path} offers"
        works = f"but a training of {agent.total_timesteps} steps at {timeframe} works with"
        # Rounding to whole steps of all environments is no cut, unless two values become one.
        if kept != value and not (key in ROUNDED and 0 < value - kept < agent.n_envs):
            return [f"{offers} {value!r}, {works} {kept}"]
        if came in seen:
            return [f"{offers} {seen[came]!r} and {value!r}, {works} {came} for both"]
        seen[came] = value
    return []


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


def why_unsearchable(spec: StudySpec, path: str) -> str | None:
    """Return why a key may not be searched although it is no part of the exam, or None."""
    if path in MODEL_NEUTRAL:
        return "cannot change the built model or market"
    group, _, key = path.partition(".")
    if group == "agent":
        return _unread_by_agent(spec.agent.name, key)
    space = parse_space(spec.space)
    if group == "reward" and key != "name":
        return _unread_by_rewards(values_beside(space, path, REWARD, spec.reward.name), key, space)
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
    domain = found[key].domain if key in found else None  # its choices have the default among them
    return domain.values if isinstance(domain, Choices) else (default,)


def _unread_by_agent(name: str, key: str) -> str | None:
    reason, known = unsearchable(key), searchable_keys(name)
    if reason is None and key not in known:
        reason = f"is no argument of {name}; it has {', '.join(sorted(known))}"
    return reason


def _unread_by_rewards(names: Sequence[Value], key: str, space: SearchSpace) -> str | None:
    """Say that none of these rewards reads a key, and which do; that some do is enough."""
    rewards = [name for name in names if isinstance(name, str) and name in REWARDS]  # others are refused
    read = dict.fromkeys(known for name in rewards for known in REWARDS[name].parameters)
    if key in read or not rewards:
        return None
    readers = [name for name, reward in REWARDS.items() if key in reward.parameters]
    searched = any(parameter.path == REWARD for parameter in space.parameters)
    when = f"search it when: {{{REWARD}: [{', '.join(readers)}]}}"
    remedy = when if searched else f"set reward={' or reward='.join(readers)}"
    return f"reward={' or '.join(rewards)} reads {', '.join(read) or 'no such key'}; {remedy}"
