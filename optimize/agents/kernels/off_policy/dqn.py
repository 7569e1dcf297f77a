"""DQN of stable-baselines3 with compiled steps and updates."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import DQN

from envs.types import BoolArray, FloatArray, IntArray
from optimize.agents.kernels.bindings import inner_kernel, kernel
from optimize.agents.kernels.nets.layers import Matrix, Vector
from optimize.agents.kernels.nets.layout import lay_out_perceptrons, linear_layers, require_plain_networks
from optimize.agents.kernels.nets.parameters import FlatParameters, FlatTensors
from optimize.agents.kernels.nets.perceptrons import (
    LayerValues,
    Perceptrons,
    backward_perceptrons,
    forward_perceptrons,
    make_layer_values,
    perceptron_output,
)
from optimize.agents.kernels.nets.q_critic import (
    Trainable,
    optimizer_step,
    polyak_update,
    read_trainable,
    zero_trainable,
)
from optimize.agents.kernels.off_policy.loop import AlgorithmKernels
from optimize.agents.kernels.off_policy.replay import ReplayArrays, TransitionBatch, gather_batch, make_batch
from optimize.agents.kernels.off_policy.training import CompiledOffPolicy

_LOSS = 0  # column of the losses
_NOISE_KINDS = 0  # of noise: none


class DqnSettings(NamedTuple):
    """The settings of the loss and of the target network."""

    gamma: float
    n_steps: int
    tau: float
    target_update_interval: int  # in steps of all environments
    max_grad_norm: float


class DqnState(NamedTuple):
    """Value network, its target network, and buffers."""

    nets: Perceptrons  # its outputs (choices, B) are values
    learned: Trainable
    target: Vector
    values: LayerValues
    deltas: LayerValues
    batch: TransitionBatch
    target_value: Vector  # (B,) target values
    calls: IntArray  # (1,) steps of all environments so far
    settings: DqnSettings


@kernel
def greedy_choice(values: Matrix, column: int) -> int:
    """Return the first choice of highest value in a column, or -1 if a value is not finite."""
    best = 0
    for choice in range(values.shape[0]):
        if not math.isfinite(values[choice, column]):
            return -1
        if values[choice, column] > values[best, column]:
            best = choice
    return best


@inner_kernel
def update_dqn(
    dqn: DqnState,
    features: NDArray[np.float32],
    replay: ReplayArrays,
    slots: IntArray,
    rows: IntArray,
    noise: NDArray[np.float32],
    number: int,
    learning_rate: float,
    losses: FloatArray,
) -> None:
    """Make one update from these transitions (B,) and write its loss."""
    count = len(slots)
    nets, learned, batch, settings = dqn.nets, dqn.learned, dqn.batch, dqn.settings
    gather_batch(replay, features, slots, rows, settings.n_steps, settings.gamma, batch)
    forward_perceptrons(nets, dqn.target, batch.next_state, dqn.values, count)
    following = perceptron_output(nets, dqn.values, 0, count)
    for sample in range(count):
        best = following[0, sample]
        for choice in range(1, following.shape[0]):
            best = max(best, following[choice, sample])
        dqn.target_value[sample] = batch.reward[sample] + batch.discount[sample] * best
    forward_perceptrons(nets, learned.parameters, batch.state, dqn.values, count)
    value, delta = (
        perceptron_output(nets, dqn.values, 0, count),
        perceptron_output(nets, dqn.deltas, 0, count),
    )
    delta[...] = np.float32(0)
    loss = 0.0
    for sample in range(count):
        taken = int(batch.action[sample, 0])
        error = float(value[taken, sample] - dqn.target_value[sample])
        loss += 0.5 * error * error if abs(error) < 1.0 else abs(error) - 0.5
        delta[taken, sample] = min(max(error, -1.0), 1.0) / count
    losses[_LOSS] = loss / count
    backward_perceptrons(
        nets, learned.parameters, learned.gradient, batch.state, dqn.values, dqn.deltas, count
    )
    optimizer_step(learned, learning_rate, settings.max_grad_norm)


@inner_kernel
def act_dqn(
    dqn: DqnState,
    observation: Vector,
    at_random: bool,
    noise: Matrix,
    lowest: float,
    action: Matrix,
    target: FloatArray,
) -> None:
    """Write the choices (N, 1) of highest value for observations N * D, or copy the noise if at_random."""
    count = len(action)
    if at_random:
        action[...] = noise
    else:
        forward_perceptrons(dqn.nets, dqn.learned.parameters, observation, dqn.values, count)
        values = perceptron_output(dqn.nets, dqn.values, 0, count)
        for row in range(count):
            action[row, 0] = greedy_choice(values, row)
    for row in range(count):
        target[row, 0] = action[row, 0] + lowest  # choice -1 becomes an action that the environment refuses


@inner_kernel
def update_dqn_target(dqn: DqnState) -> None:
    """Move the target network when its update interval is over."""
    dqn.calls[0] += 1
    if dqn.calls[0] % dqn.settings.target_update_interval == 0:
        polyak_update(dqn.target, dqn.learned.parameters, dqn.settings.tau)


DQN_KERNELS = AlgorithmKernels("dqn", update_dqn, act_dqn, update_dqn_target)


class CompiledDQN(CompiledOffPolicy[DqnState], DQN):
    """DQN with the hyperparameters, the log and the saved file of SB3's, for plain perceptrons on a CPU."""

    _kernels: ClassVar[AlgorithmKernels[DqnState]] = DQN_KERNELS
    _noise_kinds: ClassVar[int] = _NOISE_KINDS
    _nets: Perceptrons

    def _lay_out(self) -> None:
        layers = linear_layers(self.q_net.q_net.children())
        tanh = require_plain_networks(self, [layers], self._optimizers())
        self._nets, order = lay_out_perceptrons([layers], tanh)
        self._flat_values = FlatParameters(order, self.policy.optimizer)
        self._flat_target = FlatTensors(
            lay_out_perceptrons([linear_layers(self.q_net_target.q_net.children())], tanh)[1]
        )
        self._flat_values.values()
        self._flat_target.values()

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.policy.optimizer]

    def _learner(self, batch: int) -> DqnState:
        room = self._room_for(batch)
        return room._replace(
            learned=read_trainable(self._flat_values, self.policy.optimizer),
            target=self._flat_target.values(),
            calls=np.array([self._n_calls]),
            settings=self._settings(),
        )

    def _make_room(self, batch: int) -> DqnState:
        nothing = zero_trainable(0)
        return DqnState(
            nets=self._nets,
            learned=nothing,
            target=nothing.parameters,
            values=make_layer_values(self._nets, batch),
            deltas=make_layer_values(self._nets, batch),
            batch=make_batch(batch, self._nets.stem.inputs, 1, with_action=False),
            target_value=np.zeros(batch, np.float32),
            calls=np.zeros(1, np.int64),
            settings=self._settings(),
        )

    def _settings(self) -> DqnSettings:
        return DqnSettings(
            gamma=float(self.gamma),
            n_steps=int(self.n_steps),
            tau=float(self.tau),
            target_update_interval=max(self.target_update_interval // self.n_envs, 1),
            max_grad_norm=float(self.max_grad_norm),
        )

    def _set_optimizer_steps(self, learner: DqnState) -> None:
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
        """Return the share of random actions in the step after `timesteps` timesteps."""
        if timesteps == self.num_timesteps:
            return self.exploration_rate
        return float(self.exploration_schedule(self._progress_after(timesteps)))

    def _draw_noise(self, noise: Sequence[torch.Tensor]) -> None:
        """Draw nothing."""

    def _record(self, losses: NDArray[np.float64]) -> None:
        self.logger.record("train/loss", losses[:, _LOSS].mean())
