"""The picture of `walkforge probe`: the net Sharpe ratio of each choice of inputs, with its interval."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from optimize.atomic import replacing
from optimize.report.equity import DOTS_PER_INCH, FAINT, HOLD_COLOR, INK, SIZE_INCHES, TRIAL_COLOR

ROW_INCHES, EDGES_INCHES = 0.24, 1.4


def write_probe_picture(path: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the measured rows of the table, net with their interval and gross, in the order of the table."""
    measured = [row for row in rows if row["sharpe"] is not None]
    height = max(SIZE_INCHES[1], EDGES_INCHES + ROW_INCHES * len(measured))
    figure = Figure(figsize=(SIZE_INCHES[0], height), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.24, 0.55 / height, 0.73, 1 - EDGES_INCHES / height))
    axes.axvline(0.0, color=INK, linewidth=0.8, alpha=0.5)
    for place, row in enumerate(measured):
        first = place == 0  # one entry of the legend stands for all
        axes.plot(
            [row["low"], row["high"]], [place, place], color=TRIAL_COLOR, linewidth=1.6,
            label="95 % interval" if first else None,
        )  # fmt: skip
        axes.plot(
            [row["sharpe"]], [place], "o", color=TRIAL_COLOR, markersize=6,
            label="net Sharpe ratio" if first else None,
        )  # fmt: skip
        axes.plot(
            [row["gross"]], [place], "D", color=HOLD_COLOR, markersize=5, markerfacecolor="white",
            label="without costs" if first else None,
        )  # fmt: skip
    names = [f"{row['timeframe']} x {row['lookback']}, {row['groups']}" for row in measured]
    axes.set_yticks(range(len(measured)), names)
    axes.invert_yaxis()
    axes.set_xlabel("annual Sharpe ratio before the first test window", fontsize=10, color=INK)
    axes.set_title(f"{name}: linear probe", fontsize=12, color=INK, loc="left", pad=28, fontweight="bold")
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.012, 0.995), ncols=3, frameon=False, fontsize=9, labelcolor=INK,
        handlelength=1.4, columnspacing=1.4,
    )  # fmt: skip
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(labelsize=9, colors=INK, length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as unfinished:  # not durable: it can be drawn again
        figure.savefig(unfinished, format="png")
