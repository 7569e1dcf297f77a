"""DQN of stable-baselines3, its steps and updates compiled."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import DQN

from envs.types import BoolArray
from optimize.agents.compiled.dqn_update import DQN_RULES, KINDS, LOSS, Dqn, Settings
from optimize.agents.compiled.off_policy import CompiledOffPolicy
from optimize.agents.compiled.off_policy_loop import Rules
from optimize.agents.compiled.parameters import FlatParameters, FlatTensors
from optimize.agents.compiled.perceptrons import Nets, make_values
from optimize.agents.compiled.q_critic import learned_of, nothing_learned
from optimize.agents.compiled.q_layout import lay_out, linear_layers, refuse_unless_plain
from optimize.agents.compiled.replay import make_batch


class CompiledDQN(CompiledOffPolicy, DQN):
    """DQN with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    _rules: ClassVar[Rules] = DQN_RULES
    _kinds: ClassVar[int] = KINDS
    _nets: Nets

    def _lay_out(self) -> None:
        layers = linear_layers(self.q_net.q_net.children())
        tanh = refuse_unless_plain(self, [layers], self._optimizers())
        self._nets, order = lay_out([layers], tanh)
        self._flat_values = FlatParameters(order, self.policy.optimizer)
        self._flat_target = FlatTensors(lay_out([linear_layers(self.q_net_target.q_net.children())], tanh)[1])
        self._flat_values.values()
        self._flat_target.values()

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.policy.optimizer]

    def _learner(self, batch: int) -> Dqn:
        room: Dqn = self._room_for(batch)
        return room._replace(
            learned=learned_of(self._flat_values, self.policy.optimizer),
            target=self._flat_target.values(),
            calls=np.array([self._n_calls]),
            settings=self._settings(),
        )

    def _make_room(self, batch: int) -> Dqn:
        nothing = nothing_learned(0)
        return Dqn(
            nets=self._nets,
            learned=nothing,
            target=nothing.parameters,
            values=make_values(self._nets, batch),
            deltas=make_values(self._nets, batch),
            batch=make_batch(batch, self._nets.stem.inputs, 1, with_action=False),
            wanted=np.zeros(batch, np.float32),
            calls=np.zeros(1, np.int64),
            settings=self._settings(),
        )

    def _settings(self) -> Settings:
        return Settings(
            gamma=float(self.gamma),
            n_steps=int(self.n_steps),
            tau=float(self.tau),
            target_update_interval=max(self.target_update_interval // self.n_envs, 1),
            max_grad_norm=float(self.max_grad_norm),
        )

    def _note(self, learner: Dqn) -> None:
        self._flat_values.set_steps(int(learner.learned.steps[0]))
        self._n_calls = int(learner.calls[0])

    def _count_steps(self, steps: int, n_envs: int) -> None:
        super()._count_steps(steps, n_envs)
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _draw_actions(self, done: int, steps: int, learning_starts: int) -> tuple[BoolArray, Any]:
        at_random = self._before(done, steps, learning_starts)
        for step in np.flatnonzero(~at_random):
            at_random[step] = np.random.rand() < self._exploration_after(done + int(step) * self.n_envs)  # noqa: NPY002
        assert isinstance(self.action_space, spaces.Discrete)
        shape = (steps, self.n_envs, 1)
        choices = np.random.randint(int(self.action_space.n), size=shape)  # noqa: NPY002 (as SB3)
        return at_random, choices.astype(np.float32)

    def _exploration_after(self, timesteps: int) -> float:
        """Return the share of random actions in the step that follows so many timesteps."""
        if timesteps == self.num_timesteps:
            return self.exploration_rate
        return float(self.exploration_schedule(self._progress_after(timesteps)))

    def _draw_noise(self, noise: Sequence[torch.Tensor]) -> None:
        """Draw nothing."""

    def _record(self, losses: NDArray[np.float64]) -> None:
        self.logger.record("train/loss", losses[:, LOSS].mean())
