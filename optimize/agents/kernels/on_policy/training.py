"""Base of compiled PPO and A2C: SB3's training loop around compiled rollouts."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from optimize.agents.kernels.env_step import callback_steps
from optimize.agents.kernels.nets.actor_critic import Network, Workspace, make_workspace
from optimize.agents.kernels.nets.layout import lay_out_actor_critic
from optimize.agents.kernels.nets.optimizers import Adam, read_adam
from optimize.agents.kernels.nets.parameters import FlatParameters
from optimize.agents.kernels.on_policy.collect import RolloutCollector
from optimize.agents.sb3.callbacks import wants_every_step
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.agents.threads import limit_blas_threads
from optimize.errors import BadInputError

_OWN = ("_network", "_flat", "_work", "_collector")


class CompiledOnPolicy(OnPolicyAlgorithm):
    """An on-policy algorithm of SB3 whose rollouts run in one kernel.

    `save` writes the same file as SB3: the network's parameters and the optimizer's moments share memory with
    the kernels. The rollout buffer stores bar indices, not observations. Callbacks are called after every
    step, as by stable-baselines3; TrainingMonitor only after the first and the last step of a rollout.
    torch's training mode is not changed, since it has no effect on a perceptron. A copy or a pickle is laid
    out anew.
    """

    _network: Network
    _flat: FlatParameters
    _work: Workspace
    _collector: RolloutCollector | None

    def _setup_model(self) -> None:
        super()._setup_model()
        limit_blas_threads()
        self._lay_out()

    def _lay_out(self) -> None:
        """Move the policy to a flat vector and allocate buffers."""
        self._network, self._flat = lay_out_actor_critic(self.policy)
        self._flat.values()
        self._work = make_workspace(self._network, self._batch_size())
        self._collector = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without views, which a copy would no longer share."""
        return {name: value for name, value in vars(self).items() if name not in _OWN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give a copy its own parameters and moments."""
        vars(self).update(state)
        self._lay_out()

    def _batch_size(self) -> int:
        """Return the samples of one gradient."""
        raise NotImplementedError

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *_OWN]

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Run a rollout; return False if the callback stopped it."""
        collector = self._collector_of(env, n_rollout_steps)
        callback.on_rollout_start()
        parameters = self._flat.values()
        collector.start(parameters, self._draw_noise(env.num_envs, n_rollout_steps))
        taken = 0
        wanted = wants_every_step(callback)
        for step in callback_steps(callback, n_rollout_steps):
            episodes = collector.run(step)
            self.num_timesteps += (step - taken) * env.num_envs
            taken = step
            callback.update_locals(locals() | (collector.last_step(episodes) if wanted else {}))
            if not callback.on_step():
                return False
            assert self.ep_info_buffer is not None
            self.ep_info_buffer.extend(episodes)
        collector.compute_advantages(parameters, self._work, self.gamma, self.gae_lambda)
        self._last_obs = collector.observe()
        self._last_episode_starts = collector.last_done()
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _collector_of(self, env: VecEnv, n_steps: int) -> RolloutCollector:
        found = self._collector
        if found is None or found.vec_env is not env or found.n_steps != n_steps:
            if not isinstance(env, SB3VecEnv):
                raise BadInputError(
                    f"agent.engine='compiled' plays an SB3VecEnv and no {type(env).__name__}: wrap nothing "
                    "around it, or set agent.engine=stock"
                )
            size = 1 if self._network.discrete else int(self._network.actor.units[-1])
            found = self._collector = RolloutCollector(env, self._network, n_steps, size)
        return found

    def release(self) -> None:
        """Release the environments and the last rollout."""
        self._collector = None

    def _draw_noise(self, n_envs: int, n_steps: int) -> NDArray[np.float32]:
        """Draw the noise of a rollout's actions (n_steps, N, A) from torch's generator."""
        if self._network.discrete:
            drawn = torch.rand(n_steps, n_envs, 1)
        else:
            drawn = torch.randn(n_steps, n_envs, int(self._network.actor.units[-1]))
        noise: NDArray[np.float32] = drawn.numpy()
        return noise

    def _last_rollout(self) -> RolloutCollector:
        """Return the collector with the last rollout."""
        assert self._collector is not None, "train() follows collect_rollouts()"
        return self._collector

    def _adam(self) -> Adam:
        """Return the state and settings of the policy's Adam."""
        return read_adam(self._flat, self.policy.optimizer)

    def _record_state(self) -> None:
        """Log the state of the policy after an update, as SB3 does."""
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())
