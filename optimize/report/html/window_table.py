"""The table of the windows of a trial, with the validation of its trainings where they have one."""

from collections.abc import Sequence

from optimize.report.early_stopping import VALIDATION, choice_of_weights, has_validation, train_settings
from optimize.report.format import format_score, number, percent, share
from optimize.report.html.page import paragraph, table_html
from optimize.report.tables import FIGURES, IN_SAMPLE
from optimize.results.records import RunRecord, WindowRecord

HEADER = (
    "window", "repeat", "from", "to", "Sharpe", "in-sample Sharpe", "zero-cost Sharpe", "return",
    "drawdown (sessions)", "drawdown (bars)", "trades", "cost", "exposure", "trained from", "to",
)  # fmt: skip
OF_VALIDATION = ("validation Sharpe", "steps trained")


def window_table(run: RunRecord, windows: Sequence[WindowRecord]) -> str:
    """Return the windows of a run, one a row."""
    validated = has_validation(run, windows)
    rows = [[*_cells(row), *(_of_validation(row) if validated else ())] for row in windows]
    notes = f"{FIGURES}; {IN_SAMPLE}{f'; {VALIDATION}' if validated else ''}."
    chosen = paragraph(choice_of_weights(train_settings(run))) if validated else ""
    header = [*HEADER, *(OF_VALIDATION if validated else ())]
    return table_html(header, rows, left=2) + paragraph(notes) + chosen


def _cells(row: WindowRecord) -> list[str]:
    return [
        str(row.window),
        str(row.repeat),
        str(row.test_start),
        str(row.test_end),
        format_score(row.sharpe),
        format_score(row.sharpe_in_sample),
        format_score(row.sharpe_zero_cost),
        percent(row.total_return),
        percent(row.max_drawdown),
        percent(row.max_drawdown_bars),
        number(0)(row.trades),
        share(row.cost),
        number()(row.exposure),
        str(row.train_start),
        str(row.train_end),
    ]


def _of_validation(row: WindowRecord) -> list[str]:
    return [format_score(row.sharpe_validation), number(0)(row.trained_steps)]
