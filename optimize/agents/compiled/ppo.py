"""PPO of stable-baselines3, its rollouts and updates compiled."""

import math

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.utils import explained_variance

from optimize.agents.compiled.on_policy import CompiledOnPolicy
from optimize.agents.compiled.ppo_update import (
    CLIPPED,
    DIVERGENCE,
    ENTROPY,
    POLICY,
    TOTAL,
    VALUE,
    Objective,
    run_epoch,
)


class CompiledPPO(CompiledOnPolicy, PPO):
    """PPO with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    def _batch_size(self) -> int:
        return min(self.batch_size, self.n_steps * self.n_envs)

    def train(self) -> None:
        """Update the policy with the last rollout."""
        self._update_learning_rate(self.policy.optimizer)
        collector, parameters = self._played(), self._flat.values()
        samples, adam, objective = collector.samples, self._adam(), self._objective()
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
                collector.world.features,
                samples,
                np.random.permutation(count),  # noqa: NPY002 (SB3 draws from the global generator)
                self._work,
                objective,
                losses[epoch],
            )
            steps += batches - stopped
            done.append(losses[epoch, :batches])
            self._n_updates += 1
            if stopped:
                if self.verbose >= 1:
                    kl = losses[epoch, batches - 1, DIVERGENCE]
                    print(f"Early stopping at step {epoch} due to reaching max kl: {kl:.2f}")
                break
        self._flat.set_steps(steps)
        every = np.concatenate(done)
        self.logger.record("train/entropy_loss", every[:, ENTROPY].mean())
        self.logger.record("train/policy_gradient_loss", every[:, POLICY].mean())
        self.logger.record("train/value_loss", every[:, VALUE].mean())
        self.logger.record("train/approx_kl", done[-1][:, DIVERGENCE].mean())
        self.logger.record("train/clip_fraction", every[:, CLIPPED].mean())
        self.logger.record("train/loss", float(every[-1, TOTAL]))
        self.logger.record("train/explained_variance", explained_variance(samples.value, samples.target))
        self._record_state()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", objective.clip_range)
        if self.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", objective.clip_range_vf)

    def _objective(self) -> Objective:
        left = self._current_progress_remaining
        clip_range, clip_range_vf = self.clip_range, self.clip_range_vf
        assert callable(clip_range)
        return Objective(
            clip_range=float(clip_range(left)),
            clip_range_vf=float(clip_range_vf(left)) if callable(clip_range_vf) else math.inf,
            vf_coef=float(self.vf_coef),
            ent_coef=float(self.ent_coef),
            max_grad_norm=float(self.max_grad_norm),
            target_kl=math.inf if self.target_kl is None else float(self.target_kl),
            normalise=bool(self.normalize_advantage),
        )
