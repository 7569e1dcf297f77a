"""A trained policy plays whole spans in one compiled call, its first layer computed ahead of the account."""

import math
from functools import cache
from typing import NamedTuple, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from envs.compiled import bind
from envs.observations import show_window
from envs.playing import Play, make_desk, play
from envs.policy import Fused
from envs.recording import Recording
from envs.rewards import RewardFunction, net_log_return
from envs.types import FloatArray
from envs.world import World
from optimize.agents.compiled.acting import CHUNK, go_on, multiply
from optimize.agents.compiled.deciding import CHOICE, SQUASHED, Head, read_head
from optimize.agents.compiled.kernels import counting_kernel, kernel
from optimize.agents.compiled.layers import Branch, Matrix, Vector


class Mind(NamedTuple):
    """A policy network as it plays, its matrices transposed."""

    windows: Matrix  # (L * A * F, units) of the first layer on the features
    beside: Matrix  # (S, units) of it on the rest of an observation
    first: Vector  # (units,) its bias
    later: Vector  # the layers after it, each as (in, out) and then its bias
    branch: Branch  # where they begin
    tanh: bool  # the activation of all layers but the last; else ReLU
    head: int  # CLIPPED, SQUASHED or CHOICE
    low: Vector  # (A,) of the actions
    high: Vector  # (A,)
    observation: Matrix  # (CHUNK, L * A * F) of the bars to come
    known: Matrix  # (CHUNK, units) their first layer, before the account and the activation
    values: Matrix  # (2, widest) of two layers in turn


@counting_kernel
def look_ahead(mind: Mind, row: int, world: World) -> None:
    """Compute the first layer of the next bars of a row, as many as there is room for."""
    first = world.bar[row]
    count = min(world.last[row] - first, CHUNK)
    for index in range(count):
        show_window(world.features, first + index, world.layout.weight, mind.observation[index])
    multiply(mind.observation[:count], mind.windows, mind.first, mind.known[:count])


@kernel
def best_choice(values: Vector, choices: int) -> float:
    """Return the first choice of the highest value, NaN where a value is none."""
    best = 0
    for choice in range(choices):
        if math.isnan(values[choice]):
            return math.nan
        if values[choice] > values[best]:
            best = choice
    return float(best)


@kernel
def say(mind: Mind, output: Vector, action: FloatArray) -> None:
    """Write the likeliest action (A,) as SB3's `predict` sends it, within its range."""
    if mind.head == CHOICE:
        action[0] = best_choice(output, mind.branch.units[-1])
        return
    for asset in range(len(action)):
        low, high = mind.low[asset], mind.high[asset]
        value = output[asset]
        if math.isnan(value):
            action[asset] = math.nan
        elif mind.head == SQUASHED:
            squashed = np.float32(math.tanh(value))
            action[asset] = low + np.float32(0.5) * (squashed + np.float32(1)) * (high - low)
        else:
            action[asset] = min(max(value, low), high)


@counting_kernel
def decide(
    mind: Mind, row: int, step: int, world: World, seen: NDArray[np.float32], action: FloatArray
) -> None:
    """Pass what is observed through the network; a span is looked at in the same chunks whoever plays it."""
    if step % CHUNK == 0:
        look_ahead(mind, row, world)
    known = mind.known[step % CHUNK]
    place = go_on(mind.branch, mind.tanh, mind.later, mind.later, known, mind.beside, seen, mind.values)
    say(mind, mind.values[place], action)


@cache
def _player_of(reward: RewardFunction) -> Play:
    """Return `play`, compiled for networks with this reward."""
    return counting_kernel(bind(play, f"play_network_{reward.__name__}", decide=decide, earn=reward))


def fuse(policy: BasePolicy, world: World, reward: RewardFunction) -> Fused | None:
    """Return what plays a world with the likeliest actions of SB3's policy, None where there is no kernel."""
    head = read_head(policy)
    if head is None or head.layers[0].in_features != world.layout.size:
        return None
    mind = _make_mind(head, world.layout.weight, policy.action_space)
    # only a reward with a state is observed, so the others need no loop of their own
    player = _player_of(reward if world.state.shape[1] else net_log_return)

    def fused(world: World, recording: Recording) -> None:
        player(mind, world, make_desk(world), recording, 0, len(world.bar))

    return fused


def _make_mind(head: Head, window: int, space: spaces.Space[object]) -> Mind:
    first, *later = head.layers
    weights = [layer.weight.detach().cpu().numpy().T for layer in head.layers]
    biases = [layer.bias.detach().cpu().numpy() for layer in head.layers]
    sizes = [part.size for pair in zip(weights[1:], biases[1:], strict=True) for part in pair]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    units = np.array([layer.out_features for layer in (first, *later)], dtype=np.int64)
    parts = [np.ravel(part) for pair in zip(weights[1:], biases[1:], strict=True) for part in pair]
    bounds = (space.low, space.high) if isinstance(space, spaces.Box) else (np.zeros(1), np.zeros(1))
    low, high = (np.ravel(bound).astype(np.float32) for bound in bounds)
    return Mind(
        windows=np.ascontiguousarray(weights[0][:window]),
        beside=np.ascontiguousarray(weights[0][window:]),
        first=biases[0].copy(),
        later=cast(Vector, np.concatenate(parts)),
        branch=Branch(0, units, starts[:-1:2].copy(), starts[1::2].copy(), np.zeros_like(starts[:-1:2])),
        tanh=head.tanh,
        head=head.kind,
        low=low,
        high=high,
        observation=np.empty((CHUNK, window), np.float32),
        known=np.empty((CHUNK, int(units[0])), np.float32),
        values=np.empty((2, int(units.max())), np.float32),
    )
