"""From a specification to a stable-baselines3 model."""

import os
import warnings
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv

from optimize.agents.compiled.qualify import choose_engine
from optimize.agents.registry import find_algorithm, hyperparameters_of
from optimize.agents.spec import NETS, AgentSpec

# torch's compiler, which the first optimizer imports, makes a cache folder in the temporary one although
# nothing is compiled: name it a folder that is there.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.dirname(torch.__file__))

_ACTIVATIONS: dict[str, type[torch.nn.Module]] = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


def build(spec: AgentSpec, vec_env: VecEnv, seed: int) -> BaseAlgorithm:
    """Return an untrained model; its construction seeds every generator that its training draws from."""
    # The checks cost time and never change a value; Watch finds what they would.
    torch.distributions.Distribution.set_default_validate_args(False)
    with warnings.catch_warnings():
        # The user chose the device; SB3 advises against a GPU for small networks each time.
        warnings.filterwarnings("ignore", message="You are trying to run .* on the GPU")
        model = algorithm_of(spec)(
            "MlpPolicy",
            vec_env,
            seed=seed,
            device=spec.device,
            policy_kwargs=policy_arguments(list(NETS[spec.net]), spec.activation),
            **fit_to_budget(spec),
        )
    _fuse_optimizers(model)
    # SB3's own logger leaves an empty folder behind for every training.
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def algorithm_of(spec: AgentSpec) -> type[BaseAlgorithm]:
    """Return the class that trains this agent: stable-baselines3's own, or a compiled subclass of it."""
    engine = choose_engine(spec, get_device(spec.device).type)
    return find_algorithm(spec.name).load(engine.name)


def policy_arguments(net_arch: list[int], activation: str) -> dict[str, Any]:
    """Return the arguments of SB3's policy classes for these layers."""
    return {"net_arch": net_arch, "activation_fn": _ACTIVATIONS[activation]}


def fit_to_budget(spec: AgentSpec) -> dict[str, Any]:
    """Return the hyperparameters, with those cut that do not fit into `total_timesteps`.

    A rollout longer than the budget would train past it: n_steps is cut to a power of two that fits, and
    batch_size to the rollout. A replay buffer never holds more than the budget, so buffer_size is cut to it
    to save memory; learning_starts is cut to half of it, so that the agent learns at all.
    """
    values = dict(spec.hyperparameters)
    known = hyperparameters_of(spec.name)
    full = {key: hyperparameter.default for key, hyperparameter in known.items()} | values
    if find_algorithm(spec.name).on_policy:
        if full["n_steps"] * spec.n_envs > spec.total_timesteps:
            values["n_steps"] = _power_of_two_within(spec.total_timesteps // spec.n_envs)
        rollout = values.get("n_steps", full["n_steps"]) * spec.n_envs
        if full.get("batch_size", 0) > rollout:
            values["batch_size"] = rollout
    else:
        values["buffer_size"] = min(full["buffer_size"], max(spec.total_timesteps, spec.n_envs))
        values["learning_starts"] = min(full["learning_starts"], spec.total_timesteps // 2)
    return values


def _fuse_optimizers(model: BaseAlgorithm) -> None:
    """Let each Adam update all its parameters in one kernel: training is a tenth to a sixth faster."""
    holders = (model, model.policy, *model.policy.children())
    for optimizer in (value for holder in holders for value in vars(holder).values()):
        if type(optimizer) is torch.optim.Adam:
            for group in optimizer.param_groups:
                group["fused"] = True


def _power_of_two_within(limit: int) -> int:
    """Return the largest power of two that is at most limit, and at least 2."""
    return 1 << max(1, limit.bit_length() - 1)
