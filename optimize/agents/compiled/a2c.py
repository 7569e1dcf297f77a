"""A2C of stable-baselines3, its rollouts and updates compiled."""

import numpy as np
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.utils import explained_variance

from optimize.agents.compiled.a2c_update import find_gradient
from optimize.agents.compiled.on_policy import CompiledOnPolicy
from optimize.agents.compiled.optimizers import RMSprop, clip_and_step_adam, clip_and_step_rmsprop
from optimize.agents.compiled.ppo_update import ENTROPY, POLICY, VALUE


class CompiledA2C(CompiledOnPolicy, A2C):
    """A2C with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    def _batch_size(self) -> int:
        return self.n_steps * self.n_envs

    def train(self) -> None:
        """Update the policy with the last rollout."""
        self._update_learning_rate(self.policy.optimizer)
        collector, parameters = self._played(), self._flat.values()
        samples, losses = collector.samples, np.empty(6)
        find_gradient(
            self._network,
            parameters,
            self._flat.gradient,
            collector.world.features,
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
        self.logger.record("train/entropy_loss", float(losses[ENTROPY]))
        self.logger.record("train/policy_loss", float(losses[POLICY]))
        self.logger.record("train/value_loss", float(losses[VALUE]))
        self._record_state()

    def _step(self) -> None:
        """Step along the gradient with the policy's optimizer, RMSprop unless use_rms_prop is false."""
        flat, limit = self._flat, float(self.max_grad_norm)
        steps = flat.steps() + 1
        if isinstance(self.policy.optimizer, torch.optim.RMSprop):
            settings = self.policy.optimizer.param_groups[0]
            square = flat.moment("square_avg")
            rmsprop = RMSprop(square, float(settings["lr"]), settings["alpha"], settings["eps"])
            clip_and_step_rmsprop(flat.values(), flat.gradient, limit, rmsprop)
        else:
            clip_and_step_adam(flat.values(), flat.gradient, limit, self._adam(), steps)
        flat.set_steps(steps)
