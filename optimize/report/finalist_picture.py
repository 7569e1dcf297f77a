"""The winner's curse as a picture: the search score of each finalist beside the scores of its fresh seeds."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from optimize.atomic import replacing
from optimize.report.equity import DOTS_PER_INCH, FAINT, HOLD_COLOR, INK, SIZE_INCHES, TRIAL_COLOR
from optimize.report.finalists import shrinkage_of
from optimize.report.format import MINUS, format_score
from optimize.results.finalists import Finalist, FinalistRun


def write_finalists_picture(
    path: Path, study: str, finalists: Sequence[Finalist], runs: Sequence[FinalistRun]
) -> None:
    """Draw search score, fresh seeds, their median and its interval of each finalist, best first."""
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.7))
    axes.axhline(0.0, color=INK, linewidth=0.8, alpha=0.5)
    for place, each in enumerate(finalists):
        _draw(axes, place, each, [run for run in runs if run.parameter_set == each.parameter_set])
    axes.set_xticks(range(len(finalists)), [str(each.trial_number) for each in finalists])
    axes.set_xlabel("trial of the search, the best lower bound first", fontsize=10, color=INK)
    found = shrinkage_of(finalists)
    title = f"{study}: search scores and fresh scores"
    if found is not None:
        title += f" ({format_score(found.search)} became {format_score(found.fresh)})"
    axes.set_title(title.replace("-", MINUS), fontsize=12, color=INK, loc="left", pad=30, fontweight="bold")
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.012, 0.995), ncols=4, frameon=False, fontsize=9, labelcolor=INK,
        handlelength=1.4, columnspacing=1.4,
    )  # fmt: skip
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(labelsize=10, colors=INK, length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as unfinished:  # not durable: it can be drawn again
        figure.savefig(unfinished, format="png")


def _draw(axes: Axes, place: int, finalist: Finalist, runs: Sequence[FinalistRun]) -> None:
    first = place == 0  # one entry of the legend stands for all
    seeds = [run.score for run in runs if run.score is not None]
    axes.plot(
        [place] * len(seeds), seeds, "o", color=TRIAL_COLOR, alpha=0.3, markersize=4,
        label="fresh seed" if first else None,
    )  # fmt: skip
    if finalist.fresh_score is not None:
        bounds = (finalist.lower_bound, finalist.upper_bound)
        low, high = (finalist.fresh_score if bound is None else bound for bound in bounds)
        axes.plot(
            [place, place], [low, high], color=TRIAL_COLOR, linewidth=1.6,
            label="5 % to 95 % of the median" if first else None,
        )  # fmt: skip
        axes.plot(
            [place], [finalist.fresh_score], "o", color=TRIAL_COLOR, markersize=8,
            label="median" if first else None,
        )  # fmt: skip
    axes.plot(
        [place], [finalist.search_score], "D", color=HOLD_COLOR, markersize=6, markerfacecolor="white",
        label="search" if first else None,
    )  # fmt: skip
