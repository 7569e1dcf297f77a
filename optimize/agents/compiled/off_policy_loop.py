"""Acting, trading, remembering and learning in one loop, step after step of N rows.

`play` and `learn` are compiled once for each algorithm, and `play` for each reward: the functions that
their names stand for here are put in by `kernels_of`.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.observations import Layout, show_account, show_window
from envs.rewards import RewardFunction, net_log_return
from envs.types import BoolArray, FloatArray, IntArray
from envs.world import World
from optimize.agents.compiled.kernels import bind, counting_kernel, inner_kernel
from optimize.agents.compiled.layers import Matrix, Vector, block
from optimize.agents.compiled.replay import GOES_ON, TERMINATED, TRUNCATED, Replay, turn_slot
from optimize.agents.compiled.rollout import ABSURD, PLAYED, Step, trade

Kernel = Callable[..., Any]


class Draws(NamedTuple):
    """What U updates draw: which transitions, and noise."""

    slot: IntArray  # (U, B)
    row: IntArray  # (U, B)
    noise: NDArray[np.float32]  # (U, kinds, B, A)


class Plan(NamedTuple):
    """What several rollouts and the updates between them do, all of it drawn ahead."""

    rollout: int  # steps of each
    trains_from: int  # the number of the first rollout that updates follow
    updates: int  # after each of these
    learning_rate: FloatArray  # (rollouts,) of the updates after each
    at_random: BoolArray  # (steps,) which of them do not ask the policy
    noise: NDArray[np.float32]  # (steps, N, A) of the policy, or the random action itself
    draws: Draws


def learn(
    learner: Any,
    features: NDArray[np.float32],
    replay: Replay,
    draws: Draws,
    start: int,
    stop: int,
    origin: int,
    learning_rate: float,
    losses: Matrix,
) -> None:
    """Make the updates start, ..., stop - 1 of the draws; those since the last rollout count from origin."""
    for number in range(start, stop):
        update(
            learner,
            features,
            replay,
            draws.slot[number],
            draws.row[number],
            draws.noise[number],
            number - origin,
            learning_rate,
            losses[number],
        )


def play(
    learner: Any,
    world: World,
    beside: Layout,
    replay: Replay,
    step: Step,
    observation: Vector,
    plan: Plan,
    first: int,
    stop: int,
    losses: Matrix,
) -> tuple[int, int, int, int]:
    """Take the steps first, ..., stop - 1 of a plan, until an episode ends or something breaks.

    The updates that follow a rollout are made before the next one begins. `observation` has room for N of
    them, `beside` is the layout of one without its window. Return the number of the next step, how it
    ended, the row that broke, and how often neither floor nor clip bound a reward.
    """
    active = 0
    for number in range(first, stop):
        turn = number // plan.rollout
        if number % plan.rollout == 0 and turn > plan.trains_from:
            done = (turn - 1 - plan.trains_from) * plan.updates
            rate = plan.learning_rate[turn - 1]
            ahead = done + plan.updates
            study(learner, world.features, replay, plan.draws, done, ahead, done, rate, losses)
        outcome, row, scored = advance(
            learner,
            world,
            beside,
            replay,
            step,
            observation,
            plan.at_random[number],
            plan.noise[number],
        )
        if outcome != PLAYED:
            return number, outcome, row, active
        active += scored
        for row in range(len(step.terminated)):
            if step.terminated[row] or step.truncated[row]:
                return number + 1, PLAYED, -1, active
    return stop, PLAYED, -1, active


def take_step(
    learner: Any,
    world: World,
    beside: Layout,
    replay: Replay,
    step: Step,
    observation: Vector,
    at_random: bool,
    noise: Matrix,
) -> tuple[int, int, int]:
    """Act, trade and remember; return how it ended, the row that broke and the rewards not bound."""
    n_envs = len(world.bar)
    slot = replay.place[0]
    shown = block(observation, 0, n_envs, world.layout.size)
    for row in range(n_envs):
        bar, seen = world.bar[row], replay.account[slot, row]
        replay.bar[slot, row] = bar
        show_account(row, bar, world.bars.tradable, beside, world.account, world.state, seen)
        show_window(world.features, bar, world.layout.weight, shown[row])
        for index in range(len(seen)):
            shown[row, world.layout.weight + index] = seen[index]
        step.previous[row] = world.account.equity[row]
    act(learner, observation, at_random, noise, world.lowest, replay.action[slot], step.target)
    outcome, failing = trade(world, step)
    if outcome != PLAYED:
        return outcome, failing, 0
    account = world.account
    active = earn(step.previous, account.equity, account.peak, world.state, world.terms, step.reward)
    for row in range(n_envs):
        if not math.isfinite(step.reward[row]):
            return ABSURD, row, 0
        replay.reward[slot, row] = step.reward[row]
        left = TERMINATED if step.terminated[row] else TRUNCATED if step.truncated[row] else GOES_ON
        replay.ended[slot, row] = left
        after = replay.following[slot, row]
        show_account(row, world.bar[row], world.bars.tradable, beside, account, world.state, after)
        step.reward_sum[row] += step.reward[row]
        step.length[row] += 1
    turn_slot(replay)
    follow(learner)
    return PLAYED, -1, active


def _missing(*_: Any) -> Any:
    raise NotImplementedError("kernels_of puts a kernel in the place of this name")


update: Kernel = _missing  # in `learn`: one update of an algorithm
study: Kernel = _missing  # in `play`: `learn`
advance: Kernel = _missing  # in `play`: `take_step`
act: Kernel = _missing  # in `take_step`: what an algorithm does
follow: Kernel = _missing  # in `take_step`: what an algorithm does after each step
earn: RewardFunction = net_log_return  # in `take_step`


class Rules(NamedTuple):
    """The kernels of an algorithm."""

    name: str
    update: Kernel
    act: Kernel
    follow: Kernel


@cache
def learner_of(rules: Rules) -> Kernel:
    """Return `learn`, compiled for an algorithm."""
    return counting_kernel(bind(learn, f"learn_{rules.name}", update=rules.update))


@cache
def player_of(rules: Rules, reward: RewardFunction) -> Kernel:
    """Return `play`, compiled for an algorithm and a reward."""
    kind = f"{rules.name}_{reward.__name__}"
    step = bind(take_step, f"take_step_{kind}", act=rules.act, follow=rules.follow, earn=reward)
    kernels = {"study": learner_of(rules), "advance": inner_kernel(step)}
    return counting_kernel(bind(play, f"play_{kind}", **kernels))
