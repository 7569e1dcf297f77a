"""K trainings of SAC of one shape, batched as one; a prototype to measure, tested against K of SB3's."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.stacked import Stack, forward, gather, layers_of, normal_log_prob, pairs
from envs.vector import TradingVectorEnv
from optimize.agents.graphed.step import Step

EDGE = 1e-6  # SB3's, against the logarithm of 0 at the ends of tanh


class Batch(NamedTuple):
    """Transitions of K trials."""

    observations: Tensor  # (K, B, D)
    actions: Tensor  # (K, B, A)
    following: Tensor  # (K, B, D)
    dones: Tensor  # (K, B), and so the next
    rewards: Tensor


class Networks:
    """The actors, critics, targets and temperatures of K models of SB3's SAC with ReLU layers."""

    def __init__(self, models: Sequence[Any]) -> None:
        first = models[0]
        self.rate = torch.tensor([each.lr_schedule(1.0) for each in models], device=first.device)[:, None]
        self.gamma, self.tau, self.target_entropy = first.gamma, first.tau, float(first.target_entropy)
        body = [nn.Sequential(each.actor.latent_pi, each.actor.mu) for each in models]
        spread = layers_of([each.actor.log_std for each in models])
        self.actor = Stack([*layers_of(body), *spread], eps=1e-8)
        self.body, self.spread = pairs(self.actor.weights[:-2]), pairs(self.actor.weights[-2:])
        self.critics = stack_critics([each.critic for each in models])
        self.targets = stack_critics([each.critic_target for each in models])
        logs = torch.stack([each.log_ent_coef.detach() for each in models])
        self.temperature = Stack([logs], eps=1e-8)

    def act(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return squashed actions (K, B, A) and their log densities (K, B)."""
        latent = torch.relu(forward(self.body[:-1], observations, torch.relu))
        mean = torch.baddbmm(self.body[-1][1], latent, self.body[-1][0])
        log_std = torch.baddbmm(self.spread[0][1], latent, self.spread[0][0]).clamp(-20, 2)
        raw = mean + noise * torch.exp(log_std)
        action = torch.tanh(raw)
        squeezed = torch.log(1 - action.square() + EDGE).sum(dim=2)
        return action, normal_log_prob(raw, mean, log_std) - squeezed

    def judge(self, stack: Stack, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the values (2, K, B) of both critics."""
        layers, inputs = pairs(stack.weights), torch.cat([observations, actions], dim=2)
        half = len(layers) // 2
        both = (forward(each, inputs, torch.relu)[:, :, 0] for each in (layers[:half], layers[half:]))
        return torch.stack(tuple(both))

    def update(self, batch: Batch, noise: Tensor) -> None:
        """Take one step of each, as SB3's SAC.train does; noise (2, K, B, A)."""
        action, log_prob = self.act(batch.observations, noise[0])
        log_temperature = self.temperature.weights[0][:, 0]  # (K,)
        temperature = torch.exp(log_temperature.detach())[:, None]
        wanted = (log_prob.detach() + self.target_entropy).mean(dim=1)
        self.temperature.descend(-(log_temperature * wanted).sum(), self.rate)
        with torch.no_grad():
            next_action, next_log_prob = self.act(batch.following, noise[1])
            value = self.judge(self.targets, batch.following, next_action).min(dim=0)[0]
            value = value - temperature * next_log_prob
            target = batch.rewards + (1 - batch.dones) * self.gamma * value
        judged = self.judge(self.critics, batch.observations, batch.actions)
        self.critics.descend(0.5 * (judged - target).square().mean(dim=2).sum(), self.rate)
        chosen = self.judge(self.critics, batch.observations, action).min(dim=0)[0]
        self.actor.descend((temperature * log_prob - chosen).mean(dim=1).sum(), self.rate)
        with torch.no_grad():
            self.targets.matrix.lerp_(self.critics.matrix, self.tau)


def stack_critics(critics: Sequence[Any]) -> Stack:
    """Return both networks of each critic in one stack."""
    first, second = (layers_of([each.q_networks[number] for each in critics]) for number in range(2))
    return Stack([*first, *second], eps=1e-8)


class StackedSAC:
    """K trainings, each in one environment, that are stepped together and updated after each step."""

    def __init__(self, models: Sequence[Any], env: TradingVectorEnv, capacity: int) -> None:
        self.networks, self.env, self.trials = Networks(models), env, len(models)
        assert env.num_envs == self.trials, "SAC is measured with one environment for each trial"
        device = self.networks.rate.device
        observed, _ = env.reset(seed=0)
        size = int(np.prod(env.single_action_space.shape or (1,)))
        self.seen = torch.from_numpy(observed).to(device)[:, None]  # (K, 1, D)
        self.action = torch.zeros(self.trials, 1, size, device=device)
        shapes = [(observed.shape[1],), (size,), (observed.shape[1],), (), ()]
        rooms = (torch.zeros(self.trials, capacity, *shape, device=device) for shape in shapes)
        self.replay = Batch(*rooms)
        self.filled, self._place = torch.zeros((), device=device), 0
        self._batch, self._device = models[0].batch_size, device
        self._act, self._update = (
            Step([part], device, graph=device.type == "cuda") for part in (self._decide, self._learn)
        )

    @torch.no_grad()
    def _decide(self) -> None:
        self.action.copy_(self.networks.act(self.seen, torch.randn_like(self.action))[0])

    def _learn(self) -> None:
        drawn = torch.rand(self.trials, self._batch, device=self._device) * self.filled
        batch = Batch(*(gather(each, drawn.long()) for each in self.replay))
        noise = torch.randn(2, *batch.actions.shape, device=self._device)
        self.networks.update(batch, noise)

    def learn(self, steps: int) -> None:
        """Step all environments so often, with an update after each step."""
        for _ in range(steps):
            self._act.run()
            action = self.action[:, 0]
            observed, reward, terminated, _, infos = self.env.step(action.cpu().numpy())
            last = infos.get("final_obs", observed)  # of all rows, the same where none has ended
            found = (self.seen[:, 0], action, last, terminated.astype(np.float32), reward.astype(np.float32))
            for room, value in zip(self.replay, found, strict=True):
                room[:, self._place].copy_(torch.as_tensor(value))
            capacity = self.replay.rewards.shape[1]
            self._place = (self._place + 1) % capacity
            self.filled.add_(1).clamp_(max=capacity)
            self.seen.copy_(torch.from_numpy(observed)[:, None])
            self._update.run()
