"""The agents on offer, and which of their arguments a user may set or search."""

import functools
import importlib
import inspect
import operator
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar

from envs.fields import RUN, UNSET, Declared, Setting
from optimize.agents.hyperparameters import HYPERPARAMETERS
from optimize.errors import BadInputError, near_hint, require
from optimize.extensions import extendable

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

KindT = TypeVar("KindT", bound=type)


@dataclass(frozen=True)
class Algorithm:
    """One algorithm; its class is imported on first use only, since torch takes a second to load."""

    name: str
    path: str  # "module:class"
    actions: frozenset[str]  # subset of {"continuous", "discrete"}
    on_policy: bool
    compiled: str = ""  # "module:class" of the subclass that trains by compiled kernels, where there is one

    def load(self, engine: str = "stock") -> "type[BaseAlgorithm]":
        """Import and return the class of an engine: stock or compiled."""
        path = self.compiled if engine == "compiled" else self.path
        module, _, attribute = path.partition(":")
        loaded: type[BaseAlgorithm] = getattr(importlib.import_module(module), attribute)
        return loaded


@dataclass(frozen=True)
class Hyperparameter:
    """One constructor argument that a plain value can set."""

    name: str
    types: frozenset[type]  # of int, float, bool, str, NoneType
    default: Any


_BOTH, _CONTINUOUS, _DISCRETE = map(frozenset, (("continuous", "discrete"), ("continuous",), ("discrete",)))
_KERNELS = "optimize.agents.kernels"

ALGORITHMS: dict[str, Algorithm] = extendable(
    {
        algorithm.name: algorithm
        for algorithm in (
            Algorithm("ppo", "stable_baselines3:PPO", _BOTH, True, f"{_KERNELS}.on_policy.ppo:CompiledPPO"),
            Algorithm(
                "sac", "stable_baselines3:SAC", _CONTINUOUS, False, f"{_KERNELS}.off_policy.sac:CompiledSAC"
            ),
            Algorithm(
                "td3", "stable_baselines3:TD3", _CONTINUOUS, False, f"{_KERNELS}.off_policy.td3:CompiledTD3"
            ),
            Algorithm(
                "dqn", "stable_baselines3:DQN", _DISCRETE, False, f"{_KERNELS}.off_policy.dqn:CompiledDQN"
            ),
            Algorithm("a2c", "stable_baselines3:A2C", _BOTH, True, f"{_KERNELS}.on_policy.a2c:CompiledA2C"),
        )
    }
)

BUILT_IN = frozenset(ALGORITHMS)

# Constructor arguments that Walkforge sets itself, each with the key to use instead.
OWNED: dict[str, str] = {
    "policy": "use agent.net and agent.activation",
    "policy_kwargs": "use agent.net and agent.activation",
    "env": "the market environment is built from env, cost and reward",
    "seed": "use the top-level seed",
    "verbose": "training is reported by the study",
    "tensorboard_log": "training is reported by the study",
    "stats_window_size": "training is reported by the study",
    "optimize_memory_usage": "it cannot handle episodes that end by time",
    "_init_setup_model": "it is internal to stable-baselines3",
}


def agent(name: str, *, actions: Iterable[str] = ("continuous",)) -> Callable[[KindT], KindT]:
    """Register a class of stable-baselines3's interface, or a subclass of one of its classes, as agent.name.

    actions: continuous, discrete or both. The arguments of its constructor that plain values can set become
    keys under agent; its policy_aliases["MlpPolicy"] is the policy that is trained, saved and rebuilt.
    """

    def register(kind: KindT) -> KindT:
        from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
        from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

        able = frozenset(actions)
        known = bool(able) and able <= _BOTH
        require(known, f"actions of agent {name!r}", sorted(able), "continuous, discrete or both")
        if not issubclass(kind, (OnPolicyAlgorithm, OffPolicyAlgorithm)):
            raise BadInputError(
                f"agent {name!r} is {kind.__name__}: register a subclass of stable-baselines3's "
                "OnPolicyAlgorithm or OffPolicyAlgorithm, such as one of PPO"
            )
        path, on_policy = f"{kind.__module__}:{kind.__qualname__}", issubclass(kind, OnPolicyAlgorithm)
        ALGORITHMS[name] = Algorithm(name, path, able, on_policy)
        hyperparameters_of.cache_clear()
        return kind

    return register


def find_algorithm(name: str) -> Algorithm:
    """Return the algorithm of that name, or raise BadInputError listing the choices."""
    if name not in ALGORITHMS:
        choices = f"choose one of {', '.join(ALGORITHMS)}{near_hint(name, ALGORITHMS)}"
        raise BadInputError(f"agent.name={name!r} is not an agent: {choices}")
    return ALGORITHMS[name]


def action_of(name: str, requested: str = "auto") -> str:
    """Return the kind of action ("continuous" or "discrete") the agent gets for env.action=requested."""
    actions = find_algorithm(name).actions
    if requested == "auto":
        return "continuous" if "continuous" in actions else "discrete"
    if requested not in actions:
        able = [other.name for other in ALGORITHMS.values() if requested in other.actions]
        remedy = f", or choose an agent that can: {', '.join(able)}" if able else ""
        raise BadInputError(
            f"env.action={requested!r} does not fit agent.name={name!r}, which acts "
            f"{' or '.join(sorted(actions))}: set env.action=auto{remedy}"
        )
    return requested


@cache
def hyperparameters_of(name: str) -> dict[str, Hyperparameter]:
    """Return the constructor's arguments that a plain value can set, in order."""
    found = {}
    for key, parameter in inspect.signature(find_algorithm(name).load()).parameters.items():
        members = typing.get_args(parameter.annotation) or (parameter.annotation,)
        types = frozenset(member for member in members if member in (int, float, bool, str, NoneType))
        if key not in OWNED and key != "device" and types - {NoneType}:
            found[key] = Hyperparameter(key, types, parameter.default)
    return found


def hyperparameters_of_extensions() -> dict[str, Declared]:
    """Return the constructor arguments that only agents of extensions take, as keys under `agent`."""
    takers: dict[str, list[str]] = {}
    for name in ALGORITHMS.keys() - BUILT_IN:  # their classes are imported already
        for key in hyperparameters_of(name).keys() - HYPERPARAMETERS.keys():
            takers.setdefault(key, []).append(name)
    found = {}
    for key, names in sorted(takers.items()):
        kinds = sorted({kind for name in names for kind in hyperparameters_of(name)[key].types}, key=str)
        meaning = f"Argument of the agent {' and '.join(sorted(names))}."
        found[key] = Declared(functools.reduce(operator.or_, kinds), UNSET, Setting(RUN, meaning))
    return found


def takers_of(key: str) -> list[str]:
    """Return the agents of extensions whose constructor takes an argument."""
    return sorted(name for name in ALGORITHMS.keys() - BUILT_IN if key in hyperparameters_of(name))


def searchable_keys(agent_name: str) -> frozenset[str]:
    """Return the keys under `agent` that change the model which is built."""
    return frozenset(hyperparameters_of(agent_name)) | {"net", "activation", "weight_decay"}


def unsearchable(key: str) -> str | None:
    """Return why Walkforge sets this argument of an algorithm itself, or None."""
    return f"Walkforge sets it: {OWNED[key]}" if key in OWNED else None
