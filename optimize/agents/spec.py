"""What the user says about the agent, and the refusal of what SB3 would reject or train badly.

Free of torch, so that the command line starts fast; `check_agent` alone imports it.
"""

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from optimize.agents.compiled.qualify import ENGINES, FORMER_ENGINES, choose_engine
from optimize.agents.registry import OWNED, Hyperparameter, find_algorithm, hyperparameters_of
from optimize.errors import BadInputError, require

# Width of each hidden layer. A name, not a list, is what a categorical parameter can store.
NETS: dict[str, tuple[int, ...]] = {
    "tiny": (32, 32),
    "small": (64, 64),
    "medium": (128, 128),
    "large": (256, 256),
    "deep": (128, 128, 128),
}
ACTIVATIONS = ("tanh", "relu")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class AgentSpec:
    """One agent; `hyperparameters` are the arguments of the SB3 constructor, checked by `check_agent`."""

    name: str = "ppo"
    total_timesteps: int = 20_000  # per window, over all training environments
    n_envs: int = 8  # parallel training environments
    net: str = "small"
    activation: str = "tanh"
    device: str = "cpu"
    engine: str = "auto"
    hyperparameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.total_timesteps >= 1, "agent.total_timesteps", self.total_timesteps, "at least 1")
        require(self.n_envs >= 1, "agent.n_envs", self.n_envs, "at least 1")
        require(self.net in NETS, "agent.net", self.net, f"one of {', '.join(NETS)}")
        require(
            self.activation in ACTIVATIONS,
            "agent.activation",
            self.activation,
            f"one of {', '.join(ACTIVATIONS)}",
        )
        require(
            _DEVICE.fullmatch(self.device) is not None,
            "agent.device",
            self.device,
            "auto, cpu, cuda or cuda:NUMBER",
        )
        known = self.engine in (*ENGINES, *FORMER_ENGINES)
        require(known, "agent.engine", self.engine, f"one of {', '.join(ENGINES)}")


_AUTO = re.compile(r"auto_(?=.*[1-9])\d*\.?\d+")  # "auto_0.1": learned from 0.1 on
_TYPE_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


@dataclass(frozen=True)
class _Range:
    """What a numeric argument may be."""

    holds: Callable[[float], bool]
    words: str


_POSITIVE = _Range(lambda value: value > 0, "above 0")
_AT_LEAST_0 = _Range(lambda value: value >= 0, "at least 0")
_AT_LEAST_1 = _Range(lambda value: value >= 1, "at least 1")
_FRACTION = _Range(lambda value: 0 <= value <= 1, "from 0 to 1")
_POSITIVE_FRACTION = _Range(lambda value: 0 < value <= 1, "above 0 and at most 1")

_RANGES: dict[str, _Range] = {
    "learning_rate": _POSITIVE_FRACTION,
    "gamma": _POSITIVE_FRACTION,
    "tau": _POSITIVE_FRACTION,
    "gae_lambda": _FRACTION,
    "clip_range": _POSITIVE,
    "clip_range_vf": _POSITIVE,
    "target_kl": _POSITIVE,
    "max_grad_norm": _POSITIVE,
    "ent_coef": _AT_LEAST_0,
    "vf_coef": _AT_LEAST_0,
    "n_steps": _AT_LEAST_1,
    "n_epochs": _AT_LEAST_1,
    "batch_size": _AT_LEAST_1,
    "buffer_size": _AT_LEAST_1,
    "train_freq": _AT_LEAST_1,
    "target_update_interval": _AT_LEAST_1,
    "policy_delay": _AT_LEAST_1,
    "target_policy_noise": _AT_LEAST_0,
    "target_noise_clip": _AT_LEAST_0,
    "rms_prop_eps": _POSITIVE,
    "learning_starts": _AT_LEAST_0,
    "gradient_steps": _Range(lambda value: value == -1 or value >= 1, "at least 1, or -1 (one a step)"),
    "sde_sample_freq": _Range(lambda value: value == -1 or value >= 1, "at least 1, or -1 (once a rollout)"),
    "exploration_fraction": _FRACTION,
    "exploration_initial_eps": _FRACTION,
    "exploration_final_eps": _FRACTION,
}


def check_agent(spec: AgentSpec) -> None:
    """Raise BadInputError unless the SB3 constructor can take these hyperparameters."""
    find_algorithm(spec.name)
    known = hyperparameters_of(spec.name)
    for key, value in spec.hyperparameters.items():
        if key not in known:
            raise BadInputError(_unknown(key, spec.name, known))
        _check_value(known[key], value)
    _check_together(spec, {key: known[key].default for key in known} | spec.hyperparameters)
    choose_engine(spec)


def _unknown(key: str, name: str, known: dict[str, Hyperparameter]) -> str:
    if key in OWNED:
        return f"agent.{key} cannot be set: {OWNED[key]}"
    choices = sorted({*known, "net", "activation", "total_timesteps", "n_envs", "device", "engine"})
    close = difflib.get_close_matches(key, choices, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(choices)}"
    return f"agent.{key} is not an argument of {name}: {hint}"


def _check_value(parameter: Hyperparameter, value: Any) -> None:
    """Check one value against the annotated types and the range of its argument."""
    key = f"agent.{parameter.name}"
    fits = type(value) in parameter.types or (type(value) is int and float in parameter.types)
    words = " or ".join(_TYPE_WORDS[kind] for kind in _TYPE_WORDS if kind in parameter.types)
    if isinstance(value, str) and fits:
        from_there = parameter.name == "ent_coef"  # it is learned, so that it can begin somewhere
        autos = "a number, 'auto', or 'auto_' and a number" if from_there else "a number or 'auto'"
        require(value == "auto" or (from_there and _AUTO.fullmatch(value) is not None), key, value, autos)
    elif isinstance(value, str) and _is_number(value):
        words += " (YAML reads 1e-4 as text: write 0.0001 or 1.0e-4)"
    require(fits, key, value, words)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        require(math.isfinite(value), key, value, "finite")
        if allowed := _RANGES.get(parameter.name):
            require(allowed.holds(value), key, value, allowed.words)


def _check_together(spec: AgentSpec, values: dict[str, Any]) -> None:
    """Check what only several values together can break."""
    if find_algorithm(spec.name).on_policy and values.get("normalize_advantage"):
        allowed = "at least 2 while agent.normalize_advantage is true"
        batch_size = values.get("batch_size", 2)  # A2C has none: its batch is the rollout
        require(batch_size >= 2, "agent.batch_size", batch_size, allowed)
        rollout = spec.n_envs * min(values["n_steps"], spec.total_timesteps)
        require(rollout >= 2, "agent.n_steps * agent.n_envs", rollout, allowed)
    if "exploration_fraction" in values:
        require(
            values["target_update_interval"] >= spec.n_envs,
            "agent.target_update_interval",
            values["target_update_interval"],
            f"at least agent.n_envs={spec.n_envs}",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
