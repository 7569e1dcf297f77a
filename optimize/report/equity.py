"""The equity of a trial: joined over its test windows, as numbers, as a CSV file and as a picture."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from optimize.evaluate.captions import BUY_AND_HOLD, BUY_AND_HOLD_OVERNIGHT, baseline_label
from optimize.evaluate.drawdowns import SessionLevels
from optimize.evaluate.summary import WindowResult, joined_levels
from optimize.report.format import MINUS
from optimize.results.records import BaselineRecord, WindowRecord
from optimize.walkforward.files import find_returns

LOGARITHMIC_FROM = 3.0  # factor between the highest and the lowest equity of a figure
SIZE_INCHES, DOTS_PER_INCH = (7.2, 4.3), 130
TRIAL_COLOR, HOLD_COLOR, INK, FAINT = "#1f5fa8", "#9a6a2f", "#333333", "#d9d9d9"
# Line style and color of each curve of buy-and-hold.
HOLDS = {
    BUY_AND_HOLD: ((0, ()), HOLD_COLOR),
    BUY_AND_HOLD_OVERNIGHT: ((0, (2, 2)), "#5d8a3a"),
}


@dataclass(frozen=True, eq=False)
class Curve:
    """Consecutive session returns and the equity they compound to, from 1."""

    sessions: NDArray[np.datetime64]  # (S,)
    returns: NDArray[np.float64]  # (S,)
    levels: SessionLevels | None = None  # (S,) at bar closes; None: an older version measured a window

    @property
    def drawn(self) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
        """Return days and equity of the curve, from 1 on the day before the first session."""
        days = self.sessions.astype("datetime64[D]")
        return np.concatenate([days[:1] - 1, days]), np.concatenate([[1.0], self.equity])

    @property
    def equity(self) -> NDArray[np.float64]:
        """Return the equity at the end of each session."""
        return np.cumprod(1.0 + self.returns, dtype=np.float64)


def trial_curves(folder: Path, windows: Sequence[WindowRecord]) -> dict[int, Curve]:
    """Return one curve a repeat from the returns on disk, windows in order, without those that are lost."""
    parts: dict[int, list[tuple[NDArray[np.datetime64], WindowResult]]] = {}
    for window in sorted(windows, key=lambda row: (row.repeat, row.window)):
        found = None if window.returns_path is None else find_returns(folder / window.returns_path)
        if found is not None:
            parts.setdefault(window.repeat, []).append(found)
    return {
        repeat: Curve(
            np.concatenate([sessions for sessions, _ in windows_found]),
            np.concatenate([measured.returns for _, measured in windows_found]),
            joined_levels([measured for _, measured in windows_found]),
        )
        for repeat, windows_found in parts.items()
    }


def hold_curves(
    baselines: Sequence[BaselineRecord], timeframe: str, sessions: NDArray[np.datetime64]
) -> dict[str, Curve]:
    """Return the holding baselines by their label, over the sessions that a trial finished."""
    found = {}
    for row in baselines:
        if row.name in HOLDS and row.timeframe == timeframe and row.windows:
            days = [day for window in row.windows["sessions"] for day in window]
            values = [value for window in row.windows["returns"] for value in window]
            dates = np.array(days, dtype="datetime64[D]")
            shared = np.isin(dates, sessions.astype("datetime64[D]"))
            curve = Curve(dates[shared], np.array(values, dtype=np.float64)[shared])
            found[baseline_label(row.name, row.bought_anew)] = curve
    return found


def equity_axis(curves: Iterable[Curve]) -> tuple[bool, str]:
    """Return whether equity is drawn on a logarithmic axis, and the title of the axis.

    Equal growth is equally steep on it; a linear one has ticks that are easier to read.
    """
    drawn = np.concatenate([[1.0], *(curve.equity for curve in curves)])
    grows = bool(drawn.min() > 0 and drawn.max() >= LOGARITHMIC_FROM * drawn.min())
    return grows, "equity, from 1 (logarithmic)" if grows else "equity, from 1"


def write_csv(path: Path, curves: Mapping[int, Curve]) -> None:
    """Write session, equity and return, one block a repeat."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["session", "equity", "return", "repeat"])
        for repeat, curve in curves.items():
            days = curve.sessions.astype("datetime64[D]").astype(str)
            columns = (days, curve.equity.tolist(), curve.returns.tolist())
            writer.writerows((*row, repeat) for row in zip(*columns, strict=True))


def write_picture(
    path: Path,
    title: str,
    label: str,
    curves: Mapping[int, Curve],
    holds: Mapping[str, Curve],
    borders: Sequence[date],
) -> None:
    """Draw the equity of every repeat against the holding baselines; at borders a new window starts."""
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.095, 0.11, 0.875, 0.74))
    for border in borders:
        axes.axvline(
            float(date2num(border)),  # type: ignore[no-untyped-call]
            color=INK,
            linewidth=0.8,
            alpha=0.35,
            linestyle=(0, (4, 3)),
        )
    axes.axhline(1.0, color=INK, linewidth=0.8, alpha=0.5)
    for name, hold in holds.items():
        if len(hold.sessions):
            style, color = hold_style(name)
            axes.plot(
                *hold.drawn,
                color=color,
                linestyle=style,
                linewidth=1.5,
                label=_legend(name, hold),
            )
    text = _legend(label, *curves.values())
    for curve in curves.values():
        thickness = 2.0 if len(curves) == 1 else 1.2
        axes.plot(*curve.drawn, color=TRIAL_COLOR, linewidth=thickness, label=text)
        text = "_repeat"  # one entry stands for all: a leading underscore keeps a line out of the legend
    _tidy(axes, title)
    if (axis := equity_axis([*curves.values(), *holds.values()]))[0]:
        _draw_logarithmic(axes, axis[1])
    figure.savefig(path, format="png")


def _draw_logarithmic(axes: Axes, title: str) -> None:
    """Give a picture a logarithmic axis with ticks such as 0.5, 1, 2 and 5."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(title, fontsize=9, color=INK)


def hold_style(label: str) -> tuple[tuple[int, tuple[int, ...]], str]:
    """Return line style and color of a holding baseline by its label."""
    return HOLDS[BUY_AND_HOLD_OVERNIGHT if label.startswith(BUY_AND_HOLD_OVERNIGHT) else BUY_AND_HOLD]


def _tidy(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=13, color=INK, loc="left", pad=32, fontweight="bold")
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.012, 0.995), ncols=2, frameon=False, fontsize=9, labelcolor=INK,
        handlelength=1.4, columnspacing=1.4,
    )  # fmt: skip
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(labelsize=11, colors=INK, length=0)
    axes.margins(x=0.01)
    # Fewer than 9 ticks leave spans of 37 to 47 months without a fitting interval.
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _legend(name: str, *curves: Curve) -> str:
    gains = sorted(100 * (curve.equity[-1] - 1) for curve in curves)
    span = (
        f"{gains[0]:+.1f} %"
        if len(gains) == 1
        else f"{gains[0]:+.1f} to {gains[-1]:+.1f} % in {len(gains)} repeats"
    )
    return f"{name}  {span.replace('-', MINUS)}"
