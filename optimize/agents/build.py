"""From a specification to a stable-baselines3 model."""

import os
import warnings
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv

from optimize.agents.budget import fit_to_budget
from optimize.agents.compiled.qualify import choose_engine
from optimize.agents.registry import find_algorithm
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
        # The last minibatch of an epoch may be smaller: equal passes at all timeframes are worth that.
        warnings.filterwarnings("ignore", message="You have specified a mini-batch size of")
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
    """Return the class that trains this agent: stable-baselines3's own, or a subclass of it."""
    engine = choose_engine(spec, get_device(spec.device).type)
    return find_algorithm(spec.name).load(engine.name)


def policy_arguments(net_arch: list[int], activation: str) -> dict[str, Any]:
    """Return the arguments of SB3's policy classes for these layers."""
    return {"net_arch": net_arch, "activation_fn": _ACTIVATIONS[activation]}


def _fuse_optimizers(model: BaseAlgorithm) -> None:
    """Let each Adam update all its parameters in one kernel: training is a tenth to a sixth faster."""
    holders = (model, model.policy, *model.policy.children())
    for optimizer in (value for holder in holders for value in vars(holder).values()):
        if type(optimizer) is torch.optim.Adam:
            for group in optimizer.param_groups:
                group["fused"] = True
