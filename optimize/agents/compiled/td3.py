"""TD3 of stable-baselines3, its steps and updates compiled."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import TD3

from envs.types import BoolArray
from optimize.agents.compiled.off_policy import CompiledOffPolicy
from optimize.agents.compiled.off_policy_loop import Rules
from optimize.agents.compiled.parameters import FlatParameters, FlatTensors
from optimize.agents.compiled.perceptrons import Nets, Values, make_values
from optimize.agents.compiled.q_critic import Critics, learned_of, nothing_learned
from optimize.agents.compiled.q_layout import (
    critic_layers,
    first_of,
    lay_out,
    linear_layers,
    refuse_unless_plain,
)
from optimize.agents.compiled.replay import make_batch
from optimize.agents.compiled.td3_update import ACTED, ACTOR, CRITIC, KINDS, TD3_RULES, Settings, Td3


class CompiledTD3(CompiledOffPolicy, TD3):
    """TD3 with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    _rules: ClassVar[Rules] = TD3_RULES
    _kinds: ClassVar[int] = KINDS
    _nets: tuple[Nets, Nets]  # actor and critics

    def _lay_out(self) -> None:
        actor, critics = linear_layers(self.actor.mu.children()), critic_layers(self.critic)
        tanh = refuse_unless_plain(self, [actor, *critics], self._optimizers())
        actor_nets, order = lay_out([actor], tanh)
        self._flat_actor = FlatParameters(order, self.actor.optimizer)
        critic_nets, order = lay_out(critics, tanh)
        self._flat_critics = FlatParameters(order, self.critic.optimizer)
        slow = linear_layers(self.actor_target.mu.children())
        self._flat_actor_target = FlatTensors(lay_out([slow], tanh)[1])
        self._flat_target = FlatTensors(lay_out(critic_layers(self.critic_target), tanh)[1])
        self._nets = actor_nets, critic_nets
        for flat in (self._flat_actor, self._flat_critics, self._flat_actor_target, self._flat_target):
            flat.values()

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.actor.optimizer, self.critic.optimizer]

    def _learner(self, batch: int) -> Td3:
        room: Td3 = self._room_for(batch)
        critics = room.critics._replace(
            learned=learned_of(self._flat_critics, self.critic.optimizer), target=self._flat_target.values()
        )
        return room._replace(
            learned=learned_of(self._flat_actor, self.actor.optimizer),
            actor_target=self._flat_actor_target.values(),
            critics=critics,
            updates=np.array([self._n_updates]),
            settings=self._settings(),
        )

    def _make_room(self, batch: int) -> Td3:
        actor, critic = self._nets
        size = self._action_size
        nothing = nothing_learned(0)
        values, deltas = make_values(critic, batch), make_values(critic, batch)
        return Td3(
            actor=actor,
            learned=nothing,
            actor_target=nothing.parameters,
            values=make_values(actor, batch),
            deltas=make_values(actor, batch),
            critics=Critics(critic, nothing, nothing.parameters, values, deltas),
            judge=first_of(critic),
            judge_values=Values(values.stem, values.branches[:1]),
            judge_deltas=Values(deltas.stem, deltas.branches[:1]),
            batch=make_batch(batch, actor.stem.inputs, size, with_action=True),
            action=np.zeros((batch, size), np.float32),
            target=np.zeros(batch, np.float32),
            slope=np.zeros(size * batch, np.float32),
            updates=np.zeros(1, np.int64),
            settings=self._settings(),
        )

    def _settings(self) -> Settings:
        return Settings(float(self.gamma), int(self.n_steps), float(self.tau), int(self.policy_delay))

    def _note(self, learner: Td3) -> None:
        self._flat_actor.set_steps(int(learner.learned.steps[0]))
        self._flat_critics.set_steps(int(learner.critics.learned.steps[0]))

    def _draw_actions(self, done: int, steps: int, learning_starts: int) -> tuple[BoolArray, Any]:
        at_random = self._before(done, steps, learning_starts)
        noise = np.zeros((steps, self.n_envs, self._action_size), np.float32)
        noise[at_random] = self._draw_uniform(int(at_random.sum()))
        return at_random, noise

    def _draw_noise(self, noise: Sequence[torch.Tensor]) -> None:
        noise[0].normal_(0, self.target_policy_noise).clamp_(-self.target_noise_clip, self.target_noise_clip)

    def _record(self, losses: NDArray[np.float64]) -> None:
        acted = losses[:, ACTED] > 0
        if acted.any():
            self.logger.record("train/actor_loss", losses[acted, ACTOR].mean())
        self.logger.record("train/critic_loss", losses[:, CRITIC].mean())
