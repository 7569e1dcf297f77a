"""What the compiled PPO and A2C share: SB3's loop around rollouts that the kernels play."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from optimize.agents.callbacks import wants_every_step
from optimize.agents.compiled.actor_critic import Network, Workspace, make_workspace
from optimize.agents.compiled.collect import Collector
from optimize.agents.compiled.network import lay_out
from optimize.agents.compiled.optimizers import Adam
from optimize.agents.compiled.parameters import FlatParameters
from optimize.agents.compiled.stepping import called_after
from optimize.agents.threads import keep_blas_single
from optimize.agents.vecenv import SB3VecEnv
from optimize.errors import BadInputError

_OWN = ("_network", "_flat", "_work", "_collector")


class CompiledOnPolicy(OnPolicyAlgorithm):
    """An on-policy algorithm of SB3 whose rollouts are played by one kernel.

    `save` writes what SB3 writes: the network's parameters and the optimizer's moments are the very memory
    that the kernels work on. The rollout buffer holds bar indices, not observations. Callbacks are
    called after every step, as stable-baselines3 calls them; Watch, which needs no more, after the first step
    of a rollout, where a stop asked for at its start takes effect, and after its last one. torch's training
    mode is left alone, for it means nothing to a perceptron. A copy or a pickle is laid out anew.
    """

    _network: Network
    _flat: FlatParameters
    _work: Workspace
    _collector: Collector | None

    def _setup_model(self) -> None:
        super()._setup_model()
        keep_blas_single()
        self._lay_out()

    def _lay_out(self) -> None:
        """Let the policy live in a flat vector, with room to work."""
        self._network, self._flat = lay_out(self.policy)
        self._flat.values()
        self._work = make_workspace(self._network, self._batch_size())
        self._collector = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without views of memory, which would be copied apart from each other."""
        return {name: value for name, value in vars(self).items() if name not in _OWN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lay a copy out anew, on parameters and moments of its own."""
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
        """Play a rollout; return False where the callback stopped it."""
        collector = self._collector_of(env, n_rollout_steps)
        callback.on_rollout_start()
        parameters = self._flat.values()
        collector.begin(parameters, self._draw_noise(env.num_envs, n_rollout_steps))
        taken = 0
        wanted = wants_every_step(callback)
        for step in called_after(callback, n_rollout_steps):
            episodes = collector.play(step)
            self.num_timesteps += (step - taken) * env.num_envs
            taken = step
            callback.update_locals(locals() | (collector.last_step(episodes) if wanted else {}))
            if not callback.on_step():
                return False
            assert self.ep_info_buffer is not None
            self.ep_info_buffer.extend(episodes)
        collector.conclude(parameters, self._work, self.gamma, self.gae_lambda)
        self._last_obs = collector.observe()
        self._last_episode_starts = collector.last_done()
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _collector_of(self, env: VecEnv, n_steps: int) -> Collector:
        found = self._collector
        if found is None or found.vec_env is not env or found.n_steps != n_steps:
            if not isinstance(env, SB3VecEnv):
                raise BadInputError(
                    f"agent.engine='compiled' plays an SB3VecEnv and no {type(env).__name__}: wrap nothing "
                    "around it, or set agent.engine=stock"
                )
            size = 1 if self._network.discrete else int(self._network.actor.units[-1])
            found = self._collector = Collector(env, self._network, n_steps, size)
        return found

    def release(self) -> None:
        """Let go of the environments and of the last rollout."""
        self._collector = None

    def _draw_noise(self, n_envs: int, n_steps: int) -> NDArray[np.float32]:
        """Return what the actions of a rollout are drawn with, (n_steps, N, A), from torch's generator."""
        if self._network.discrete:
            drawn = torch.rand(n_steps, n_envs, 1)
        else:
            drawn = torch.randn(n_steps, n_envs, int(self._network.actor.units[-1]))
        noise: NDArray[np.float32] = drawn.numpy()
        return noise

    def _played(self) -> Collector:
        """Return the collector with the last rollout."""
        assert self._collector is not None, "train() follows collect_rollouts()"
        return self._collector

    def _adam(self) -> Adam:
        """Return the state and settings of the policy's Adam."""
        settings = self.policy.optimizer.param_groups[0]
        mean, square = self._flat.moment("exp_avg"), self._flat.moment("exp_avg_sq")
        beta_mean, beta_square = settings["betas"]
        return Adam(mean, square, float(settings["lr"]), beta_mean, beta_square, settings["eps"])

    def _record_state(self) -> None:
        """Log what SB3 logs of the policy after an update."""
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())
