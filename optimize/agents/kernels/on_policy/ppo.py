"""PPO of stable-baselines3 with compiled rollouts and updates."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.utils import explained_variance

from envs.types import FloatArray, IntArray
from optimize.agents.kernels.bindings import kernel, refcounted_kernel
from optimize.agents.kernels.nets.actor_critic import (
    Network,
    Samples,
    Workspace,
    advantage_moments,
    backward_samples,
    forward_samples,
    score_actions,
)
from optimize.agents.kernels.nets.layers import Vector, output_layer
from optimize.agents.kernels.nets.optimizers import Adam, clip_scale, step_adam
from optimize.agents.kernels.on_policy.training import CompiledOnPolicy

# Columns of the losses.
ENTROPY_LOSS, POLICY_LOSS, VALUE_LOSS, CLIP_FRACTION, APPROX_KL, TOTAL_LOSS = range(6)


class PpoSettings(NamedTuple):
    """The settings of the loss."""

    clip_range: float
    clip_range_vf: float  # infinite: none
    vf_coef: float
    ent_coef: float
    max_grad_norm: float
    target_kl: float  # infinite: none
    normalise: bool  # the advantages of each batch


@kernel
def clipped_surrogate(
    samples: Samples, chosen: IntArray, work: Workspace, settings: PpoSettings, losses: FloatArray
) -> None:
    """Write the gradient by each log probability; put the loss, the share clipped and the KL in losses.

    L = -mean(min(r A, clip(r) A)), r = p / p_old; the KL is estimated as mean((r - 1) - log r).
    """
    count = len(chosen)
    mean, deviation = advantage_moments(samples.advantage, chosen, settings.normalise)
    lowest, highest = 1.0 - settings.clip_range, 1.0 + settings.clip_range
    loss, clipped, divergence = 0.0, 0, 0.0
    for row in range(count):
        sample = chosen[row]
        log_ratio = float(work.log_prob[row] - samples.log_prob[sample])
        ratio = math.exp(log_ratio)
        advantage = (samples.advantage[sample] - mean) / deviation
        free, held = advantage * ratio, advantage * min(max(ratio, lowest), highest)
        binds = held < free
        loss -= held if binds else free
        clipped += abs(ratio - 1.0) > settings.clip_range
        divergence += (ratio - 1.0) - log_ratio
        work.by_log_prob[row] = 0.0 if binds else -free / count
    losses[POLICY_LOSS] = loss / count
    losses[CLIP_FRACTION] = clipped / count
    losses[APPROX_KL] = divergence / count


@refcounted_kernel
def value_loss(
    network: Network, samples: Samples, chosen: IntArray, work: Workspace, vf_coef: float, clip: float
) -> float:
    """Write the gradient by each value and return the mean square error, not yet times vf_coef.

    A value counts only within `clip` of the value that the rollout had.
    """
    batch = len(chosen)
    values = output_layer(network.critic, work.stem, work.critic, batch)
    delta = output_layer(network.critic, work.stem_delta, work.critic_delta, batch)
    loss = 0.0
    for row in range(batch):
        sample = chosen[row]
        moved = values[0, row] - samples.value[sample]
        error = samples.value[sample] + min(max(moved, -clip), clip) - samples.target[sample]
        if abs(moved) <= clip:
            error = values[0, row] - samples.target[sample]
        loss += error * error
        delta[0, row] = 0.0 if abs(moved) > clip else 2.0 * vf_coef * error / batch
    return loss / batch


@refcounted_kernel
def run_epoch(
    network: Network,
    parameters: Vector,
    gradient: Vector,
    adam: Adam,
    step: int,
    features: NDArray[np.float32],
    samples: Samples,
    order: IntArray,
    work: Workspace,
    settings: PpoSettings,
    losses: FloatArray,
) -> tuple[int, bool]:
    """Take one step for each batch of the samples in this order, the first of them after `step` others.

    Return the batches whose losses (batches, 6) were written, and whether the last of them only showed that
    the policy had moved beyond 1.5 target_kl, so that no step was taken on it.
    """
    size = len(work.log_prob)
    batch = 0
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        loss = losses[batch]
        forward_samples(network, parameters, features, samples, chosen, work)
        loss[ENTROPY_LOSS] = -score_actions(network, parameters, samples, chosen, work)
        clipped_surrogate(samples, chosen, work, settings, loss)
        loss[VALUE_LOSS] = value_loss(
            network, samples, chosen, work, settings.vf_coef, settings.clip_range_vf
        )
        loss[TOTAL_LOSS] = (
            loss[POLICY_LOSS] + settings.ent_coef * loss[ENTROPY_LOSS] + settings.vf_coef * loss[VALUE_LOSS]
        )
        batch += 1
        if loss[APPROX_KL] > 1.5 * settings.target_kl:
            return batch, True
        backward_samples(network, parameters, gradient, samples, chosen, work, -settings.ent_coef)
        scale = clip_scale(gradient, settings.max_grad_norm)
        step_adam(parameters, gradient, scale, adam, step + batch)
    return batch, False


class CompiledPPO(CompiledOnPolicy, PPO):
    """PPO with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    def _batch_size(self) -> int:
        return min(self.batch_size, self.n_steps * self.n_envs)

    def train(self) -> None:
        """Update the policy with the last rollout."""
        self._update_learning_rate(self.policy.optimizer)
        collector, parameters = self._last_rollout(), self._flat.values()
        samples, adam, settings = collector.samples, self._adam(), self._ppo_settings()
        count = len(samples.bar)
        losses = np.empty((self.n_epochs, math.ceil(count / self._batch_size()), 6))
        steps = self._flat.steps()
        done = []
        for epoch in range(self.n_epochs):
            batches, stopped = run_epoch(
                self._network,
                parameters,
                self._flat.gradient,
                adam,
                steps,
                collector.env_state.features,
                samples,
                np.random.permutation(count),  # noqa: NPY002 (SB3 draws from the global generator)
                self._work,
                settings,
                losses[epoch],
            )
            steps += batches - stopped
            done.append(losses[epoch, :batches])
            self._n_updates += 1
            if stopped:
                if self.verbose >= 1:
                    kl = losses[epoch, batches - 1, APPROX_KL]
                    print(f"Early stopping at step {epoch} due to reaching max kl: {kl:.2f}")
                break
        self._flat.set_steps(steps)
        every = np.concatenate(done)
        self.logger.record("train/entropy_loss", every[:, ENTROPY_LOSS].mean())
        self.logger.record("train/policy_gradient_loss", every[:, POLICY_LOSS].mean())
        self.logger.record("train/value_loss", every[:, VALUE_LOSS].mean())
        self.logger.record("train/approx_kl", done[-1][:, APPROX_KL].mean())
        self.logger.record("train/clip_fraction", every[:, CLIP_FRACTION].mean())
        self.logger.record("train/loss", float(every[-1, TOTAL_LOSS]))
        self.logger.record("train/explained_variance", explained_variance(samples.value, samples.target))
        self._record_state()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", settings.clip_range)
        if self.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", settings.clip_range_vf)

    def _ppo_settings(self) -> PpoSettings:
        left = self._current_progress_remaining
        clip_range, clip_range_vf = self.clip_range, self.clip_range_vf
        assert callable(clip_range)
        return PpoSettings(
            clip_range=float(clip_range(left)),
            clip_range_vf=float(clip_range_vf(left)) if callable(clip_range_vf) else math.inf,
            vf_coef=float(self.vf_coef),
            ent_coef=float(self.ent_coef),
            max_grad_norm=float(self.max_grad_norm),
            target_kl=math.inf if self.target_kl is None else float(self.target_kl),
            normalise=bool(self.normalize_advantage),
        )
