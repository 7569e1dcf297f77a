"""SBX's PPO and SAC (JAX) on our own vector environment, which is faster for it than any other."""

import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import sbx
import torch
from stable_baselines3.common.logger import Logger

from benchmarks.peers.models import Shape, learner, native_env, read_shapes
from benchmarks.peers.rounds import Player, serve

TOGETHER = 64  # steps, and updates after them, that SAC does in one piece where it is let


def make(folder: Path, shape: Shape, together: int | None = None) -> Any:
    """Make a model with the networks and hyperparameters of the shape."""
    settings = dict(shape.hyperparameters)
    if together is not None:
        settings |= {"train_freq": together, "gradient_steps": together}
    kind = {"ppo": sbx.PPO, "sac": sbx.SAC}[shape.algorithm]
    layers = {"net_arch": shape.layers}
    model = kind("MlpPolicy", native_env(folder, shape), seed=0, policy_kwargs=layers, **settings)
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def makers(folder: Path) -> dict[str, Callable[[], Player]]:
    """Return each shape as asked for, and SAC in pieces that suit SBX, at the same number of updates."""
    found: dict[str, Callable[[], Player]] = {}
    for shape in read_shapes(folder):
        found[f"{shape.key}:sbx"] = partial(learner, partial(make, folder, shape), shape.width)
        if shape.algorithm == "sac":
            piece = partial(make, folder, shape, TOGETHER)
            found[f"{shape.key}:sbx_in_pieces"] = partial(learner, piece, TOGETHER)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    serve(makers(Path(sys.argv[1])), clock=time.process_time)
