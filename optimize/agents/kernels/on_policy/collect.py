"""Collection of rollouts: environments stepped by kernels, samples stored as bar indices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.observations import account_layout, write_observations
from envs.outcomes import COMPLETED
from envs.types import BoolArray
from optimize.agents.kernels.env_step import make_env_step, outcome_message, step_locals
from optimize.agents.kernels.nets.actor_critic import (
    Network,
    Samples,
    Workspace,
    estimate_advantages,
    evaluate_samples,
)
from optimize.agents.kernels.nets.layers import Vector
from optimize.agents.kernels.nets.policy_head import CHUNK, RolloutPolicy, precompute_first_layer
from optimize.agents.kernels.on_policy.rollout import RolloutRewards, steps_kernel
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.errors import NumericError


@dataclass(frozen=True)
class TruncatedEpisode:
    """Last state of a truncated episode, whose value is bootstrapped."""

    row: int
    step: int
    bar: int
    account: Vector  # (S,)


class RolloutCollector:
    """Runs N environments for n_steps at a time; the vector environment starts the episodes."""

    def __init__(self, vec_env: SB3VecEnv, network: Network, n_steps: int, action_size: int) -> None:
        env = vec_env.env
        self.vec_env, self.network, self.n_steps = vec_env, network, n_steps
        self.env_state = env.env_state
        self._run = steps_kernel(env.reward_function)
        self._layout = account_layout(env.layout)
        count = env.num_envs
        account_size = self._layout.size
        self.samples = empty_samples(count * n_steps, account_size, action_size)
        shape = (count, n_steps)
        self.rewards = RolloutRewards(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        self._step = make_env_step(vec_env)
        self._all: BoolArray = np.ones(count, np.bool_)
        self._observation = np.empty((CHUNK, self.env_state.layout.weight), np.float32)
        self._policy = self._make_policy(account_size)
        self._known, self._done_steps = 0, 0
        self._endings: list[TruncatedEpisode] = []
        self._noise: NDArray[np.float32] = np.empty(0, np.float32)

    def start(self, parameters: Vector, noise: NDArray[np.float32]) -> None:
        """Start a rollout with these parameters; noise is (n_steps, N, A): normal, or uniform for choices."""
        network, policy, window = self.network, self._policy, self.env_state.layout.weight
        units = network.actor.units
        first = parameters[: units[0] * network.stem.inputs].reshape(units[0], network.stem.inputs).T
        policy.window_weights[...] = first[:window]
        policy.account_weights[...] = first[window:]
        for layer, start in enumerate(network.actor.weight):
            inputs, outputs = units[layer], units[layer + 1]
            weight = parameters[start : start + inputs * outputs]
            policy.transposed[start : start + inputs * outputs].reshape(inputs, outputs)[...] = (
                weight.reshape(outputs, inputs).T
            )
        policy.row_of_bar.fill(-1)
        self._parameters, self._noise = parameters, noise
        self._known, self._done_steps = 0, 0
        self._endings.clear()
        self._precompute_first_layer(self._all)

    def run(self, stop: int) -> list[dict[str, float]]:
        """Run up to step `stop` and return the statistics of the episodes that ended."""
        ended: list[dict[str, float]] = []
        while self._done_steps < stop:
            before = self._done_steps
            self._done_steps, outcome, row, active = self._run(
                self.network,
                self._parameters,
                self._policy,
                self.env_state,
                self._layout,
                self.samples,
                self.rewards,
                self._step,
                self._noise,
                before,
                stop,
            )
            if outcome != COMPLETED:
                raise NumericError(outcome_message(self.env_state, outcome, row))
            self.vec_env.env.count_scored((self._done_steps - before) * len(self._all), active)
            done = self._step.terminated | self._step.truncated
            if done.any():
                ended += self.vec_env.end_episodes(done)
                self._begin_episodes(done)
        return ended

    def compute_advantages(
        self, parameters: Vector, work: Workspace, gamma: float, gae_lambda: float
    ) -> None:
        """Compute values, bootstrap truncated episodes and estimate advantages."""
        features, count = self.env_state.features, len(self._all)
        evaluate_samples(self.network, parameters, features, self.samples, work, len(self.samples.bar), True)
        after = empty_samples(len(self._endings) + count, self._layout.size, 1)
        for index, ending in enumerate(self._endings):
            after.bar[index] = ending.bar
            after.account[index] = ending.account
        after.bar[-count:] = self.env_state.bar
        after.account[-count:] = self.observe()[:, self.env_state.layout.weight :]
        evaluate_samples(self.network, parameters, features, after, work, len(after.bar), False)
        for ending, value in zip(self._endings, after.value, strict=False):
            self.rewards.reward[ending.row, ending.step] += np.float32(gamma) * value
        shape = self.rewards.reward.shape
        value, advantage = self.samples.value.reshape(shape), self.samples.advantage.reshape(shape)
        estimate_advantages(
            self.rewards.reward, value, self.rewards.done, after.value[-count:], gamma, gae_lambda, advantage
        )
        np.add(self.samples.advantage, self.samples.value, out=self.samples.target)

    def observe(self) -> NDArray[np.float32]:
        """Return the current observations of all rows (N, D)."""
        env = self.env_state
        observation = np.empty((len(self._all), env.layout.size), np.float32)
        write_observations(
            env.features,
            env.bars.tradable,
            env.layout,
            env.bar,
            env.account,
            env.reward_state,
            self._all,
            observation,
        )
        return observation

    def last_step(self, ended: Sequence[dict[str, float]]) -> dict[str, Any]:
        """Return the locals of stable-baselines3 after the step just made, in which these episodes ended."""
        return step_locals(self._step, self._step.terminated | self._step.truncated, ended, self.observe())

    def last_done(self) -> BoolArray:
        """Return which rows (N,) ended an episode with the last step."""
        done: BoolArray = self.rewards.done[:, -1] != 0
        return done

    def _begin_episodes(self, done: BoolArray) -> None:
        """Store the last states of truncated rows, then start the next episodes of all finished rows."""
        if self._step.truncated.any():
            account = self.observe()[:, self.env_state.layout.weight :]
            for row in np.flatnonzero(self._step.truncated):
                bar = int(self.env_state.bar[row])
                self._endings.append(
                    TruncatedEpisode(int(row), self._done_steps - 1, bar, account[row].copy())
                )
        self.vec_env.env.begin(done)
        self._precompute_first_layer(done)

    def _precompute_first_layer(self, wanted: BoolArray) -> None:
        steps = self.n_steps - self._done_steps
        room = self._known + steps * int(wanted.sum())
        if room > len(self._policy.first_layer):
            first_layer = np.empty((2 * room, self._policy.first_layer.shape[1]), np.float32)
            first_layer[: self._known] = self._policy.first_layer[: self._known]
            self._policy = self._policy._replace(first_layer=first_layer)
        network = self.network
        bias = self._parameters[network.stem.bias : network.stem.bias + network.actor.units[0]]
        self._known = precompute_first_layer(
            network, bias, self.env_state, steps, wanted, self._policy, self._known, self._observation
        )

    def _make_policy(self, account_size: int) -> RolloutPolicy:
        network, window = self.network, self.env_state.layout.weight
        units = network.actor.units
        later = int(network.actor.weight[-1] + units[-1] * units[-2]) if len(units) > 1 else 0
        return RolloutPolicy(
            row_of_bar=np.full(len(self.env_state.features), -1, np.int32),
            first_layer=np.empty((len(self.samples.bar), units[0]), np.float32),
            window_weights=np.empty((window, units[0]), np.float32),
            account_weights=np.empty((account_size, units[0]), np.float32),
            transposed=np.empty(later, np.float32),
            values=np.empty((2, int(units.max())), np.float32),
        )


def empty_samples(count: int, account_size: int, action_size: int) -> Samples:
    """Return arrays for `count` samples."""
    bar = np.zeros(count, np.int64)
    account, action = np.zeros((count, account_size), np.float32), np.zeros((count, action_size), np.float32)
    return Samples(bar, account, action, *(np.zeros(count, np.float32) for _ in range(4)))
