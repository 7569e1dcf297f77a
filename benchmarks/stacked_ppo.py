"""K trainings of PPO of one shape, batched as one; a prototype to measure, tested against K of SB3's."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.stacked import Stack, forward, gather, layers_of, normal_log_prob, pairs
from envs.vector import TradingVectorEnv
from optimize.agents.graphed.step import Step


class Settings(NamedTuple):
    """What the trials may differ in, (K, 1) each, and what they share."""

    rate: Tensor
    clip_range: Tensor
    ent_coef: Tensor
    vf_coef: Tensor
    max_grad_norm: Tensor
    batch_size: int
    n_epochs: int
    n_steps: int
    gamma: float
    gae_lambda: float


class Batch(NamedTuple):
    """Samples of K trials."""

    observations: Tensor  # (K, B, D)
    actions: Tensor  # (K, B, A)
    log_probs: Tensor  # (K, B), and so the next
    advantages: Tensor
    returns: Tensor


def settings_of(models: Sequence[Any]) -> Settings:
    """Return the settings of K models of SB3's PPO at the start of their training."""
    first = models[0]

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=first.device)[:, None]

    return Settings(
        rate=column([model.lr_schedule(1.0) for model in models]),
        clip_range=column([model.clip_range(1.0) for model in models]),
        ent_coef=column([model.ent_coef for model in models]),
        vf_coef=column([model.vf_coef for model in models]),
        max_grad_norm=column([model.max_grad_norm for model in models]),
        batch_size=first.batch_size,
        n_epochs=first.n_epochs,
        n_steps=first.n_steps,
        gamma=first.gamma,
        gae_lambda=first.gae_lambda,
    )


class Policies:
    """The actors and critics of K models of SB3's PPO with tanh layers and continuous actions."""

    def __init__(self, policies: Sequence[Any]) -> None:
        actor = [layers_of([torch.nn.Sequential(p.mlp_extractor.policy_net, p.action_net) for p in policies])]
        critic = [layers_of([torch.nn.Sequential(p.mlp_extractor.value_net, p.value_net) for p in policies])]
        spread = torch.stack([each.log_std.detach()[None] for each in policies])  # (K, 1, A)
        self.stack = Stack([*actor[0], *critic[0], spread], eps=1e-5)
        weights, own = self.stack.weights, len(actor[0])
        self.actor, self.critic, self.log_std = pairs(weights[:own]), pairs(weights[own:-1]), weights[-1]

    def judge(self, observations: Tensor) -> Tensor:
        """Return the values (K, B) of observations (K, B, D)."""
        return forward(self.critic, observations, torch.tanh)[:, :, 0]

    def update(self, batch: Batch, settings: Settings) -> None:
        """Take one minibatch step of each, the losses as in SB3's PPO.train."""
        mean = forward(self.actor, batch.observations, torch.tanh)
        log_prob = normal_log_prob(batch.actions, mean, self.log_std)
        advantages = batch.advantages - batch.advantages.mean(dim=1, keepdim=True)
        advantages = advantages / (batch.advantages.std(dim=1, keepdim=True) + 1e-8)
        ratio = torch.exp(log_prob - batch.log_probs)
        clipped = torch.clamp(ratio, 1 - settings.clip_range, 1 + settings.clip_range)
        policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean(dim=1)
        value_loss = (batch.returns - self.judge(batch.observations)).square().mean(dim=1)
        entropy = self.log_std.sum(dim=(1, 2))  # and a constant
        losses = policy_loss - settings.ent_coef[:, 0] * entropy + settings.vf_coef[:, 0] * value_loss
        self.stack.descend(losses.sum(), settings.rate, settings.max_grad_norm)


class StackedPPO:
    """K trainings on K * N environments that are stepped together."""

    def __init__(self, models: Sequence[Any], env: TradingVectorEnv) -> None:
        self.policies, self.settings = Policies([each.policy for each in models]), settings_of(models)
        self.env, self.trials = env, len(models)
        self._device = self.settings.rate.device
        observed, _ = env.reset(seed=0)
        per_trial = env.num_envs // self.trials
        self.seen = torch.zeros(self.trials, per_trial, observed.shape[1], device=self._device)
        self.seen.copy_(torch.from_numpy(observed).view(self.seen.shape))
        size = int(np.prod(env.single_action_space.shape or (1,)))
        self.action = torch.zeros(self.trials, per_trial, size, device=self._device)
        self.log_prob, self.value = (torch.zeros_like(self.action[:, :, 0]) for _ in range(2))
        count, graph = self.settings.n_steps * per_trial, self._device.type == "cuda"
        shapes = [(count, observed.shape[1]), (count, size), (count,), (count,), (count,)]
        rooms = (torch.zeros(self.trials, *shape, device=self._device) for shape in shapes)
        self.rollout = Batch(*rooms)
        index_shape = (self.trials, self.settings.batch_size)
        self.index = torch.zeros(index_shape, dtype=torch.int64, device=self._device)
        self._act = Step([self._decide], self._device, graph=graph)
        self._look = Step([self._judge], self._device, graph=graph)
        self._update = Step([self._learn], self._device, graph=graph)

    @torch.no_grad()
    def _decide(self) -> None:
        mean = forward(self.policies.actor, self.seen, torch.tanh)
        noise = torch.randn(mean.shape, device=self._device)
        self.action.copy_(mean + noise * torch.exp(self.policies.log_std))
        self.log_prob.copy_(normal_log_prob(self.action, mean, self.policies.log_std))
        self.value.copy_(self.policies.judge(self.seen))

    @torch.no_grad()
    def _judge(self) -> None:
        self.value.copy_(self.policies.judge(self.seen))

    def _learn(self) -> None:
        batch = Batch(*(gather(each, self.index) for each in self.rollout))
        self.policies.update(batch, self.settings)

    def learn(self, rollouts: int) -> None:
        """Play and train so often."""
        for _ in range(rollouts):
            self._collect()
            for _ in range(self.settings.n_epochs):
                order = torch.rand(self.rollout.returns.shape, device=self._device).argsort(dim=1)
                width = self.settings.batch_size
                for start in range(0, order.shape[1] - width + 1, width):
                    self.index.copy_(order[:, start : start + width])
                    self._update.run()

    def _collect(self) -> None:
        """Play one rollout and estimate its advantages (Schulman et al. 2016, equation 16)."""
        steps, width = self.settings.n_steps, self.seen.shape[1]
        rewards, dones, values = (np.zeros((steps + 1, self.env.num_envs), np.float32) for _ in range(3))
        for step in range(steps):
            self._act.run()
            here = slice(step * width, (step + 1) * width)
            for room, found in zip(self.rollout, (self.seen, self.action, self.log_prob), strict=False):
                room[:, here].copy_(found)
            values[step] = self.value.flatten().cpu()
            action = self.action.flatten(0, 1).clamp(-1, 1).cpu().numpy()
            observed, reward, terminated, truncated, infos = self.env.step(action)
            rewards[step], dones[step] = reward, terminated | truncated
            if truncated.any():
                rewards[step] += self._beyond(truncated, infos["final_obs"])
            self._see(observed)
        self._look.run()
        values[steps] = self.value.flatten().cpu()
        self._estimate(rewards, dones, values)

    def _see(self, observed: np.ndarray) -> None:
        self.seen.copy_(torch.from_numpy(observed).view(self.seen.shape))

    def _beyond(self, truncated: np.ndarray, final: np.ndarray) -> np.ndarray:
        """Return the discounted values (K * N,) of what followed where an episode ended by time alone."""
        self._see(final)
        self._look.run()
        return np.where(truncated, self.settings.gamma * self.value.flatten().cpu().numpy(), 0.0)

    def _estimate(self, rewards: np.ndarray, dones: np.ndarray, values: np.ndarray) -> None:
        steps, gamma = self.settings.n_steps, self.settings.gamma
        advantages, running = np.zeros_like(values[:-1]), np.zeros_like(values[0])
        for step in reversed(range(steps)):
            going = 1 - dones[step]
            error = rewards[step] + gamma * values[step + 1] * going - values[step]
            running = error + gamma * self.settings.gae_lambda * going * running
            advantages[step] = running
        for room, found in (
            (self.rollout.advantages, advantages),
            (self.rollout.returns, advantages + values[:-1]),
        ):
            by_trial = torch.from_numpy(found).view(steps, self.trials, -1).transpose(0, 1)
            room.copy_(by_trial.reshape(room.shape))
