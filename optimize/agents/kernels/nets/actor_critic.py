"""Policy and value network side by side: outputs on rollout samples, and their gradient."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.observations import write_feature_window
from envs.types import IntArray
from optimize.agents.kernels.bindings import kernel, refcounted_kernel
from optimize.agents.kernels.nets.distributions import (
    categorical_gradient,
    categorical_log_probs,
    gaussian_gradient,
    gaussian_log_probs,
)
from optimize.agents.kernels.nets.layers import (
    Branch,
    Matrix,
    Stem,
    Vector,
    backward_branch,
    backward_stem,
    forward_branch,
    forward_stem,
    matrix_view,
    output_layer,
)


class Network(NamedTuple):
    """Where the parts of an actor-critic lie in its flat parameters."""

    stem: Stem
    actor: Branch
    critic: Branch
    log_std: int  # where the log deviations (A,) begin; they end the vector, and discrete actions have none
    discrete: bool


class Samples(NamedTuple):
    """Samples of a rollout, Q = N * n_steps, row after row; feature windows are gathered on use."""

    bar: IntArray  # (Q,)
    account: Matrix  # (Q, S) account part of the observations
    action: Matrix  # (Q, A), or the choice (Q, 1)
    log_prob: Vector  # (Q,) under the policy that acted
    value: Vector  # (Q,)
    advantage: Vector  # (Q,)
    target: Vector  # (Q,) the return that the value network learns


class Workspace(NamedTuple):
    """Buffers of a batch; a smaller batch uses the front of each."""

    observation: Vector  # B * D
    stem: Vector  # B * units of the stem
    actor: Vector  # B * units of the actor after the stem
    critic: Vector
    stem_delta: Vector
    actor_delta: Vector
    critic_delta: Vector
    log_prob: Vector  # (B,)
    by_log_prob: Vector  # (B,)


def make_workspace(network: Network, batch: int) -> Workspace:
    """Return a workspace for batches of up to this size."""
    stem = network.stem
    actor, critic = (int(branch.units[1:].sum()) for branch in (network.actor, network.critic))
    sizes = (stem.inputs, stem.units, actor, critic, stem.units, actor, critic, 1, 1)
    return Workspace(*(np.zeros(size * batch, np.float32) for size in sizes))


@refcounted_kernel
def forward_samples(
    network: Network,
    parameters: Vector,
    features: NDArray[np.float32],
    samples: Samples,
    chosen: IntArray,
    work: Workspace,
) -> None:
    """Gather the observations of the chosen samples (B,) and pass them through both networks."""
    batch, size = len(chosen), network.stem.inputs
    account_size = samples.account.shape[1]
    window = size - account_size
    observation = matrix_view(work.observation, 0, batch, size)
    for row in range(batch):
        sample = chosen[row]
        write_feature_window(features, samples.bar[sample], window, observation[row])
        for index in range(account_size):
            observation[row, window + index] = samples.account[sample, index]
    forward_stem(network.stem, parameters, observation, matrix_view(work.stem, 0, network.stem.units, batch))
    tanh = network.stem.tanh
    forward_branch(network.actor, parameters, work.stem, work.actor, batch, tanh)
    forward_branch(network.critic, parameters, work.stem, work.critic, batch, tanh)


@refcounted_kernel
def score_actions(
    network: Network, parameters: Vector, samples: Samples, chosen: IntArray, work: Workspace
) -> float:
    """Write the log probabilities of the chosen actions after `forward_samples`; return the mean entropy."""
    output = output_layer(network.actor, work.stem, work.actor, len(chosen))
    log_prob = work.log_prob[: len(chosen)]
    if network.discrete:
        return categorical_log_probs(output, samples.action, chosen, log_prob)
    return gaussian_log_probs(output, parameters[network.log_std :], samples.action, chosen, log_prob)


@refcounted_kernel
def backward_samples(
    network: Network,
    parameters: Vector,
    gradient: Vector,
    samples: Samples,
    chosen: IntArray,
    work: Workspace,
    by_entropy: float,
) -> None:
    """Write the gradient of the loss over the old content of `gradient`.

    work.by_log_prob holds the derivative of the loss by each log probability, the output layer of the
    critic's deltas the derivative by each value, and by_entropy is the derivative by the mean entropy.
    """
    batch, tanh = len(chosen), network.stem.tanh
    output = output_layer(network.actor, work.stem, work.actor, batch)
    delta = output_layer(network.actor, work.stem_delta, work.actor_delta, batch)
    by_log_prob = work.by_log_prob[:batch]
    if network.discrete:
        categorical_gradient(output, samples.action, chosen, by_log_prob, by_entropy, delta)
    else:
        by_log_std = gradient[network.log_std :]
        log_std = parameters[network.log_std :]
        gaussian_gradient(output, log_std, samples.action, chosen, by_log_prob, by_entropy, delta, by_log_std)
    for branch, values, deltas in (
        (network.actor, work.actor, work.actor_delta),
        (network.critic, work.critic, work.critic_delta),
    ):
        backward_branch(branch, parameters, gradient, work.stem, values, work.stem_delta, deltas, batch, tanh)
    backward_stem(
        network.stem,
        gradient,
        matrix_view(work.observation, 0, batch, network.stem.inputs),
        matrix_view(work.stem, 0, network.stem.units, batch),
        matrix_view(work.stem_delta, 0, network.stem.units, batch),
    )


@refcounted_kernel
def evaluate_samples(
    network: Network,
    parameters: Vector,
    features: NDArray[np.float32],
    samples: Samples,
    work: Workspace,
    count: int,
    with_actions: bool,
) -> None:
    """Write the values, and with_actions the log probabilities, of the first `count` samples."""
    batch = len(work.log_prob)
    order = np.arange(count)
    for start in range(0, count, batch):
        chosen = order[start : start + batch]
        forward_samples(network, parameters, features, samples, chosen, work)
        values = output_layer(network.critic, work.stem, work.critic, len(chosen))
        for row in range(len(chosen)):
            samples.value[start + row] = values[0, row]
        if with_actions:
            score_actions(network, parameters, samples, chosen, work)
            for row in range(len(chosen)):
                samples.log_prob[start + row] = work.log_prob[row]


@kernel
def advantage_moments(advantage: Vector, chosen: IntArray, normalise: bool) -> tuple[float, float]:
    """Return the mean and standard deviation that normalise the chosen advantages.

    0 and 1 if they are not normalised or there is only one.
    """
    count = len(chosen)
    if not normalise or count < 2:
        return 0.0, 1.0
    mean = 0.0
    for sample in chosen:
        mean += advantage[sample]
    mean /= count
    squares = 0.0
    for sample in chosen:
        squares += (advantage[sample] - mean) ** 2
    return mean, np.sqrt(squares / (count - 1)) + 1e-8


@refcounted_kernel
def estimate_advantages(
    reward: Matrix, value: Matrix, done: Matrix, last_value: Vector, gamma: float, decay: float, out: Matrix
) -> None:
    """Write generalised advantages, arrays (N, n_steps); Schulman et al. (2016), equation 16.

    done is 1 if the step ended its episode, decay is gae_lambda, last_value (N,) follows the last step.
    """
    discount, both = np.float32(gamma), np.float32(gamma * decay)
    steps = reward.shape[1]
    for row in range(reward.shape[0]):
        advantage = np.float32(0)
        following = last_value[row]
        for step in range(steps - 1, -1, -1):
            goes_on = np.float32(1) - done[row, step]
            surprise = reward[row, step] + discount * following * goes_on - value[row, step]
            advantage = surprise + both * goes_on * advantage
            out[row, step] = advantage
            following = value[row, step]
