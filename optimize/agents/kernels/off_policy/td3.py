"""TD3 of stable-baselines3 with compiled steps and updates."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import TD3

from envs.types import BoolArray, FloatArray, IntArray
from optimize.agents.kernels.bindings import inner_kernel, kernel
from optimize.agents.kernels.nets.layers import Matrix, Vector, matrix_view
from optimize.agents.kernels.nets.layout import (
    critic_layers,
    first_perceptron,
    lay_out_perceptrons,
    linear_layers,
    require_plain_networks,
)
from optimize.agents.kernels.nets.parameters import FlatParameters, FlatTensors
from optimize.agents.kernels.nets.perceptrons import (
    LayerValues,
    Perceptrons,
    backward_perceptrons,
    forward_perceptrons,
    input_gradient,
    make_layer_values,
    perceptron_output,
)
from optimize.agents.kernels.nets.q_critic import (
    NO_LIMIT,
    Critics,
    Trainable,
    lower_critic_values,
    optimizer_step,
    polyak_update,
    read_trainable,
    scale_actions,
    update_critics,
    zero_trainable,
)
from optimize.agents.kernels.off_policy.loop import AlgorithmKernels
from optimize.agents.kernels.off_policy.replay import (
    ReplayArrays,
    TransitionBatch,
    gather_batch,
    join_actions,
    make_batch,
    replace_actions,
)
from optimize.agents.kernels.off_policy.training import CompiledOffPolicy

_ACTOR, _CRITIC, _ACTOR_UPDATED = range(3)  # columns of the losses; ACTED is 1 where the actor learned too
_NOISE_KINDS = 1  # of noise: that of the target actions


class Td3Settings(NamedTuple):
    """The settings of the losses."""

    gamma: float
    n_steps: int
    tau: float
    policy_delay: int


class Td3State(NamedTuple):
    """Actor and critics with their target networks, and buffers."""

    actor: Perceptrons  # its outputs (A, B) are actions before tanh
    learned: Trainable
    actor_target: Vector
    values: LayerValues
    deltas: LayerValues
    critics: Critics
    first_critic: Perceptrons  # the first critic alone, which the actor learns from
    first_values: LayerValues
    first_deltas: LayerValues
    batch: TransitionBatch
    action: Matrix  # (B, A)
    target: Vector  # (B,)
    slope: Vector  # A * B
    updates: IntArray  # (1,) made so far
    settings: Td3Settings


@kernel
def squash_means(output: Matrix, action: Matrix, count: int) -> None:
    """Write the actions (B, A) of outputs (A, B)."""
    for sample in range(count):
        for asset in range(action.shape[1]):
            action[sample, asset] = np.float32(math.tanh(output[asset, sample]))


@inner_kernel
def update_td3_actor(td3: Td3State, count: int, learning_rate: float) -> float:
    """Take a step of the actor along the gradient of -mean(Q of the first critic); return that mean."""
    batch, learned, critic = td3.batch, td3.learned, td3.critics.learned.parameters
    forward_perceptrons(td3.actor, learned.parameters, batch.state, td3.values, count)
    squash_means(perceptron_output(td3.actor, td3.values, 0, count), td3.action, count)
    replace_actions(batch.with_action, td3.action, count)
    forward_perceptrons(td3.first_critic, critic, batch.with_action, td3.first_values, count)
    value = perceptron_output(td3.first_critic, td3.first_values, 0, count)
    by_value = perceptron_output(td3.first_critic, td3.first_deltas, 0, count)
    loss = 0.0
    for sample in range(count):
        loss -= value[0, sample]
        by_value[0, sample] = -1.0 / count
    size, inputs = td3.action.shape[1], td3.actor.stem.inputs
    slope = matrix_view(td3.slope, 0, size, count)
    input_gradient(td3.first_critic, critic, td3.first_values, td3.first_deltas, inputs, slope, count)
    delta = perceptron_output(td3.actor, td3.deltas, 0, count)
    for asset in range(size):
        for sample in range(count):
            action = td3.action[sample, asset]
            delta[asset, sample] = slope[asset, sample] * (np.float32(1) - action * action)
    backward_perceptrons(
        td3.actor, learned.parameters, learned.gradient, batch.state, td3.values, td3.deltas, count
    )
    optimizer_step(learned, learning_rate, NO_LIMIT)
    return loss / count


@inner_kernel
def update_td3(
    td3: Td3State,
    features: NDArray[np.float32],
    replay: ReplayArrays,
    slots: IntArray,
    rows: IntArray,
    noise: NDArray[np.float32],
    number: int,
    learning_rate: float,
    losses: FloatArray,
) -> None:
    """Make one update from these transitions (B,) and write its losses; noise is (1, B, A), clipped."""
    count = len(slots)
    batch, settings, critics = td3.batch, td3.settings, td3.critics
    gather_batch(replay, features, slots, rows, settings.n_steps, settings.gamma, batch)
    forward_perceptrons(td3.actor, td3.actor_target, batch.next_state, td3.values, count)
    squash_means(perceptron_output(td3.actor, td3.values, 0, count), td3.action, count)
    for sample in range(count):
        for asset in range(td3.action.shape[1]):
            moved = td3.action[sample, asset] + noise[0, sample, asset]
            td3.action[sample, asset] = min(max(moved, np.float32(-1)), np.float32(1))
    join_actions(batch.next_state, batch.next_with_action, td3.action, count)
    target = td3.target[:count]
    lower_critic_values(critics, critics.target, batch.next_with_action, target)
    for sample in range(count):
        target[sample] = batch.reward[sample] + batch.discount[sample] * target[sample]
    join_actions(batch.state, batch.with_action, batch.action, count)
    losses[_CRITIC] = update_critics(critics, batch.with_action, target, 1.0, learning_rate)
    td3.updates[0] += 1
    if td3.updates[0] % settings.policy_delay == 0:
        losses[_ACTOR_UPDATED] = 1.0
        losses[_ACTOR] = update_td3_actor(td3, count, learning_rate)
        polyak_update(critics.target, critics.learned.parameters, settings.tau)
        polyak_update(td3.actor_target, td3.learned.parameters, settings.tau)


@inner_kernel
def act_td3(
    td3: Td3State,
    observation: Vector,
    at_random: bool,
    noise: Matrix,
    lowest: float,
    action: Matrix,
    target: FloatArray,
) -> None:
    """Write the actions (N, A) of the policy for observations N * D, or copy the noise if at_random."""
    count = len(action)
    if at_random:
        action[...] = noise
    else:
        forward_perceptrons(td3.actor, td3.learned.parameters, observation, td3.values, count)
        squash_means(perceptron_output(td3.actor, td3.values, 0, count), action, count)
    scale_actions(action, lowest, target)


@inner_kernel
def skip_td3_target(td3: Td3State) -> None:
    """Do nothing: the updates move the target networks."""


TD3_KERNELS = AlgorithmKernels("td3", update_td3, act_td3, skip_td3_target)


class CompiledTD3(CompiledOffPolicy[Td3State], TD3):
    """TD3 with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    _kernels: ClassVar[AlgorithmKernels[Td3State]] = TD3_KERNELS
    _noise_kinds: ClassVar[int] = _NOISE_KINDS
    _nets: tuple[Perceptrons, Perceptrons]  # actor and critics

    def _lay_out(self) -> None:
        actor, critics = linear_layers(self.actor.mu.children()), critic_layers(self.critic)
        tanh = require_plain_networks(self, [actor, *critics], self._optimizers())
        actor_nets, order = lay_out_perceptrons([actor], tanh)
        self._flat_actor = FlatParameters(order, self.actor.optimizer)
        critic_nets, order = lay_out_perceptrons(critics, tanh)
        self._flat_critics = FlatParameters(order, self.critic.optimizer)
        slow = linear_layers(self.actor_target.mu.children())
        self._flat_actor_target = FlatTensors(lay_out_perceptrons([slow], tanh)[1])
        self._flat_target = FlatTensors(lay_out_perceptrons(critic_layers(self.critic_target), tanh)[1])
        self._nets = actor_nets, critic_nets
        for flat in (self._flat_actor, self._flat_critics, self._flat_actor_target, self._flat_target):
            flat.values()

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.actor.optimizer, self.critic.optimizer]

    def _learner(self, batch: int) -> Td3State:
        room = self._room_for(batch)
        critics = room.critics._replace(
            learned=read_trainable(self._flat_critics, self.critic.optimizer),
            target=self._flat_target.values(),
        )
        return room._replace(
            learned=read_trainable(self._flat_actor, self.actor.optimizer),
            actor_target=self._flat_actor_target.values(),
            critics=critics,
            updates=np.array([self._n_updates]),
            settings=self._settings(),
        )

    def _make_room(self, batch: int) -> Td3State:
        actor, critic = self._nets
        size = self._action_size
        nothing = zero_trainable(0)
        values, deltas = make_layer_values(critic, batch), make_layer_values(critic, batch)
        return Td3State(
            actor=actor,
            learned=nothing,
            actor_target=nothing.parameters,
            values=make_layer_values(actor, batch),
            deltas=make_layer_values(actor, batch),
            critics=Critics(critic, nothing, nothing.parameters, values, deltas),
            first_critic=first_perceptron(critic),
            first_values=LayerValues(values.stem, values.branches[:1]),
            first_deltas=LayerValues(deltas.stem, deltas.branches[:1]),
            batch=make_batch(batch, actor.stem.inputs, size, with_action=True),
            action=np.zeros((batch, size), np.float32),
            target=np.zeros(batch, np.float32),
            slope=np.zeros(size * batch, np.float32),
            updates=np.zeros(1, np.int64),
            settings=self._settings(),
        )

    def _settings(self) -> Td3Settings:
        return Td3Settings(float(self.gamma), int(self.n_steps), float(self.tau), int(self.policy_delay))

    def _set_optimizer_steps(self, learner: Td3State) -> None:
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
        acted = losses[:, _ACTOR_UPDATED] > 0
        if acted.any():
            self.logger.record("train/actor_loss", losses[acted, _ACTOR].mean())
        self.logger.record("train/critic_loss", losses[:, _CRITIC].mean())
