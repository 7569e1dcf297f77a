"""The picture of the learning benchmark: training on the left, the scores and their difference beside it."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {"compiled": "#0072b2", "stock": "#d55e00"}
ALGORITHMS = {"ppo": "PPO", "sac": "SAC"}
MARKETS = {
    "synthetic": "synthetic market",
    "embedded": "EURUSD 1h, 2017",
    "real": "EURUSD 1h, 2007-2018",
}


def draw(path: Path, detail: dict[str, Any], curves: dict[str, dict[str, list[Any]]]) -> None:
    """Draw a row for each case that has pairs."""
    cases = [key for key, found in detail.items() if found["equivalent"] is not None]
    if not cases:
        return
    size = (11.0, 2.6 * len(cases) + 0.6)
    figure, rows = plt.subplots(
        len(cases), 3, figsize=size, squeeze=False, width_ratios=(5, 3, 3), layout="constrained"
    )
    for key, (left, middle, right) in zip(cases, rows, strict=True):
        algorithm, market = key.split("_")
        found = detail[key]
        training(left, curves[key], found["steps"])
        left.set_title(f"{ALGORITHMS[algorithm]}, {MARKETS[market]}", loc="left", fontsize=10)
        scores(middle, found)
        difference(right, found)
    shown = sum(detail[key]["equivalent"] for key in cases)
    figure.suptitle(
        f"Compiled agents against stock ones: scores shown to be equivalent in {shown} of {len(cases)} cases",
        fontsize=11,
    )
    rows[0][0].legend(frameon=False, fontsize=9, loc="lower right")
    for axes, text in zip(
        rows[-1],
        ("training steps", "engine", "difference of scores, compiled - stock"),
        strict=True,
    ):
        axes.set_xlabel(text, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def training(axes: Axes, curves: dict[str, list[Any]], steps: int) -> None:
    """Draw the mean return of training episodes over the seeds, and the span of one deviation."""
    for engine, rows in curves.items():
        values = np.array(rows, dtype=np.float64)
        shown = np.isfinite(values).all(axis=0)
        at = (steps * np.arange(1, values.shape[1] + 1) / values.shape[1])[shown]
        mean, deviation = values[:, shown].mean(axis=0), values[:, shown].std(axis=0)
        axes.plot(at, mean, color=COLOURS[engine], label=f"{engine} (mean and deviation over seeds)")
        axes.fill_between(at, mean - deviation, mean + deviation, color=COLOURS[engine], alpha=0.18, lw=0)
    axes.set_ylabel("mean reward of\nan episode", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)


def scores(axes: Axes, found: dict[str, Any]) -> None:
    """Draw a line for each seed from its compiled to its stock score."""
    both = found["scores"]
    for pair in zip(both["compiled"], both["stock"], strict=True):
        axes.plot((0, 1), pair, color="0.75", lw=0.8, zorder=1)
    for place, (engine, values) in enumerate(both.items()):
        axes.scatter([place] * len(values), values, color=COLOURS[engine], s=16, zorder=2)
        axes.hlines(np.mean(values), place - 0.2, place + 0.2, color=COLOURS[engine], lw=2)
    axes.set_xticks((0, 1), list(both))
    axes.set_xlim(-0.5, 1.5)
    axes.set_ylabel("score (annualised Sharpe)", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, axis="y")


def difference(axes: Axes, found: dict[str, Any]) -> None:
    """Draw the 90 % interval of the mean difference within the margin."""
    margin = found["margin"]
    axes.axvspan(-margin, margin, color="#009e73", alpha=0.15, lw=0)
    axes.axvline(0, color="0.5", lw=0.8)
    axes.plot((found["low"], found["high"]), (0, 0), color="black", lw=2)
    axes.plot(found["mean_difference"], 0, "o", color="black", ms=6)
    widest = 1.25 * max(margin, abs(found["low"]), abs(found["high"]))
    axes.set_xlim(-widest, widest)
    axes.set_yticks(())
    verdict = "equivalent" if found["equivalent"] else "not shown"
    tested = f"{found['pairs']} pairs, p = {found['p']:.2g}"
    words = f"{verdict}: {tested}\n90 % interval within ± {margin:.2f} (shaded)"
    axes.set_title(words, fontsize=9)
    axes.tick_params(labelsize=8)
