"""Acting and trading in one loop: the policy, the ledger and the reward, step after step of N rows."""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.actions import find_refused
from envs.ledger import step_accounts
from envs.observations import Layout, show_account
from envs.rewards import RewardFunction, net_log_return
from envs.types import BoolArray, FloatArray, IntArray
from envs.world import World
from optimize.agents.compiled.acting import Actor, act, think
from optimize.agents.compiled.actor_critic import Network, Samples
from optimize.agents.compiled.kernels import bind, kernel
from optimize.agents.compiled.layers import Matrix, Vector
from optimize.agents.vecenv import SB3VecEnv

PLAYED, REFUSED, BROKEN, ABSURD = 0, 1, 2, 3  # how a run of steps ended; the last three are errors of a row


class Step(NamedTuple):
    """One step of all rows."""

    target: FloatArray  # (N, A)
    previous: FloatArray  # (N,) equity
    reward: FloatArray  # (N,)
    terminated: BoolArray  # (N,)
    truncated: BoolArray  # (N,)
    reward_sum: FloatArray  # (N,) of the episode so far
    length: IntArray  # (N,)


class Earned(NamedTuple):
    """What each step of a rollout brought, arrays (N, n_steps)."""

    reward: Matrix
    done: Matrix  # 1 where the step ended its episode


def blank_step(vec_env: SB3VecEnv) -> Step:
    """Return room for a step of these environments; what is summed over an episode is their own."""
    account = vec_env.env.world.account
    count = len(account.weight)
    return Step(
        np.zeros_like(account.weight),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
        vec_env.reward_sum,
        vec_env.length,
    )


@kernel
def trade(world: World, step: Step) -> tuple[int, int]:
    """Carry out the targets of all rows; return how it ended and the row that broke, or -1."""
    refused = find_refused(world.bar, world.last, step.target, world.rules.discrete, world.lowest)
    if refused >= 0:
        return REFUSED, refused
    broken = step_accounts(
        world.bar,
        world.last,
        step.target,
        world.bars,
        world.rates,
        world.rules,
        world.account,
        world.fill,
        step.terminated,
        step.truncated,
    )
    return (BROKEN, broken) if broken >= 0 else (PLAYED, -1)


earn: RewardFunction = net_log_return  # in `play`; `player_of` puts another in its place


def play(
    network: Network,
    parameters: Vector,
    actor: Actor,
    world: World,
    beside: Layout,
    samples: Samples,
    earned: Earned,
    step: Step,
    noise: NDArray[np.float32],
    first: int,
    stop: int,
) -> tuple[int, int, int, int]:
    """Take the steps first, ..., stop - 1 of a rollout, until an episode ends or something breaks.

    `beside` is the layout of an observation without its window, noise is (n_steps, N, A). Return the number
    of the next step, how it ended, the row that broke, and how often neither floor nor clip bound a reward.
    """
    n_envs, n_steps = earned.reward.shape
    active = 0
    for number in range(first, stop):
        for row in range(n_envs):
            sample = row * n_steps + number
            bar = world.bar[row]
            samples.bar[sample] = bar
            seen = samples.account[sample]
            show_account(row, bar, world.bars.tradable, beside, world.account, world.state, seen)
            output = actor.values[think(network, parameters, actor, bar, seen)]
            action = samples.action[sample]
            act(network, parameters, output, noise[number, row], world.lowest, action, step.target[row])
            step.previous[row] = world.account.equity[row]
        outcome, failing = trade(world, step)
        if outcome != PLAYED:
            return number, outcome, failing, active
        account = world.account
        active += earn(step.previous, account.equity, account.peak, world.state, world.terms, step.reward)
        ended = False
        for row in range(n_envs):
            if not math.isfinite(step.reward[row]):
                return number, ABSURD, row, active
            done = step.terminated[row] or step.truncated[row]
            ended = ended or done
            earned.reward[row, number] = step.reward[row]
            earned.done[row, number] = np.float32(done)
            step.reward_sum[row] += step.reward[row]
            step.length[row] += 1
        if ended:
            return number + 1, PLAYED, -1, active
    return stop, PLAYED, -1, active


Player = Callable[..., tuple[int, int, int, int]]


@cache
def player_of(reward: RewardFunction) -> Player:
    """Return `play`, compiled with this reward; every reward has a loop, and a cached kernel, of its own."""
    return kernel(bind(play, f"play_{reward.__name__}", earn=reward))
