"""SAC of stable-baselines3 with compiled steps and updates."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import SAC
from torch import nn

from envs.types import BoolArray, FloatArray, IntArray
from optimize.agents.kernels.bindings import inner_kernel
from optimize.agents.kernels.nets.distributions import sample_squashed, squash_gradient
from optimize.agents.kernels.nets.layers import Matrix, Vector, matrix_view
from optimize.agents.kernels.nets.layout import (
    critic_layers,
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

_ACTOR, _CRITIC, _TEMPERATURE, _TEMPERATURE_LOSS = range(4)  # columns of the losses
_NOISE_KINDS = 2  # of noise: of the actions in the state, and of those in the next


class SacSettings(NamedTuple):
    """The settings of the losses."""

    gamma: float
    n_steps: int
    tau: float
    target_update_interval: int  # in updates since the last rollout
    target_entropy: float
    temperature: float  # alpha where it is not learned, else negative


class SacState(NamedTuple):
    """Actor, critics, temperature, and buffers."""

    actor: Perceptrons  # its outputs (2A, B) are the means and the log deviations
    learned: Trainable
    values: LayerValues
    deltas: LayerValues
    critics: Critics
    temperature: Trainable  # log alpha (1,)
    batch: TransitionBatch
    action: Matrix  # (B, A) of the actor in the state
    next_action: Matrix
    log_prob: Vector  # (B,)
    next_log_prob: Vector
    target: Vector
    slope: Vector  # A * B
    settings: SacSettings


@inner_kernel
def update_temperature(sac: SacState, log_prob: Vector, learning_rate: float, losses: FloatArray) -> float:
    """Take a step of alpha towards the target entropy; return alpha before the step.

    L = -log alpha * mean(log p + target entropy).
    """
    alpha = sac.settings.temperature
    if alpha < 0.0:
        learned = sac.temperature
        alpha = math.exp(learned.parameters[0])
        total = 0.0
        for sample in range(len(log_prob)):
            total += log_prob[sample] + sac.settings.target_entropy
        learned.gradient[0] = -total / len(log_prob)
        losses[_TEMPERATURE_LOSS] = learned.parameters[0] * learned.gradient[0]
        optimizer_step(learned, learning_rate, NO_LIMIT)
    losses[_TEMPERATURE] = alpha
    return alpha


@inner_kernel
def update_sac_actor(sac: SacState, noise: Matrix, alpha: float, learning_rate: float) -> float:
    """Take a step of the actor along the gradient of mean(alpha log p - min Q) and return that mean.

    No gradient by the critics' weights is computed.
    """
    count, size = noise.shape
    batch, critics = sac.batch, sac.critics
    replace_actions(batch.with_action, sac.action, count)
    forward_perceptrons(critics.nets, critics.learned.parameters, batch.with_action, critics.values, count)
    one, two = (
        perceptron_output(critics.nets, critics.values, 0, count),
        perceptron_output(critics.nets, critics.values, 1, count),
    )
    by_one, by_two = (
        perceptron_output(critics.nets, critics.deltas, 0, count),
        perceptron_output(critics.nets, critics.deltas, 1, count),
    )
    loss = 0.0
    for sample in range(count):
        first = one[0, sample] <= two[0, sample]
        loss += alpha * sac.log_prob[sample] - (one[0, sample] if first else two[0, sample])
        by_one[0, sample] = -1.0 / count if first else 0.0
        by_two[0, sample] = 0.0 if first else -1.0 / count
    slope = matrix_view(sac.slope, 0, size, count)
    inputs = sac.actor.stem.inputs
    input_gradient(
        critics.nets, critics.learned.parameters, critics.values, critics.deltas, inputs, slope, count
    )
    output, delta = (
        perceptron_output(sac.actor, sac.values, 0, count),
        perceptron_output(sac.actor, sac.deltas, 0, count),
    )
    squash_gradient(output, noise, sac.action, alpha / count, slope, delta)
    learned = sac.learned
    backward_perceptrons(
        sac.actor, learned.parameters, learned.gradient, batch.state, sac.values, sac.deltas, count
    )
    optimizer_step(learned, learning_rate, NO_LIMIT)
    return float(loss / count)


@inner_kernel
def update_sac(
    sac: SacState,
    features: NDArray[np.float32],
    replay: ReplayArrays,
    slots: IntArray,
    rows: IntArray,
    noise: NDArray[np.float32],
    number: int,
    learning_rate: float,
    losses: FloatArray,
) -> None:
    """Make update `number` since the last rollout from these transitions and write its losses.

    slots and rows are (B,), noise is (2, B, A).
    """
    count = len(slots)
    batch, settings, critics = sac.batch, sac.settings, sac.critics
    gather_batch(replay, features, slots, rows, settings.n_steps, settings.gamma, batch)
    log_prob, next_log_prob = sac.log_prob[:count], sac.next_log_prob[:count]
    parameters = sac.learned.parameters
    forward_perceptrons(sac.actor, parameters, batch.next_state, sac.values, count)
    sample_squashed(
        perceptron_output(sac.actor, sac.values, 0, count), noise[1], sac.next_action, next_log_prob
    )
    forward_perceptrons(sac.actor, parameters, batch.state, sac.values, count)
    sample_squashed(perceptron_output(sac.actor, sac.values, 0, count), noise[0], sac.action, log_prob)
    alpha = update_temperature(sac, log_prob, learning_rate, losses)
    join_actions(batch.next_state, batch.next_with_action, sac.next_action, count)
    target = sac.target[:count]
    lower_critic_values(critics, critics.target, batch.next_with_action, target)
    for sample in range(count):
        following = target[sample] - alpha * next_log_prob[sample]
        target[sample] = batch.reward[sample] + batch.discount[sample] * following
    join_actions(batch.state, batch.with_action, batch.action, count)
    losses[_CRITIC] = update_critics(critics, batch.with_action, target, 0.5, learning_rate)
    losses[_ACTOR] = update_sac_actor(sac, noise[0], alpha, learning_rate)
    if number % settings.target_update_interval == 0:
        polyak_update(critics.target, critics.learned.parameters, settings.tau)


@inner_kernel
def act_sac(
    sac: SacState,
    observation: Vector,
    at_random: bool,
    noise: Matrix,
    lowest: float,
    action: Matrix,
    target: FloatArray,
) -> None:
    """Draw actions (N, A) of the policy for observations N * D, or copy the noise if at_random."""
    count = len(action)
    if at_random:
        action[...] = noise
    else:
        forward_perceptrons(sac.actor, sac.learned.parameters, observation, sac.values, count)
        sample_squashed(perceptron_output(sac.actor, sac.values, 0, count), noise, action, sac.log_prob)
    scale_actions(action, lowest, target)


@inner_kernel
def skip_sac_target(sac: SacState) -> None:
    """Do nothing: the updates move the target critics."""


SAC_KERNELS = AlgorithmKernels("sac", update_sac, act_sac, skip_sac_target)


class CompiledSAC(CompiledOffPolicy[SacState], SAC):
    """SAC with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    _kernels: ClassVar[AlgorithmKernels[SacState]] = SAC_KERNELS
    _noise_kinds: ClassVar[int] = _NOISE_KINDS
    _nets: tuple[Perceptrons, Perceptrons]  # actor and critics

    def _lay_out(self) -> None:
        heads = cast(nn.Linear, self.actor.mu), cast(nn.Linear, self.actor.log_std)
        actor = [*linear_layers(self.actor.latent_pi.children()), heads]
        critics, targets = critic_layers(self.critic), critic_layers(self.critic_target)
        tanh = require_plain_networks(self, [actor, *critics], self._optimizers())
        actor_nets, order = lay_out_perceptrons([actor], tanh)
        self._flat_actor = FlatParameters(order, self.actor.optimizer)
        critic_nets, order = lay_out_perceptrons(critics, tanh)
        self._flat_critics = FlatParameters(order, self.critic.optimizer)
        self._flat_target = FlatTensors(lay_out_perceptrons(targets, tanh)[1])
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

    def _learner(self, batch: int) -> SacState:
        temperature = zero_trainable(1)
        if self._flat_temperature is not None and self.ent_coef_optimizer is not None:
            temperature = read_trainable(self._flat_temperature, self.ent_coef_optimizer)
        room = self._room_for(batch)
        critics = room.critics._replace(
            learned=read_trainable(self._flat_critics, self.critic.optimizer),
            target=self._flat_target.values(),
        )
        return room._replace(
            learned=read_trainable(self._flat_actor, self.actor.optimizer),
            critics=critics,
            temperature=temperature,
            settings=self._settings(),
        )

    def _make_room(self, batch: int) -> SacState:
        actor, critic = self._nets
        size = self._action_size
        nothing = zero_trainable(0)
        values, deltas = make_layer_values(critic, batch), make_layer_values(critic, batch)
        return SacState(
            actor=actor,
            learned=nothing,
            values=make_layer_values(actor, batch),
            deltas=make_layer_values(actor, batch),
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

    def _settings(self) -> SacSettings:
        assert isinstance(self.target_entropy, float)
        learned = self.ent_coef_optimizer is not None
        return SacSettings(
            gamma=float(self.gamma),
            n_steps=int(self.n_steps),
            tau=float(self.tau),
            target_update_interval=int(self.target_update_interval),
            target_entropy=self.target_entropy,
            temperature=-1.0 if learned else float(self.ent_coef_tensor),
        )

    def _set_optimizer_steps(self, learner: SacState) -> None:
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
        self.logger.record("train/ent_coef", losses[:, _TEMPERATURE].mean())
        self.logger.record("train/actor_loss", losses[:, _ACTOR].mean())
        self.logger.record("train/critic_loss", losses[:, _CRITIC].mean())
        if self.ent_coef_optimizer is not None:
            self.logger.record("train/ent_coef_loss", losses[:, _TEMPERATURE_LOSS].mean())
