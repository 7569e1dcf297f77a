"""What accounts did, step after step: the arrays of an evaluation, written by kernels."""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.accounts import FillRows
from envs.actions import still_action
from envs.compiled import compiled
from envs.types import BoolArray, FloatArray, IntArray
from envs.world import World

PLAYED, RUINED, UNSEEN, UNSAID, BROKEN = range(5)
"""How a row came out: to the end of its span, to ruin, or to a number that is none: in what is observed, in
what the policy says, in the equity."""


class Recording(NamedTuple):
    """K steps of N accounts, zero after the last step of each; a step ends at the close of a bar."""

    action: FloatArray  # (N, K, A) as the policy sent them; of steps not taken: order nothing
    equity: FloatArray  # (N, K)
    weight: FloatArray  # (N, K, A)
    fill: FillRows  # (N, K) or (N, K, A)
    steps: IntArray  # (N,) taken
    outcome: IntArray  # (N,)


def blank_recording(world: World, space: spaces.Space[Any], steps: int) -> Recording:
    """Return room for that many steps of every account of a world."""
    rows, assets = world.account.weight.shape
    fill = (np.zeros((rows, steps, *now.shape[1:]), now.dtype) for now in world.fill)
    return Recording(
        action=np.full((rows, steps, assets), float(still_action(space))),
        equity=np.zeros((rows, steps)),
        weight=np.zeros((rows, steps, assets)),
        fill=FillRows(*fill),
        steps=np.zeros(rows, np.int64),
        outcome=np.zeros(rows, np.int64),
    )


@compiled
def record_row(
    row: int, equity: FloatArray, weight: FloatArray, fill: FillRows, recording: Recording
) -> None:
    """Write the next step of a row: equity (N,) and weight (N, A) at its end and the fill within it."""
    step = recording.steps[row]
    recording.steps[row] = step + 1
    made = recording.fill
    recording.equity[row, step] = equity[row]
    made.financing[row, step] = fill.financing[row]
    made.turnover[row, step] = fill.turnover[row]
    for asset in range(weight.shape[1]):
        recording.weight[row, step, asset] = weight[row, asset]
        made.quantity[row, step, asset] = fill.quantity[row, asset]
        made.price[row, step, asset] = fill.price[row, asset]
        made.commission[row, step, asset] = fill.commission[row, asset]
        made.slippage[row, step, asset] = fill.slippage[row, asset]
        made.forced[row, step, asset] = fill.forced[row, asset]
        made.exit_quantity[row, step, asset] = fill.exit_quantity[row, asset]
        made.exit_price[row, step, asset] = fill.exit_price[row, asset]
        made.exit_commission[row, step, asset] = fill.exit_commission[row, asset]
        made.exit_slippage[row, step, asset] = fill.exit_slippage[row, asset]


@compiled
def record_rows(
    running: BoolArray, equity: FloatArray, weight: FloatArray, fill: FillRows, recording: Recording
) -> None:
    """Write the next step of the running rows (N,)."""
    for row in range(len(running)):
        if running[row]:
            record_row(row, equity, weight, fill, recording)


@compiled
def finite_features(features: NDArray[np.float32], first: int, last: int) -> bool:
    """Tell whether every feature (T, A * F) of the bars first, ..., last is a number."""
    total = np.float32(0)
    for bar in range(first, last + 1):
        for column in range(features.shape[1]):
            total += features[bar, column] * np.float32(0)  # NaN of what is none; the loop has no branch
    return bool(total == np.float32(0))
