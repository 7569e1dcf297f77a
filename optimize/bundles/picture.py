"""The picture of a bundle: the equity of every repeat beside buy-and-hold."""

from pathlib import Path

import numpy as np

from optimize.bundles.inputs import BundleInputs, label_of
from optimize.bundles.titles import title_of
from optimize.evaluate.captions import BUY_AND_HOLD, BUY_AND_HOLD_OVERNIGHT
from optimize.report.equity import Curve, write_picture


def draw_equity(path: Path, inputs: BundleInputs) -> None:
    """Draw the equity of every repeat, joined over the windows, beside buy-and-hold."""
    dates = inputs.windowed.market.session_date
    sessions = np.concatenate([dates[slice(*window.test_sessions)] for window in inputs.windowed.windows])
    curves = {
        repeat: Curve(sessions, np.concatenate([window.returns for window in row]))
        for repeat, row in enumerate(inputs.measured)
    }
    holds = {
        label_of(each): Curve(sessions, np.concatenate(each.returns))
        for each in inputs.baselines
        if each.name in (BUY_AND_HOLD, BUY_AND_HOLD_OVERNIGHT)
    }
    borders = [window.dates.test_start for window in inputs.windowed.windows[1:]]
    title = f"{inputs.run.study_name}, {title_of(inputs.run)}: net equity out of sample"
    write_picture(path, title, title_of(inputs.run), curves, holds, borders)
