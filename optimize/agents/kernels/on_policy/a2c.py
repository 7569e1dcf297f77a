"""A2C of stable-baselines3 with compiled rollouts and updates."""

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import A2C
from stable_baselines3.common.utils import explained_variance

from envs.types import FloatArray, IntArray
from optimize.agents.kernels.bindings import refcounted_kernel
from optimize.agents.kernels.nets.actor_critic import (
    Network,
    Samples,
    Workspace,
    advantage_moments,
    backward_samples,
    forward_samples,
    score_actions,
)
from optimize.agents.kernels.nets.layers import Vector
from optimize.agents.kernels.nets.optimizers import clip_and_step_adam, clip_and_step_rmsprop, read_rmsprop
from optimize.agents.kernels.on_policy.ppo import ENTROPY_LOSS, POLICY_LOSS, VALUE_LOSS, value_loss
from optimize.agents.kernels.on_policy.training import CompiledOnPolicy

NO_CLIP = float("inf")


@refcounted_kernel
def a2c_gradient(
    network: Network,
    parameters: Vector,
    gradient: Vector,
    features: NDArray[np.float32],
    samples: Samples,
    order: IntArray,
    work: Workspace,
    vf_coef: float,
    ent_coef: float,
    normalise: bool,
    losses: FloatArray,
) -> None:
    """Write the gradient of -mean(A log p) - ent_coef mean(H) + vf_coef mean((V - R)^2), and the losses."""
    count = len(order)
    forward_samples(network, parameters, features, samples, order, work)
    losses[ENTROPY_LOSS] = -score_actions(network, parameters, samples, order, work)
    mean, deviation = advantage_moments(samples.advantage, order, normalise)
    loss = 0.0
    for row in range(count):
        advantage = (samples.advantage[order[row]] - mean) / deviation
        loss -= advantage * work.log_prob[row]
        work.by_log_prob[row] = -advantage / count
    losses[POLICY_LOSS] = loss / count
    losses[VALUE_LOSS] = value_loss(network, samples, order, work, vf_coef, NO_CLIP)
    backward_samples(network, parameters, gradient, samples, order, work, -ent_coef)


class CompiledA2C(CompiledOnPolicy, A2C):
    """A2C with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    def _batch_size(self) -> int:
        return self.n_steps * self.n_envs

    def train(self) -> None:
        """Update the policy with the last rollout."""
        self._update_learning_rate(self.policy.optimizer)
        collector, parameters = self._last_rollout(), self._flat.values()
        samples, losses = collector.samples, np.empty(6)
        a2c_gradient(
            self._network,
            parameters,
            self._flat.gradient,
            collector.env_state.features,
            samples,
            np.random.permutation(len(samples.bar)),  # noqa: NPY002 (as SB3 draws, though the sums are alike)
            self._work,
            float(self.vf_coef),
            float(self.ent_coef),
            bool(self.normalize_advantage),
            losses,
        )
        self._step()
        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/explained_variance", explained_variance(samples.value, samples.target))
        self.logger.record("train/entropy_loss", float(losses[ENTROPY_LOSS]))
        self.logger.record("train/policy_loss", float(losses[POLICY_LOSS]))
        self.logger.record("train/value_loss", float(losses[VALUE_LOSS]))
        self._record_state()

    def _step(self) -> None:
        """Step along the gradient with the policy's optimizer, RMSprop unless use_rms_prop is false."""
        flat, limit = self._flat, float(self.max_grad_norm)
        steps = flat.steps() + 1
        if isinstance(self.policy.optimizer, torch.optim.RMSprop):
            rmsprop = read_rmsprop(flat, self.policy.optimizer)
            clip_and_step_rmsprop(flat.values(), flat.gradient, limit, rmsprop)
        else:
            clip_and_step_adam(flat.values(), flat.gradient, limit, self._adam(), steps)
        flat.set_steps(steps)
