"""Values of keys that a registry holds, with their meanings: features, providers, rewards, agents."""

import re
from collections.abc import Callable

from optimize.cli.comments import explain_file
from optimize.cli.yaml_files import conf_folder


def first_sentence(text: str | None) -> str:
    """Return the first sentence of a comment or docstring, without a verb before it."""
    words = " ".join((text or "").split())
    bare = words.removeprefix("Return ").removeprefix("Write ")
    line = re.split(r"\.(?=\s|$)", bare, maxsplit=1)[0]
    return line if bare == words else f"{line[:1].upper()}{line[1:]}"


def _features() -> list[tuple[str, str]]:
    from optimize.data.features import list_features

    return [
        (
            each.name,
            f"{each.meaning}; group {each.group}; warm-up {each.warmup} bars"
            f"{'; reads volume' if each.reads_volume else ''}",
        )
        for each in list_features()
    ]


def _groups() -> list[tuple[str, str]]:
    from optimize.data.features import list_features
    from optimize.data.features.spec import GROUPS

    members: dict[str, list[str]] = {group: [] for group in GROUPS}
    for each in list_features():
        members[each.group].append(each.name)
    return [
        (group, ", ".join(members[group]) or "features of extensions that name no group") for group in GROUPS
    ]


def _providers() -> list[tuple[str, str]]:
    from optimize.data.sources.providers import PROVIDERS

    folder = conf_folder() / "data"
    return [(name, first_sentence(explain_file(folder / f"{name}.yaml", "data").head)) for name in PROVIDERS]


def _rewards() -> list[tuple[str, str]]:
    from envs.rewards import REWARDS

    heads = {name: explain_file(conf_folder() / "reward" / f"{name}.yaml", "reward").head for name in REWARDS}
    return [(name, first_sentence(heads[name] or each.step.__doc__)) for name, each in REWARDS.items()]


def _forecasters() -> list[tuple[str, str]]:
    from optimize.walkforward.forecasters import FORECASTERS, NO_FORECAST

    none = (NO_FORECAST, "No forecast: the agent sees the columns alone")
    return [none, *((name, first_sentence(each.meaning)) for name, each in FORECASTERS.items())]


def _agents() -> list[tuple[str, str]]:
    from optimize.agents.registry import ALGORITHMS

    return [
        (
            name,
            f"{' or '.join(sorted(each.actions))} actions; trains on "
            f"{'its own rollouts' if each.on_policy else 'a replay buffer'}",
        )
        for name, each in ALGORITHMS.items()
    ]


VALUES_OF: dict[str, Callable[[], list[tuple[str, str]]]] = {  # keys whose values a registry holds
    "data.provider": _providers,
    "feature.indicators": _features,
    "feature.groups": _groups,
    "feature.forecast": _forecasters,
    "reward.name": _rewards,
    "agent.name": _agents,
}
