"""Features that read the future, caught by computing them again on bars that end earlier."""

import numpy as np

from optimize.data.bars import Bars, select_rows, utc_text
from optimize.data.features.compute import compute
from optimize.data.sessions import SessionTable
from optimize.data.spec import FeatureSpec
from optimize.errors import BadInputError

MOST_BARS = 20_000  # that are computed again; the newest of them
CUTS = (0.55, 0.7, 0.85, 0.97)  # of the rows after the warm-up: where the bars end
ROWS = 50  # before each cut that are compared
TOLERANCE = 1e-5  # relative; sums may be taken in another order


def refuse_leaks(bars: Bars, spec: FeatureSpec, table: SessionTable) -> None:
    """Raise BadInputError for the first column whose past changes when later bars are left out."""
    recent = select_rows(bars, np.arange(bars.n_bars) >= bars.n_bars - MOST_BARS)
    whole, columns, settled = compute(recent, spec, table)
    usable = recent.n_bars - settled
    for cut in sorted({settled + int(share * usable) for share in CUTS}):
        rows = np.arange(recent.n_bars)
        part, _, first = compute(select_rows(recent, rows < cut), spec, table)
        begin = max(settled, first, cut - ROWS)
        now, then = whole[begin:cut], part[begin:cut]
        differs = ~np.isclose(now, then, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
        if differs.any():
            row, asset, column = np.argwhere(differs)[0]
            at, end = (utc_text(recent.timestamp[each]) for each in (begin + row, cut))
            raise BadInputError(
                f"feature {columns[column]!r} reads the future: at {at} of {recent.symbols[asset]} "
                f"it is {now[row, asset, column]:.6g} with all bars, but {then[row, asset, column]:.6g} when "
                f"the bars end before {end}: compute it of bars up to its own, or take it out of "
                "feature.indicators"
            )
