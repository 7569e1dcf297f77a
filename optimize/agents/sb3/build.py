"""Construction of stable-baselines3 models from specifications."""

import os
import warnings
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from optimize.agents.budget import fit_to_budget
from optimize.agents.engines import Engine
from optimize.agents.optimizers import DecayedAdam, decay_arguments
from optimize.agents.registry import find_algorithm, hyperparameters_of
from optimize.agents.spec import AgentSpec, network_of

# torch's compiler, which the first optimizer imports, makes a cache folder in the temporary one although
# nothing is compiled: name it a folder that is there.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.dirname(torch.__file__))

_ACTIVATIONS: dict[str, type[torch.nn.Module]] = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


def build(spec: AgentSpec, vec_env: VecEnv, engine: Engine, seed: int) -> BaseAlgorithm:
    """Return an untrained model of the class of an engine, with every generator of its training seeded."""
    # These checks cost time and change no value; TrainingMonitor finds the same errors.
    torch.distributions.Distribution.set_default_validate_args(False)
    with warnings.catch_warnings():
        # The user chose the device; SB3 warns about a GPU for small networks each time.
        warnings.filterwarnings("ignore", message="You are trying to run .* on the GPU")
        # The last minibatch of an epoch may be smaller: equal passes at all timeframes are worth that.
        warnings.filterwarnings("ignore", message="You have specified a mini-batch size of")
        model = find_algorithm(spec.name).load(engine.name)(
            "MlpPolicy",
            vec_env,
            seed=seed,
            device=spec.device,
            policy_kwargs=policy_arguments(network_of(spec), spec.activation) | _optimizer_arguments(spec),
            **fit_to_budget(spec),
        )
    _fuse_optimizers(model)
    # SB3's own logger creates an empty folder for every training.
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def policy_arguments(net_arch: list[int] | dict[str, list[int]], activation: str) -> dict[str, Any]:
    """Return the arguments of SB3's policy classes for these layers."""
    return {"net_arch": net_arch, "activation_fn": _ACTIVATIONS[activation]}


def _optimizer_arguments(spec: AgentSpec) -> dict[str, Any]:
    """Return the arguments of SB3's policy classes for agent.weight_decay."""
    values = {key: each.default for key, each in hyperparameters_of(spec.name).items()} | spec.hyperparameters
    return decay_arguments(spec.weight_decay, values, find_algorithm(spec.name).on_policy)


def _fuse_optimizers(model: BaseAlgorithm) -> None:
    """Use torch's fused Adam, which makes training a tenth to a sixth faster."""
    holders = (model, model.policy, *model.policy.children())
    for optimizer in (value for holder in holders for value in vars(holder).values()):
        if type(optimizer) in (torch.optim.Adam, DecayedAdam):
            for group in optimizer.param_groups:
                group["fused"] = True
