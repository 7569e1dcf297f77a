"""DQN of stable-baselines3, its update a CUDA graph where there is a GPU."""

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from torch.nn import functional

from optimize.agents.graphed.off_policy import Batch, GraphedOffPolicy
from optimize.agents.graphed.optimizers import descend
from optimize.agents.graphed.step import Part


class GraphedDQN(GraphedOffPolicy, DQN):
    """DQN with the hyperparameters, the log and the saved file of SB3's."""

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.policy.optimizer]

    def _settings(self, number: int) -> float:
        return self.max_grad_norm

    def _make_update(self, batch: Batch, losses: torch.Tensor, settings: float) -> Part:
        weights = list(self.q_net.parameters())

        def update() -> None:
            with torch.no_grad():  # Mnih et al. 2015, algorithm 1
                following = self.q_net_target(batch.next_observations).max(dim=1, keepdim=True)[0]
                target = batch.rewards + (1 - batch.dones) * batch.discounts * following
            values = self.q_net(batch.observations).gather(1, batch.actions.long())
            loss = functional.smooth_l1_loss(values, target)
            losses[0].copy_(loss.detach())
            descend(loss, self.policy.optimizer, weights, settings)

        return update

    def _record(self, losses: NDArray[np.float64]) -> None:
        self.logger.record("train/loss", losses[:, 0].mean())
