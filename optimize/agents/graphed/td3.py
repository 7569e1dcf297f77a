"""TD3 of stable-baselines3, its update a CUDA graph where there is a GPU."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import TD3
from stable_baselines3.common.utils import polyak_update
from torch.nn import functional

from optimize.agents.graphed.off_policy import Batch, GraphedOffPolicy
from optimize.agents.graphed.optimizers import descend
from optimize.agents.graphed.step import Part

CRITIC, ACTOR = range(2)  # what an update notes


class Settings(NamedTuple):
    """The numbers of an update that a captured step holds fast."""

    moves_actor: bool
    tau: float
    noise: float
    noise_clip: float


class GraphedTD3(GraphedOffPolicy, TD3):
    """TD3 with the hyperparameters, the log and the saved file of SB3's."""

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.actor.optimizer, self.critic.optimizer]

    def _settings(self, number: int) -> Settings:
        due = (self._n_updates + number + 1) % self.policy_delay == 0
        return Settings(due, self.tau, self.target_policy_noise, self.target_noise_clip)

    def _make_update(self, batch: Batch, losses: torch.Tensor, settings: Settings) -> Part:
        losses[ACTOR] = torch.nan  # until an update moves the actor

        def update() -> None:
            target = self._target(batch, settings)
            values = self.critic(batch.observations, batch.actions)
            critic_loss = torch.stack([functional.mse_loss(value, target) for value in values]).sum()
            losses[CRITIC].copy_(critic_loss.detach())
            descend(critic_loss, self.critic.optimizer)
            if not settings.moves_actor:
                return
            actor_loss = -self.critic.q1_forward(batch.observations, self.actor(batch.observations)).mean()
            losses[ACTOR].copy_(actor_loss.detach())
            descend(actor_loss, self.actor.optimizer)
            polyak_update(self.critic.parameters(), self.critic_target.parameters(), settings.tau)
            polyak_update(self.actor.parameters(), self.actor_target.parameters(), settings.tau)

        return update

    @torch.no_grad()
    def _target(self, batch: Batch, settings: Settings) -> torch.Tensor:
        """Return the targets (B, 1) of the critics (Fujimoto et al. 2018, algorithm 1)."""
        noise = torch.empty(batch.actions.shape, device=self.device).normal_(0, settings.noise)
        noise = noise.clamp(-settings.noise_clip, settings.noise_clip)
        action = (self.actor_target(batch.next_observations) + noise).clamp(-1, 1)
        following = torch.cat(self.critic_target(batch.next_observations, action), dim=1)
        value = following.min(dim=1, keepdim=True)[0]
        target: torch.Tensor = batch.rewards + (1 - batch.dones) * batch.discounts * value
        return target

    def _record(self, losses: NDArray[np.float64]) -> None:
        moved = losses[:, ACTOR][~np.isnan(losses[:, ACTOR])]
        if len(moved):
            self.logger.record("train/actor_loss", moved.mean())
        self.logger.record("train/critic_loss", losses[:, CRITIC].mean())
