"""Confirmed ZigZag pivots: turning points of the close followed by a reversal of a given percentage."""

import numpy as np

from envs.compiled import compiled
from envs.types import FloatArray, IntArray
from optimize.data.features.registry import AssetBars, feature

ZIGZAG_BARS = 300  # trailing window on which the ZigZag of a bar is computed


@compiled
def confirmed(close: FloatArray, first: int, last: int, pct: float) -> tuple[int, int]:
    """Return the direction of the leg at bar `last` and the row of its last confirmed pivot.

    Only bars `first` to `last` are read. The highest (lowest) close of a leg becomes a pivot once a close is
    pct percent below (above) it. Returns 0 and -1 while there is no pivot.
    """
    direction, pivot = 0, -1
    top, bottom = first, first
    for row in range(first + 1, last + 1):
        if close[row] > close[top]:
            top = row
        if close[row] < close[bottom]:
            bottom = row
        if direction >= 0 and close[row] <= close[top] * (1.0 - 0.01 * pct):
            direction, pivot, bottom = -1, top, row
        elif direction <= 0 and close[row] >= close[bottom] * (1.0 + 0.01 * pct):
            direction, pivot, top = 1, bottom, row
    return direction, pivot


@compiled
def draw_trailing(close: FloatArray, window: int, pct: float, direction: IntArray, pivot: IntArray) -> None:
    """Write direction (T,) and pivot row (T,) of the ZigZag of the trailing window of each bar."""
    for row in range(len(close)):
        direction[row], pivot[row] = confirmed(close, max(0, row - window + 1), row, pct)


@feature(
    "zigzag",
    "zigzag_direction_{pct}",
    "zigzag_distance_{pct}",
    "zigzag_age_{pct}",
    group="trend",
    warmup=ZIGZAG_BARS - 1,
    reads=("zigzag_pct",),
)
def zigzag(bars: AssetBars) -> list[FloatArray]:
    """Return the leg's direction, log(close / last confirmed pivot) and the pivot's age, for each percentage.

    A ZigZag of the whole history has unbounded memory: in a calm market its last pivot may lie years back,
    and no tail of bars reproduces it. It is therefore computed on the last ZIGZAG_BARS bars only. The first
    pivot of that window may lie in the middle of an older leg; without a confirmed pivot the columns are 0, 0
    and 1. The age is a share of the window. The unconfirmed running leg, which repaints, is not used.
    """
    columns = []
    rows = np.arange(len(bars.close))
    for pct in bars.zigzag_pct:
        direction, pivot = np.zeros_like(rows), np.zeros_like(rows)
        draw_trailing(bars.close, ZIGZAG_BARS, float(pct), direction, pivot)
        found = pivot >= 0
        distance = np.where(found, np.log(bars.close / bars.close[pivot]), 0.0)
        age = np.where(found, (rows - pivot) / ZIGZAG_BARS, 1.0)
        columns += [direction.astype(np.float64), distance, age]
    return columns
