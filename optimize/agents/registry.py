"""The agents on offer, and which of their arguments a user may set or search."""

import importlib
import inspect
import typing
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any

from optimize.errors import BadInputError

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm


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
_COMPILED = "optimize.agents.compiled"

ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("ppo", "stable_baselines3:PPO", _BOTH, True, f"{_COMPILED}.ppo:CompiledPPO"),
        Algorithm("sac", "stable_baselines3:SAC", _CONTINUOUS, False, f"{_COMPILED}.sac:CompiledSAC"),
        Algorithm("td3", "stable_baselines3:TD3", _CONTINUOUS, False, f"{_COMPILED}.td3:CompiledTD3"),
        Algorithm("dqn", "stable_baselines3:DQN", _DISCRETE, False, f"{_COMPILED}.dqn:CompiledDQN"),
        Algorithm("a2c", "stable_baselines3:A2C", _BOTH, True, f"{_COMPILED}.a2c:CompiledA2C"),
    )
}

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

_UNSEARCHABLE: dict[str, str] = {
    "name": "an agent has parameters of its own: run one study per agent",
    "total_timesteps": "it is the training budget, and trials must compare at equal budgets",
    "n_envs": "it says how the machine is used; set it for the whole study",
    "device": "it says how the machine is used; set it for the whole study",
    "engine": "it says how the machine is used; set it for the whole study",
    "hyperparameters": "its keys stand directly under agent",
}


def find_algorithm(name: str) -> Algorithm:
    """Return the algorithm of that name, or raise BadInputError listing the choices."""
    if name not in ALGORITHMS:
        raise BadInputError(f"agent.name={name!r} is not an agent: choose one of {', '.join(ALGORITHMS)}")
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


def searchable_keys(agent_name: str) -> frozenset[str]:
    """Return the keys under `agent` that change the model which is built."""
    return frozenset(hyperparameters_of(agent_name)) | {"net", "activation"}


def unsearchable(key: str) -> str | None:
    """Return why this key (`device` or `agent.device`) may not be searched, or None."""
    key = key.removeprefix("agent.")
    if reason := _UNSEARCHABLE.get(key):
        return reason
    return f"Walkforge sets it: {OWNED[key]}" if key in OWNED else None
