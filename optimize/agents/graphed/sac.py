"""SAC of stable-baselines3, its update a CUDA graph where there is a GPU."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.utils import polyak_update
from torch.nn import functional

from optimize.agents.graphed.off_policy import Batch, GraphedOffPolicy
from optimize.agents.graphed.optimizers import descend
from optimize.agents.graphed.step import Part

TEMPERATURE, TEMPERATURE_LOSS, CRITIC, ACTOR = range(4)  # what an update notes


class Settings(NamedTuple):
    """The numbers of an update that a captured step holds fast."""

    tau: float  # 0: the targets stay
    target_entropy: float


class GraphedSAC(GraphedOffPolicy, SAC):
    """SAC with the hyperparameters, the log and the saved file of SB3's."""

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        temperature = [] if self.ent_coef_optimizer is None else [self.ent_coef_optimizer]
        return [self.actor.optimizer, self.critic.optimizer, *temperature]

    def _settings(self, number: int) -> Settings:
        due = number % self.target_update_interval == 0
        return Settings(self.tau if due else 0.0, float(self.target_entropy))

    def _make_update(self, batch: Batch, losses: torch.Tensor, settings: Settings) -> Part:
        def update() -> None:
            action, log_prob = self.actor.action_log_prob(batch.observations)
            log_prob = log_prob.reshape(-1, 1)
            temperature = self._tune_temperature(log_prob.detach(), settings.target_entropy, losses)
            target = self._target(batch, temperature)
            values = self.critic(batch.observations, batch.actions)
            critic_loss = 0.5 * torch.stack([functional.mse_loss(value, target) for value in values]).sum()
            losses[CRITIC].copy_(critic_loss.detach())
            descend(critic_loss, self.critic.optimizer)
            chosen = torch.cat(self.critic(batch.observations, action), dim=1).min(dim=1, keepdim=True)[0]
            actor_loss = (temperature * log_prob - chosen).mean()
            losses[ACTOR].copy_(actor_loss.detach())
            descend(actor_loss, self.actor.optimizer)
            if settings.tau:
                polyak_update(self.critic.parameters(), self.critic_target.parameters(), settings.tau)

        return update

    def _tune_temperature(
        self, log_prob: torch.Tensor, target_entropy: float, losses: torch.Tensor
    ) -> torch.Tensor:
        """Return the entropy coefficient before its own step (Haarnoja et al. 2018b, equation 18)."""
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            losses[TEMPERATURE].copy_(self.ent_coef_tensor)
            return self.ent_coef_tensor
        temperature = torch.exp(self.log_ent_coef.detach())
        losses[TEMPERATURE].copy_(temperature[0])
        loss = -(self.log_ent_coef * (log_prob + target_entropy)).mean()
        losses[TEMPERATURE_LOSS].copy_(loss.detach())
        descend(loss, self.ent_coef_optimizer)
        return temperature

    @torch.no_grad()
    def _target(self, batch: Batch, temperature: torch.Tensor) -> torch.Tensor:
        """Return the soft targets (B, 1) of the critics (Haarnoja et al. 2018a, equation 8, two critics)."""
        action, log_prob = self.actor.action_log_prob(batch.next_observations)
        following = torch.cat(self.critic_target(batch.next_observations, action), dim=1)
        value = following.min(dim=1, keepdim=True)[0] - temperature * log_prob.reshape(-1, 1)
        target: torch.Tensor = batch.rewards + (1 - batch.dones) * batch.discounts * value
        return target

    def _record(self, losses: NDArray[np.float64]) -> None:
        self.logger.record("train/ent_coef", losses[:, TEMPERATURE].mean())
        self.logger.record("train/actor_loss", losses[:, ACTOR].mean())
        self.logger.record("train/critic_loss", losses[:, CRITIC].mean())
        if self.ent_coef_optimizer is not None:
            self.logger.record("train/ent_coef_loss", losses[:, TEMPERATURE_LOSS].mean())
