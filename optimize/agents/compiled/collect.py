"""Rollouts of the vector environment, played by the kernels and kept as bar indices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.observations import account_layout, gather
from envs.types import BoolArray
from envs.world import World
from optimize.agents.compiled.acting import CHUNK, Actor, know_bars
from optimize.agents.compiled.actor_critic import (
    Network,
    Samples,
    Workspace,
    estimate_advantages,
    judge,
)
from optimize.agents.compiled.layers import Vector
from optimize.agents.compiled.rollout import BROKEN, PLAYED, REFUSED, Earned, blank_step, player_of
from optimize.agents.compiled.stepping import step_locals
from optimize.agents.vecenv import SB3VecEnv
from optimize.errors import NumericError


@dataclass(frozen=True)
class Ending:
    """The state in which an episode ran out of time, for the value of what would have followed."""

    row: int
    step: int
    bar: int
    account: Vector  # (S,)


class Collector:
    """Plays N environments for n_steps at a time; episodes begin where the vector environment begins them."""

    def __init__(self, vec_env: SB3VecEnv, network: Network, n_steps: int, action_size: int) -> None:
        env = vec_env.env
        self.vec_env, self.network, self.n_steps = vec_env, network, n_steps
        self.world = env.world
        self._player = player_of(env.reward_function)
        self._layout = account_layout(env.layout)
        count = env.num_envs
        beside = self._layout.size
        self.samples = blank_samples(count * n_steps, beside, action_size)
        shape = (count, n_steps)
        self.earned = Earned(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        self._step = blank_step(vec_env)
        self._all: BoolArray = np.ones(count, np.bool_)
        self._observation = np.empty((CHUNK, self.world.layout.weight), np.float32)
        self._actor = self._make_actor(beside)
        self._known, self._done_steps = 0, 0
        self._endings: list[Ending] = []
        self._noise: NDArray[np.float32] = np.empty(0, np.float32)

    def begin(self, parameters: Vector, noise: NDArray[np.float32]) -> None:
        """Start a rollout with these parameters; noise is (n_steps, N, A): normal, or uniform for choices."""
        network, actor, window = self.network, self._actor, self.world.layout.weight
        units = network.actor.units
        first = parameters[: units[0] * network.stem.inputs].reshape(units[0], network.stem.inputs).T
        actor.windows[...] = first[:window]
        actor.beside[...] = first[window:]
        for layer, start in enumerate(network.actor.weight):
            inputs, outputs = units[layer], units[layer + 1]
            weight = parameters[start : start + inputs * outputs]
            actor.transposed[start : start + inputs * outputs].reshape(inputs, outputs)[...] = weight.reshape(
                outputs, inputs
            ).T
        actor.row_of.fill(-1)
        self._parameters, self._noise = parameters, noise
        self._known, self._done_steps = 0, 0
        self._endings.clear()
        self._look_ahead(self._all)

    def play(self, stop: int) -> list[dict[str, float]]:
        """Go on to the step of that number and describe the episodes that ended."""
        ended: list[dict[str, float]] = []
        while self._done_steps < stop:
            before = self._done_steps
            self._done_steps, outcome, row, active = self._player(
                self.network,
                self._parameters,
                self._actor,
                self.world,
                self._layout,
                self.samples,
                self.earned,
                self._step,
                self._noise,
                before,
                stop,
            )
            if outcome != PLAYED:
                raise NumericError(explain(self.world, outcome, row))
            self.vec_env.env.count_scored((self._done_steps - before) * len(self._all), active)
            done = self._step.terminated | self._step.truncated
            if done.any():
                ended += self.vec_env.end_episodes(done)
                self._begin_episodes(done)
        return ended

    def conclude(self, parameters: Vector, work: Workspace, gamma: float, gae_lambda: float) -> None:
        """Judge every state, let the value of what time cut off count, and estimate the advantages."""
        features, count = self.world.features, len(self._all)
        judge(self.network, parameters, features, self.samples, work, len(self.samples.bar), True)
        after = blank_samples(len(self._endings) + count, self._layout.size, 1)
        for index, ending in enumerate(self._endings):
            after.bar[index] = ending.bar
            after.account[index] = ending.account
        after.bar[-count:] = self.world.bar
        after.account[-count:] = self.observe()[:, self.world.layout.weight :]
        judge(self.network, parameters, features, after, work, len(after.bar), False)
        for ending, value in zip(self._endings, after.value, strict=False):
            self.earned.reward[ending.row, ending.step] += np.float32(gamma) * value
        shape = self.earned.reward.shape
        value, advantage = self.samples.value.reshape(shape), self.samples.advantage.reshape(shape)
        estimate_advantages(
            self.earned.reward, value, self.earned.done, after.value[-count:], gamma, gae_lambda, advantage
        )
        np.add(self.samples.advantage, self.samples.value, out=self.samples.target)

    def observe(self) -> NDArray[np.float32]:
        """Return what every row observes now, (N, D)."""
        world = self.world
        observation = np.empty((len(self._all), world.layout.size), np.float32)
        gather(
            world.features,
            world.bars.tradable,
            world.layout,
            world.bar,
            world.account,
            world.state,
            self._all,
            observation,
        )
        return observation

    def last_step(self, ended: Sequence[dict[str, float]]) -> dict[str, Any]:
        """Return the locals of stable-baselines3 after the step just made, in which these episodes ended."""
        return step_locals(self._step, self._step.terminated | self._step.truncated, ended, self.observe())

    def last_done(self) -> BoolArray:
        """Return which rows (N,) ended an episode with the last step."""
        done: BoolArray = self.earned.done[:, -1] != 0
        return done

    def _begin_episodes(self, done: BoolArray) -> None:
        """Remember how the truncated rows stood, then begin the next episodes of all that are done."""
        if self._step.truncated.any():
            beside = self.observe()[:, self.world.layout.weight :]
            for row in np.flatnonzero(self._step.truncated):
                bar = int(self.world.bar[row])
                self._endings.append(Ending(int(row), self._done_steps - 1, bar, beside[row].copy()))
        self.vec_env.env.begin(done)
        self._look_ahead(done)

    def _look_ahead(self, wanted: BoolArray) -> None:
        steps = self.n_steps - self._done_steps
        room = self._known + steps * int(wanted.sum())
        if room > len(self._actor.known):
            known = np.empty((2 * room, self._actor.known.shape[1]), np.float32)
            known[: self._known] = self._actor.known[: self._known]
            self._actor = self._actor._replace(known=known)
        network = self.network
        bias = self._parameters[network.stem.bias : network.stem.bias + network.actor.units[0]]
        self._known = know_bars(
            network, bias, self.world, steps, wanted, self._actor, self._known, self._observation
        )

    def _make_actor(self, beside: int) -> Actor:
        network, window = self.network, self.world.layout.weight
        units = network.actor.units
        later = int(network.actor.weight[-1] + units[-1] * units[-2])
        return Actor(
            row_of=np.full(len(self.world.features), -1, np.int32),
            known=np.empty((len(self.samples.bar), units[0]), np.float32),
            windows=np.empty((window, units[0]), np.float32),
            beside=np.empty((beside, units[0]), np.float32),
            transposed=np.empty(later, np.float32),
            values=np.empty((2, int(units.max())), np.float32),
        )


def explain(world: World, outcome: int, row: int) -> str:
    """Say what broke, as the vector environment and SB3VecEnv say it."""
    broke = "training broke the environment: "
    if outcome == REFUSED:
        return f"{broke}what the policy says in env row {row} is NaN or infinite"
    if outcome == BROKEN:
        return f"{broke}equity of env row {row} is not finite after bar {world.bar[row] + 1}"
    return f"{broke}a reward is NaN or infinite"


def blank_samples(count: int, beside: int, action_size: int) -> Samples:
    """Return room for that many samples."""
    bar = np.zeros(count, np.int64)
    account, action = np.zeros((count, beside), np.float32), np.zeros((count, action_size), np.float32)
    return Samples(bar, account, action, *(np.zeros(count, np.float32) for _ in range(4)))
