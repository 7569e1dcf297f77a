"""Trajectories of an evaluation: actions, equity, weights and fills, written by kernels."""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import flat_action
from envs.compiled import compiled
from envs.env_state import EnvState
from envs.types import BoolArray, Fill, FloatArray, IntArray


class Trajectory(NamedTuple):
    """K steps of N accounts, zero after an account's last step; a step ends at the close of a bar."""

    action: FloatArray  # (N, K, A) as sent by the policy; zero exposure after the last step
    equity: FloatArray  # (N, K)
    weight: FloatArray  # (N, K, A)
    fill: Fill  # (N, K) or (N, K, A)
    steps: IntArray  # (N,) taken
    outcome: IntArray  # (N,)


def empty_trajectory(env: EnvState, space: spaces.Space[Any], steps: int) -> Trajectory:
    """Return arrays for this many steps of every account."""
    rows, assets = env.account.weight.shape
    fill = (np.zeros((rows, steps, *now.shape[1:]), now.dtype) for now in env.fill)
    return Trajectory(
        action=np.full((rows, steps, assets), float(flat_action(space))),
        equity=np.zeros((rows, steps)),
        weight=np.zeros((rows, steps, assets)),
        fill=Fill(*fill),
        steps=np.zeros(rows, np.int64),
        outcome=np.zeros(rows, np.int64),
    )


@compiled
def record_step(row: int, equity: FloatArray, weight: FloatArray, fill: Fill, trajectory: Trajectory) -> None:
    """Write the next step of a row: its fill, and equity (N,) and weight (N, A) at its end."""
    step = trajectory.steps[row]
    trajectory.steps[row] = step + 1
    made = trajectory.fill
    trajectory.equity[row, step] = equity[row]
    made.financing[row, step] = fill.financing[row]
    made.turnover[row, step] = fill.turnover[row]
    made.interest[row, step] = fill.interest[row]
    made.liquidated[row, step] = fill.liquidated[row]
    for asset in range(weight.shape[1]):
        trajectory.weight[row, step, asset] = weight[row, asset]
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
def record_steps(
    running: BoolArray, equity: FloatArray, weight: FloatArray, fill: Fill, trajectory: Trajectory
) -> None:
    """Write the next step of the running rows (N,)."""
    for row in range(len(running)):
        if running[row]:
            record_step(row, equity, weight, fill, trajectory)


@compiled
def features_are_finite(features: NDArray[np.float32], first: int, last: int) -> bool:
    """Return whether all features (T, A * F) of the bars first, ..., last are finite."""
    total = np.float32(0)
    for bar in range(first, last + 1):
        for column in range(features.shape[1]):
            total += features[bar, column] * np.float32(0)  # NaN if not finite; no branch, so it vectorises
    return bool(total == np.float32(0))
