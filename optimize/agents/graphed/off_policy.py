"""What the graphed SAC, TD3 and DQN share: SB3's updates as steps over one batch that keeps its place."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from optimize.agents.graphed.algorithm import Graphed
from optimize.agents.graphed.step import Part, Step

LOSSES = 4  # columns, at least as many as any algorithm notes


class Batch:
    """A batch of transitions in one block, so that it reaches a GPU in one copy."""

    def __init__(self, samples: ReplayBufferSamples, device: torch.device) -> None:
        widths = [part.shape[1] for part in samples[:5]]
        rows = len(samples.observations)
        self._block = torch.zeros(rows, sum(widths) + 1, device=device)
        self._on_gpu = device.type == "cuda"
        self._given = torch.zeros(self._block.shape, pin_memory=True) if self._on_gpu else self._block
        self._fetched = torch.cuda.Event() if self._on_gpu else None  # type: ignore[no-untyped-call]
        columns = torch.split(self._block, [*widths, 1], dim=1)
        self.observations, self.actions, self.next_observations, self.dones, self.rewards = columns[:5]
        self.discounts = columns[5]
        self._places = torch.split(self._given, [*widths, 1], dim=1)

    def load(self, samples: ReplayBufferSamples, gamma: float) -> None:
        """Put in other transitions; `gamma` discounts them where they bring no discount of their own."""
        if self._fetched is not None:
            self._fetched.synchronize()  # of the copy before, or its source would change under it
        for place, part in zip(self._places, samples[:5], strict=False):
            place.copy_(part)
        if samples.discounts is None:
            self._places[5].fill_(gamma)
        else:
            self._places[5].copy_(samples.discounts)
        if self._fetched is not None:
            self._block.copy_(self._given, non_blocking=True)
            self._fetched.record()


@dataclass(frozen=True)
class Update:
    """One update as a step, and the losses (LOSSES,) that it notes."""

    step: Step
    losses: torch.Tensor


class GraphedOffPolicy(Graphed, OffPolicyAlgorithm):
    """An off-policy algorithm of SB3 that samples on the host and updates in steps on the device."""

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        raise NotImplementedError

    def _settings(self, number: int) -> Hashable:
        """Return the numbers that the step of this train()'s update holds fast."""
        raise NotImplementedError

    def _make_update(self, batch: Batch, losses: torch.Tensor, settings: Any) -> Part:
        """Return the update for these settings; it writes its losses (LOSSES,)."""
        raise NotImplementedError

    def _record(self, losses: NDArray[np.float64]) -> None:
        """Log the losses (U, LOSSES) of the updates."""
        raise NotImplementedError

    def _setup_model(self) -> None:
        super()._setup_model()
        assert self.replay_buffer is not None
        self.replay_buffer.device = torch.device("cpu")  # one block goes over, not each part of a batch

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Update the networks that often, each time with a batch of this size from the replay."""
        assert self.replay_buffer is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate(self._optimizers())
        losses = torch.zeros(gradient_steps, LOSSES, device=self.device)
        for number in range(gradient_steps):
            samples = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            batch = self._keep(("batch", batch_size), lambda: Batch(samples, self.device))  # noqa: B023
            batch.load(samples, self.gamma)
            update = self._update(batch, batch_size, self._settings(number))
            update.step.run()
            losses[number].copy_(update.losses)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self._record(losses.cpu().double().numpy())

    def _update(self, batch: Batch, batch_size: int, settings: Hashable) -> Update:
        def make() -> Update:
            losses = torch.zeros(LOSSES, device=self.device)
            part = self._make_update(batch, losses, settings)
            return Update(Step((part,), self.device, graph=self.device.type == "cuda"), losses)

        return self._keep(("update", batch_size, settings), make)
