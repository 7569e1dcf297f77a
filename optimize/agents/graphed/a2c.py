"""A2C of stable-baselines3, its update a CUDA graph where there is a GPU."""

import torch
from gymnasium import spaces
from stable_baselines3 import A2C
from stable_baselines3.common.utils import explained_variance
from torch.nn import functional

from optimize.agents.graphed.algorithm import Graphed
from optimize.agents.graphed.on_policy import (
    Minibatch,
    Rollout,
    flat_values,
    flatten,
    permute,
    room_for,
)
from optimize.agents.graphed.optimizers import descend
from optimize.agents.graphed.step import Step


class GraphedA2C(Graphed, A2C):
    """A2C with the hyperparameters, the log and the saved file of SB3's; one step takes the whole rollout."""

    def train(self) -> None:
        """Update the policy once with the last rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        samples = flatten(self.rollout_buffer)
        count = len(samples[0])
        key = (count, self.ent_coef, self.vf_coef, self.max_grad_norm, self.normalize_advantage)
        rollout = self._keep(("rollout", count), lambda: room_for(samples, self.device))
        for place, values in zip(rollout, samples, strict=True):
            place.copy_(values)
        batch = self._keep(key, lambda: self._make_step(rollout))
        batch.index.copy_(permute(count, self.device))
        batch.step.run()
        self._n_updates += 1
        entropy_loss, policy_loss, value_loss = batch.losses.tolist()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        explained = explained_variance(*flat_values(self.rollout_buffer))
        self.logger.record("train/explained_variance", explained)
        self.logger.record("train/entropy_loss", entropy_loss)
        self.logger.record("train/policy_loss", policy_loss)
        self.logger.record("train/value_loss", value_loss)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())

    def _make_step(self, rollout: Rollout) -> Minibatch:
        index = torch.zeros(len(rollout.values), dtype=torch.int64, device=self.device)
        losses = torch.zeros(3, device=self.device)
        weights = list(self.policy.parameters())

        def update() -> None:
            found = self._evaluate(rollout.take(index))
            losses.copy_(found.detach())
            entropy_loss, policy_loss, value_loss = found
            loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
            descend(loss, self.policy.optimizer, weights, self.max_grad_norm)

        return Minibatch(index, losses, Step((update,), self.device, graph=self.device.type == "cuda"))

    def _evaluate(self, batch: Rollout) -> torch.Tensor:
        """Return entropy, policy and value loss (3,) as SB3's A2C.train defines them, for a gradient."""
        discrete = isinstance(self.action_space, spaces.Discrete)
        actions = batch.actions.long().flatten() if discrete else batch.actions
        values, log_prob, entropy = self.policy.evaluate_actions(batch.observations, actions)
        advantages = batch.advantages
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        policy_loss = -(advantages * log_prob).mean()
        value_loss = functional.mse_loss(batch.returns, values.flatten())
        entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
        return torch.stack((entropy_loss, policy_loss, value_loss))
