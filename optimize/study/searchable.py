"""Which keys may be searched: those that change what a trial builds or trades, in the study at hand."""

from collections.abc import Sequence

from envs.rewards import REWARDS
from optimize.agents.registry import searchable_keys, unsearchable
from optimize.search.space import Choices, Scalar, SearchSpace, parse_space
from optimize.study.spec import StudySpec

FAILURES = {"max_failures", "max_consecutive_failures", "max_alike_failures"}
MODEL_NEUTRAL = FAILURES | {"keep_models", "preflight", "env.action", "agent.name"}
REWARD = "reward.name"


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


def values_beside(space: SearchSpace, path: str, key: str, default: Scalar) -> tuple[Scalar, ...]:
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


def _unread_by_rewards(names: Sequence[Scalar], key: str, space: SearchSpace) -> str | None:
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
