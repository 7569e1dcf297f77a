"""A rollout on the device and the minibatches drawn from it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer

from optimize.agents.graphed.step import Step

NAMES = ("observations", "actions", "values", "log_probs", "advantages", "returns")


class Rollout(NamedTuple):
    """The samples (Q, ...) of a rollout, or of a minibatch of it."""

    observations: torch.Tensor  # (Q, D)
    actions: torch.Tensor  # (Q, A)
    values: torch.Tensor  # (Q,)
    log_probs: torch.Tensor  # (Q,)
    advantages: torch.Tensor  # (Q,)
    returns: torch.Tensor  # (Q,)

    def take(self, index: torch.Tensor) -> "Rollout":
        """Return the samples at index (B,)."""
        return Rollout(*(samples[index] for samples in self))


@dataclass(frozen=True)
class Minibatch:
    """A step over a minibatch of one size: which samples it takes, and what it says of them."""

    index: torch.Tensor  # (B,)
    losses: torch.Tensor
    step: Step


def flatten(buffer: RolloutBuffer) -> list[torch.Tensor]:
    """Return the samples of a full buffer in the order in which its own minibatches count them."""
    assert buffer.full, "a rollout is trained on once it is full"
    found = []
    for name in NAMES:
        array = np.asarray(getattr(buffer, name), dtype=np.float32)
        if not buffer.generator_ready:
            array = buffer.swap_and_flatten(array)
        found.append(torch.from_numpy(array if name in NAMES[:2] else array.reshape(-1)))
    return found


def flat_values(buffer: RolloutBuffer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the values (Q,) that were foreseen and the returns (Q,) that came."""
    return buffer.values.flatten(), buffer.returns.flatten()


def room_for(samples: list[torch.Tensor], device: torch.device) -> Rollout:
    """Return a rollout on the device of the shape of these samples."""
    return Rollout(*(torch.empty(each.shape, device=device) for each in samples))


def permute(count: int, device: torch.device) -> torch.Tensor:
    """Return the order (Q,) of the samples in one epoch, drawn as SB3's buffer draws it."""
    return torch.from_numpy(np.random.permutation(count)).to(device)  # noqa: NPY002 (SB3's generator)
