"""The Sharpe ratio that a search itself earned, in words: nested walk-forward and selection walk-forward."""

from optimize.database import Connection
from optimize.report.format import format_score, percent
from optimize.report.selection import selection_line, selection_now
from optimize.results.event_log import last_event
from optimize.results.events import NestedMeasured, OuterWindowTraded
from optimize.results.records import StudyRecord
from optimize.results.study_views import ERRORS


def outer_line(traded: OuterWindowTraded) -> str:
    """Return the result of one outer window."""
    where = f"outer window {traded.window}, {traded.test_start} to {traded.test_end}"
    if traded.trader is None:
        nobody = "no finalist of {} can be exported" if traded.finalists else "no trial of {} has a score"
        return f"{where}: {nobody.format(traded.inner)}, so nothing was traded"
    best = f"the best of {traded.trials} trials before it (score {format_score(traded.score)})"
    if traded.finalists:
        fresh = format_score(traded.score)
        best = f"the best finalist of {traded.trials} trials before it (fresh score {fresh})"
    return (
        f"{where}: {best} earned a Sharpe ratio of {format_score(traded.sharpe)} ({traded.sessions} sessions)"
    )


def nested_line(found: NestedMeasured) -> str:
    """Return the joined result, for a leaderboard."""
    interval = ""
    if found.sharpe is not None and found.standard_error is not None:
        low, high = (found.sharpe + side * ERRORS * found.standard_error for side in (-1, 1))
        interval = f", 95 % interval {format_score(low)} to {format_score(high)}"
    hindsight = ""
    if found.given_sets:
        hindsight = (
            "; optimistic: the sets of search.enqueue may have been chosen by results in these windows"
        )
    best = f"best of {found.finalists} finalists on {found.seeds} seeds" if found.finalists else "best trial"
    return (
        f"nested walk-forward: a study of {found.n_trials} trials before each of {found.windows} windows, "
        f"whose {best} trades the window, earned a Sharpe ratio of {format_score(found.sharpe)} "
        f"({found.sessions} sessions, return {percent(found.growth)}{interval}){hindsight}"
    )


def stored_nested(conn: Connection, study: str) -> NestedMeasured | None:
    """Return the newest nested walk-forward of a study, None without one."""
    stored = last_event(conn, [study], [NestedMeasured])
    return None if stored is None else stored.event


def earned_lines(conn: Connection, record: StudyRecord, sessions_per_year: float | None) -> list[str]:
    """Return the lines of both, without one that was not measured."""
    selection = selection_now(conn, record, sessions_per_year)
    nested = stored_nested(conn, record.study_name)
    lines = [] if selection is None else [selection_line(selection, record)]
    return lines if nested is None else [*lines, nested_line(nested)]
