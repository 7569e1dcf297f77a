"""PPO of stable-baselines3, its minibatch step a CUDA graph where there is a GPU."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
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
from optimize.agents.graphed.optimizers import descend, differentiate
from optimize.agents.graphed.step import Step

ENTROPY, POLICY, VALUE, DIVERGENCE, CLIPPED, TOTAL = range(6)  # what a step notes


@dataclass(frozen=True)
class Objective:
    """The numbers that a captured step holds fast: other numbers take another step."""

    ent_coef: float
    vf_coef: float
    max_grad_norm: float
    normalize_advantage: bool
    clips_value: bool
    stops_early: bool
    discrete: bool


class GraphedPPO(Graphed, PPO):
    """PPO with the hyperparameters, the log and the saved file of SB3's; the rollout stays on the device.

    Each minibatch is gathered there, and the losses are read once, after the last. The smaller minibatch at
    the end of an epoch runs without a graph.
    """

    def train(self) -> None:
        """Update the policy with the last rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        samples = flatten(self.rollout_buffer)
        count = len(samples[0])
        rollout = self._keep(("rollout", count), lambda: room_for(samples, self.device))
        for place, values in zip(rollout, samples, strict=True):
            place.copy_(values)
        ranges = self._keep("ranges", lambda: torch.zeros(2, device=self.device))
        for place, value in zip(ranges, self._clip_ranges(), strict=False):
            place.fill_(value)
        epochs = []
        for epoch in range(self.n_epochs):
            losses, stopped = self._run_epoch(rollout, ranges)
            epochs.append(losses)
            self._n_updates += 1
            if stopped:
                if self.verbose >= 1:
                    kl = losses[-1, DIVERGENCE]
                    print(f"Early stopping at step {epoch} due to reaching max kl: {kl:.2f}")
                break
        self._record(torch.cat(epochs).cpu().double().numpy(), len(epochs[-1]))

    def _clip_ranges(self) -> list[float]:
        """Return clip_range and, where it is set, clip_range_vf, by their schedules."""
        schedules: tuple[Any, Any] = (self.clip_range, self.clip_range_vf)
        return [float(each(self._current_progress_remaining)) for each in schedules if each is not None]

    def _run_epoch(self, rollout: Rollout, ranges: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Go through the rollout once; return the losses (M, 6) and whether to stop here."""
        count = len(rollout.values)
        size = min(self.batch_size, count)
        order, losses = permute(count, self.device), []
        for start in range(0, count, size):
            index = order[start : start + size]
            batch = self._minibatch(rollout, ranges, len(index), graph=len(index) == size)
            batch.index.copy_(index)
            batch.step.run()
            losses.append(batch.losses.clone())
            if self.target_kl is not None:
                # Whether to take the step hangs on its divergence: the one value awaited, each minibatch.
                if float(batch.losses[DIVERGENCE]) > 1.5 * self.target_kl:
                    return torch.stack(losses), True
                batch.step.run(1)
        return torch.stack(losses), False

    def _minibatch(self, rollout: Rollout, ranges: torch.Tensor, size: int, *, graph: bool) -> Minibatch:
        objective = Objective(
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
            max_grad_norm=self.max_grad_norm,
            normalize_advantage=self.normalize_advantage and size > 1,
            clips_value=self.clip_range_vf is not None,
            stops_early=self.target_kl is not None,
            discrete=isinstance(self.action_space, spaces.Discrete),
        )
        key = ("minibatch", len(rollout.values), size, graph, objective)
        return self._keep(key, lambda: make_minibatch(self.policy, rollout, ranges, objective, size, graph))

    def _record(self, losses: NDArray[np.float64], last: int) -> None:
        """Log the losses (M, 6) of all minibatches, `last` of which are the last epoch's."""
        log = self.logger
        log.record("train/entropy_loss", losses[:, ENTROPY].mean())
        log.record("train/policy_gradient_loss", losses[:, POLICY].mean())
        log.record("train/value_loss", losses[:, VALUE].mean())
        log.record("train/approx_kl", losses[-last:, DIVERGENCE].mean())
        log.record("train/clip_fraction", losses[:, CLIPPED].mean())
        log.record("train/loss", losses[-1, TOTAL])
        log.record("train/explained_variance", explained_variance(*flat_values(self.rollout_buffer)))
        if hasattr(self.policy, "log_std"):
            log.record("train/std", torch.exp(self.policy.log_std).mean().item())
        log.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in zip(("clip_range", "clip_range_vf"), self._clip_ranges(), strict=False):
            log.record(f"train/{name}", value)


def make_minibatch(
    policy: Any, rollout: Rollout, ranges: torch.Tensor, objective: Objective, size: int, graph: bool
) -> Minibatch:
    """Return the step of a minibatch; it has two parts where the divergence decides on the second."""
    device = ranges.device
    index = torch.zeros(size, dtype=torch.int64, device=device)
    losses = torch.zeros(6, device=device)
    weights = list(policy.parameters())

    def differ() -> None:
        found = evaluate(policy, rollout.take(index), ranges, objective)
        losses.copy_(found.detach())
        differentiate(found[TOTAL], policy.optimizer)

    def follow() -> None:
        torch.nn.utils.clip_grad_norm_(weights, objective.max_grad_norm)
        policy.optimizer.step()

    def both() -> None:
        found = evaluate(policy, rollout.take(index), ranges, objective)
        losses.copy_(found.detach())
        descend(found[TOTAL], policy.optimizer, weights, objective.max_grad_norm)

    parts = (differ, follow) if objective.stops_early else (both,)
    return Minibatch(index, losses, Step(parts, device, graph=graph and device.type == "cuda"))


def evaluate(policy: Any, batch: Rollout, ranges: torch.Tensor, objective: Objective) -> torch.Tensor:
    """Return the losses (6,) of a minibatch, as SB3's PPO.train defines them, with their gradient.

    `ranges` (2,) holds clip_range and clip_range_vf. Schulman et al. 2017, equations 7 and 9; the divergence
    is (r - 1) - log r, the mean of it an unbiased estimate of KL(old, new).
    """
    clip_range, clip_range_vf = ranges
    actions = batch.actions.long().flatten() if objective.discrete else batch.actions
    values, log_prob, entropy = policy.evaluate_actions(batch.observations, actions)
    values, advantages = values.flatten(), batch.advantages
    if objective.normalize_advantage:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_ratio = log_prob - batch.log_probs
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
    policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
    if objective.clips_value:
        moved = torch.clamp(values - batch.values, -clip_range_vf, clip_range_vf)
        values = batch.values + moved
    value_loss = functional.mse_loss(batch.returns, values)
    entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
    total = policy_loss + objective.ent_coef * entropy_loss + objective.vf_coef * value_loss
    divergence = (torch.exp(log_ratio) - 1 - log_ratio).mean()
    beyond = ((ratio - 1).abs() > clip_range).float().mean()
    return torch.stack((entropy_loss, policy_loss, value_loss, divergence, beyond, total))
