"""AgentSpec: an agent and its hyperparameters, checked against the signature of its algorithm.

Free of torch, so that the command line starts fast; `check_agent` alone imports it.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from envs.fields import EXAM, KIND_WORDS, RUN, check_ranges, setting, setting_of
from optimize.agents.hyperparameters import HYPERPARAMETERS
from optimize.agents.registry import (
    OWNED,
    Hyperparameter,
    find_algorithm,
    hyperparameters_of,
    hyperparameters_of_extensions,
)
from optimize.errors import BadInputError, nearest, require

# Width of each hidden layer; without any, the policy is linear in the observation.
NETS: dict[str, tuple[int, ...]] = {
    "linear": (),
    "tiny": (32, 32),
    "small": (64, 64),
    "medium": (128, 128),
    "large": (256, 256),
    "deep": (128, 128, 128),
}
ACTIVATIONS = ("tanh", "relu")
CRITIC_OF_LINEAR = NETS["small"]  # hidden layers of the critics of a linear policy that acts through them
MAX_LAYER_UNITS, MAX_LAYERS = 8192, 16  # units of a layer, layers
ENGINES = ("auto", "compiled", "stock")
FORMER_ENGINES = ("graphed",)  # of stored agents, which are still evaluated
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class AgentSpec:
    """One agent; its hyperparameters stand directly under `agent` and are checked by `check_agent`."""

    name: str = setting(
        "ppo", RUN, "Algorithm of the agent.",
        fixed="an agent has parameters of its own: run one study per agent",
    )  # fmt: skip
    total_timesteps: int = setting(
        20_000, RUN, "Training budget of a window, over all training environments.", unit="steps", low=1,
        fixed="search train.passes in its place, whose steps follow the timeframe",
    )  # fmt: skip
    n_envs: int = setting(8, RUN, "Parallel training environments.", unit="environments", low=1, fixed=EXAM)
    net: str | list[int] = setting(
        "small", RUN, "Hidden layers of the networks: a name, or a list of widths.", unit="units a layer",
        low=1, high=MAX_LAYER_UNITS,
        allowed=f"one of {', '.join(NETS)}, or a list of 1 to {MAX_LAYERS} widths from 1 to "
        f"{MAX_LAYER_UNITS}, such as [256,256]",
    )  # fmt: skip
    activation: str = setting("tanh", RUN, "Activation of the hidden layers.", choices=ACTIVATIONS)
    weight_decay: float = setting(
        0.0, RUN, "Decoupled weight decay: times learning_rate, the share of a weight that a step takes off.",
        low=0,
    )  # fmt: skip
    device: str = setting(
        "cpu", RUN, "Device of the training.", allowed="auto, cpu, cuda or cuda:NUMBER", fixed=EXAM
    )
    engine: str = setting(
        "auto", RUN, "Engine of the training: compiled kernels or stock stable-baselines3.",
        choices=(*ENGINES, *FORMER_ENGINES), allowed=f"one of {', '.join(ENGINES)}",
        fixed="it decides how the machine is used; set it for the whole study",
    )  # fmt: skip
    hyperparameters: dict[str, Any] = setting(
        {}, RUN, "Arguments of the stable-baselines3 constructor.",
        open_keys=lambda: HYPERPARAMETERS | hyperparameters_of_extensions(),
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "agent")
        named = self.net in NETS if isinstance(self.net, str) else is_widths(self.net)
        allowed = setting_of(AgentSpec.__dataclass_fields__["net"]).range
        if not named and self.net in ([], ()):
            raise BadInputError(
                f"agent.net={self.net!r} has no layers: agent.net=linear is the policy without hidden layers"
            )
        require(named, "agent.net", self.net, allowed, NETS if isinstance(self.net, str) else ())
        known = _DEVICE.fullmatch(self.device) is not None
        require(known, "agent.device", self.device, "auto, cpu, cuda or cuda:NUMBER")

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the width of each hidden layer."""
        return NETS[self.net] if isinstance(self.net, str) else tuple(self.net)


def network_of(spec: AgentSpec) -> list[int] | dict[str, list[int]]:
    """Return the hidden layers of an agent's networks, as stable-baselines3 takes them.

    Critics that a policy follows by their gradient, as those of SAC and TD3, keep hidden layers beside a
    linear policy: by a linear critic the best action would be the same in every state.
    """
    algorithm = find_algorithm(spec.name)
    if spec.widths or algorithm.on_policy or "continuous" not in algorithm.actions:
        return list(spec.widths)
    return {"pi": [], "qf": list(CRITIC_OF_LINEAR)}


def is_widths(value: object) -> bool:
    """Return whether a value is a list of the widths of hidden layers."""
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= MAX_LAYERS
        and all(type(width) is int for width in value)
    )


_AUTO = re.compile(r"auto_(?=.*[1-9])\d*\.?\d+")  # "auto_0.1": learned from 0.1 on


def check_agent(spec: AgentSpec) -> None:
    """Raise BadInputError unless the SB3 constructor can take these hyperparameters."""
    find_algorithm(spec.name)
    known = hyperparameters_of(spec.name)
    for key, value in spec.hyperparameters.items():
        if key not in known:
            raise BadInputError(_unknown(key, spec.name, known))
        _check_value(known[key], value)
    _check_together(spec, {key: known[key].default for key in known} | spec.hyperparameters)


def _unknown(key: str, name: str, known: dict[str, Hyperparameter]) -> str:
    if key in OWNED:
        return f"agent.{key} cannot be set: {OWNED[key]}"
    choices = sorted(
        {*known, "net", "activation", "weight_decay", "total_timesteps", "n_envs", "device", "engine"}
    )
    close = nearest(key, choices, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(choices)}"
    return f"agent.{key} is not an argument of {name}: {hint}"


def _check_value(parameter: Hyperparameter, value: Any) -> None:
    """Check one value against the annotated types and the range of its argument."""
    key = f"agent.{parameter.name}"
    fits = type(value) in parameter.types or (type(value) is int and float in parameter.types)
    words = " or ".join(KIND_WORDS[kind] for kind in KIND_WORDS if kind in parameter.types)
    if isinstance(value, str) and fits:
        from_there = parameter.name == "ent_coef"  # it is learned, so that it can begin somewhere
        autos = "a number, 'auto', or 'auto_' and a number" if from_there else "a number or 'auto'"
        require(value == "auto" or (from_there and _AUTO.fullmatch(value) is not None), key, value, autos)
    elif isinstance(value, str) and _is_number(value):
        words += ", without quotes"
    require(fits, key, value, words)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        require(math.isfinite(value), key, value, "finite")
        if declared := HYPERPARAMETERS.get(parameter.name):  # an agent of an extension may have others
            require(
                declared.setting.holds(value), key, value, declared.setting.range, declared.setting.choices
            )


def _check_together(spec: AgentSpec, values: dict[str, Any]) -> None:
    """Check constraints between several values."""
    if spec.weight_decay:
        most = 1 / float(values.get("learning_rate", 0) or 1)
        allowed = (
            f"below {most:g}, where a step would take each weight off whole, at this agent.learning_rate"
        )
        require(spec.weight_decay < most, "agent.weight_decay", spec.weight_decay, allowed)
        allowed = "0 while agent.use_sde is true: its matrix of deviations would decay"
        require(not values.get("use_sde"), "agent.weight_decay", spec.weight_decay, allowed)
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
