"""SAC of stable-baselines3, its steps and updates compiled."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import SAC
from torch import nn

from envs.types import BoolArray
from optimize.agents.compiled.off_policy import CompiledOffPolicy
from optimize.agents.compiled.off_policy_loop import Rules
from optimize.agents.compiled.parameters import FlatParameters, FlatTensors
from optimize.agents.compiled.perceptrons import Nets, make_values
from optimize.agents.compiled.q_critic import Critics, learned_of, nothing_learned
from optimize.agents.compiled.q_layout import critic_layers, lay_out, linear_layers, refuse_unless_plain
from optimize.agents.compiled.replay import make_batch
from optimize.agents.compiled.sac_update import (
    ACTOR,
    CRITIC,
    KINDS,
    SAC_RULES,
    TEMPERATURE,
    TEMPERATURE_LOSS,
    Sac,
    Settings,
)


class CompiledSAC(CompiledOffPolicy, SAC):
    """SAC with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    _rules: ClassVar[Rules] = SAC_RULES
    _kinds: ClassVar[int] = KINDS
    _nets: tuple[Nets, Nets]  # actor and critics

    def _lay_out(self) -> None:
        heads = cast(nn.Linear, self.actor.mu), cast(nn.Linear, self.actor.log_std)
        actor = [*linear_layers(self.actor.latent_pi.children()), heads]
        critics, targets = critic_layers(self.critic), critic_layers(self.critic_target)
        tanh = refuse_unless_plain(self, [actor, *critics], self._optimizers())
        actor_nets, order = lay_out([actor], tanh)
        self._flat_actor = FlatParameters(order, self.actor.optimizer)
        critic_nets, order = lay_out(critics, tanh)
        self._flat_critics = FlatParameters(order, self.critic.optimizer)
        self._flat_target = FlatTensors(lay_out(targets, tanh)[1])
        self._flat_temperature = None
        if self.ent_coef_optimizer is not None:
            assert self.log_ent_coef is not None
            self._flat_temperature = FlatParameters([self.log_ent_coef], self.ent_coef_optimizer)
        self._nets = actor_nets, critic_nets
        for flat in (self._flat_actor, self._flat_critics, self._flat_target, self._flat_temperature):
            if flat is not None:
                flat.values()

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        found = [self.actor.optimizer, self.critic.optimizer]
        return found if self.ent_coef_optimizer is None else [*found, self.ent_coef_optimizer]

    def _learner(self, batch: int) -> Sac:
        temperature = nothing_learned(1)
        if self._flat_temperature is not None and self.ent_coef_optimizer is not None:
            temperature = learned_of(self._flat_temperature, self.ent_coef_optimizer)
        room: Sac = self._room_for(batch)
        critics = room.critics._replace(
            learned=learned_of(self._flat_critics, self.critic.optimizer), target=self._flat_target.values()
        )
        return room._replace(
            learned=learned_of(self._flat_actor, self.actor.optimizer),
            critics=critics,
            temperature=temperature,
            settings=self._settings(),
        )

    def _make_room(self, batch: int) -> Sac:
        actor, critic = self._nets
        size = self._action_size
        nothing = nothing_learned(0)
        values, deltas = make_values(critic, batch), make_values(critic, batch)
        return Sac(
            actor=actor,
            learned=nothing,
            values=make_values(actor, batch),
            deltas=make_values(actor, batch),
            critics=Critics(critic, nothing, nothing.parameters, values, deltas),
            temperature=nothing,
            batch=make_batch(batch, actor.stem.inputs, size, with_action=True),
            action=np.zeros((batch, size), np.float32),
            next_action=np.zeros((batch, size), np.float32),
            log_prob=np.zeros(batch, np.float32),
            next_log_prob=np.zeros(batch, np.float32),
            target=np.zeros(batch, np.float32),
            slope=np.zeros(size * batch, np.float32),
            settings=self._settings(),
        )

    def _settings(self) -> Settings:
        assert isinstance(self.target_entropy, float)
        learned = self.ent_coef_optimizer is not None
        return Settings(
            gamma=float(self.gamma),
            n_steps=int(self.n_steps),
            tau=float(self.tau),
            target_update_interval=int(self.target_update_interval),
            target_entropy=self.target_entropy,
            temperature=-1.0 if learned else float(self.ent_coef_tensor),
        )

    def _note(self, learner: Sac) -> None:
        self._flat_actor.set_steps(int(learner.learned.steps[0]))
        self._flat_critics.set_steps(int(learner.critics.learned.steps[0]))
        if self._flat_temperature is not None:
            self._flat_temperature.set_steps(int(learner.temperature.steps[0]))

    def _draw_actions(self, done: int, steps: int, learning_starts: int) -> tuple[BoolArray, Any]:
        at_random = self._before(done, steps, learning_starts)
        first = int(np.count_nonzero(at_random))
        noise = torch.randn(steps - first, self.n_envs, self._action_size).numpy()
        return at_random, np.concatenate([self._draw_uniform(first), noise]) if first else noise

    def _draw_noise(self, noise: Sequence[torch.Tensor]) -> None:
        for kind in noise:
            kind.normal_()

    def _record(self, losses: NDArray[np.float64]) -> None:
        self.logger.record("train/ent_coef", losses[:, TEMPERATURE].mean())
        self.logger.record("train/actor_loss", losses[:, ACTOR].mean())
        self.logger.record("train/critic_loss", losses[:, CRITIC].mean())
        if self.ent_coef_optimizer is not None:
            self.logger.record("train/ent_coef_loss", losses[:, TEMPERATURE_LOSS].mean())
