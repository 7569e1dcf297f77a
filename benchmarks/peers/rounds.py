"""What every contender's process shares: the market it is handed, the loop, the talk with the parent.

Needs nothing but numpy, so that it runs in any contender's virtual environment.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EPISODE_STEPS = 512
FEE = 1e-4  # of the traded value, where a peer has a single rate
WARM_UP_CALLS = 2


@dataclass(frozen=True, eq=False)
class Tape:
    """One market and the actions to play on it; K drawn actions, N envs, T bars, A assets, F features."""

    timestamp: NDArray[Any]  # (T,) datetime64[ns]
    open: NDArray[Any]  # (T, A)
    high: NDArray[Any]  # (T, A)
    low: NDArray[Any]  # (T, A)
    close: NDArray[Any]  # (T, A)
    features: NDArray[Any]  # (T, A, F) float32
    lookback: int
    targets: NDArray[Any]  # (K, N, A) float32 in [-1, 1]
    choices: NDArray[Any]  # (K, N) in {0, 1, 2}

    @property
    def num_envs(self) -> int:
        """Return N."""
        return int(self.choices.shape[1])


@dataclass(frozen=True)
class Player:
    """One way to run an environment: play makes a number of calls, each a step of width environments."""

    play: Callable[[int], None]
    width: int


def read_tape(folder: Path) -> Tape:
    """Read what the parent wrote."""
    with np.load(folder / "tape.npz") as arrays:
        handed: dict[str, Any] = dict(arrays)
    return Tape(**handed | {"lookback": int(handed["lookback"])})


def windows(tape: Tape) -> NDArray[np.float32]:
    """Return (T - L + 1, A, L * F): the features of the last L bars, for a peer that knows no windows."""
    view = np.lib.stride_tricks.sliding_window_view(tape.features, tape.lookback, axis=0)
    return np.ascontiguousarray(view.transpose(0, 1, 3, 2), dtype=np.float32).reshape(*view.shape[:2], -1)


def single(env: Any, actions: Iterable[Any]) -> Player:
    """Play one environment in a bare loop, the fastest way there is, and reset it when an episode ends."""
    env.reset(seed=0)
    drawn = itertools.cycle(list(actions))

    def play(calls: int) -> None:
        for action in itertools.islice(drawn, calls):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return Player(play, 1)


def batch(env: Any, actions: Iterable[Any], width: int) -> Player:
    """Play a vector environment of gymnasium or stable-baselines3, which resets rows itself."""
    env.reset()
    drawn = itertools.cycle(list(actions))

    def play(calls: int) -> None:
        for action in itertools.islice(drawn, calls):
            env.step(action)

    return Player(play, width)


Clock = Callable[[], float]


def serve(makers: dict[str, Callable[[], Player]], clock: Clock = time.perf_counter) -> None:
    """Name the forms on standard output, then play one round for each line that asks for one.

    The first question about a form builds it, warms it up (compilation included) and settles how many
    calls fill the seconds asked for; every round of the form then has that number. Seconds are what the clock
    says, of the wall or of the processor.
    """
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints must not be taken for an answer
    players: dict[str, tuple[Player, int]] = {}
    print(json.dumps(list(makers)), file=channel)
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["form"] not in players:
            player = makers[ask["form"]]()
            players[ask["form"]] = player, _settle(player, ask["seconds"], clock)
        player, calls = players[ask["form"]]
        elapsed_s = _time(player, calls, clock)
        steps = calls * player.width
        print(json.dumps({"steps": steps, "steps_per_s": steps / elapsed_s}), file=channel)


def _settle(player: Player, seconds: float, clock: Clock) -> int:
    """Return the number of calls that take about the seconds, measured after a warm-up."""
    player.play(WARM_UP_CALLS)
    calls = 1
    while (elapsed_s := _time(player, calls, clock)) < seconds / 4:
        calls *= 2
    return max(1, round(calls * seconds / elapsed_s))


def _time(player: Player, calls: int, clock: Clock) -> float:
    started = clock()
    player.play(calls)
    return clock() - started
