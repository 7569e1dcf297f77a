"""Equity pictures of spans of every length."""

from pathlib import Path

import numpy as np
import pytest

from optimize.report.equity import Curve, write_picture


@pytest.mark.parametrize("days", [1, 20, 200, 900, 1184, 1400, 3000])
def test_dates_of_every_span_have_a_fitting_interval(tmp_path: Path, days: int) -> None:
    sessions = np.datetime64("2020-01-24", "D") + np.arange(days)
    write_picture(tmp_path / "equity.png", "title", "trial 1", {0: Curve(sessions, np.zeros(days))}, {}, [])
    assert (tmp_path / "equity.png").stat().st_size  # a missing interval is a warning, which fails the test
