"""The selection walk-forward of a stored study: measured after each launch, read by the leaderboard."""

from optimize.database import Connection
from optimize.report.format import format_score
from optimize.results.event_log import last_event, log_event
from optimize.results.events import SelectionMeasured
from optimize.results.records import StudyRecord
from optimize.results.runs import count_counted
from optimize.results.study_views import ERRORS, LEARNING_SAMPLERS, SEARCH_PHASE


def measure_selection(
    conn: Connection, record: StudyRecord, sessions_per_year: float
) -> SelectionMeasured | None:
    """Measure it from the stored session returns; None where an older version kept them in files alone."""
    from optimize.evaluate.selection import SelectionRule, selection_walk_forward  # loads numpy
    from optimize.results.returns import load_returns

    trials, found = count_counted(conn, record.study_name), load_returns(conn, record.study_name)
    if found is None:
        return None
    rule = SelectionRule(
        kind=record.score["kind"],
        risk_free=record.score["risk_free"],
        k=record.score["k"],
        min_trades=record.score["min_trades"],
        min_volatility=record.score["min_volatility"],
    )
    measured = selection_walk_forward(
        returns=found.returns,
        window=found.window,
        trades=found.trades,
        parameter_set=found.parameter_set,
        rule=rule,
        sessions_per_year=sessions_per_year,
        gated=found.gated,
    )
    if measured is None:
        return SelectionMeasured(trials, sessions=0)
    return SelectionMeasured(
        trials, measured.sessions, measured.sharpe, measured.standard_error, measured.random_choice
    )


def record_selection(conn: Connection, record: StudyRecord, sessions_per_year: float) -> None:
    """Measure and store it unless that was done for as many trials."""
    if _stored(conn, record) is not None:
        return
    measured = measure_selection(conn, record, sessions_per_year)
    if measured is not None:
        log_event(conn, record.study_name, selection_line(measured, record), measured)


def selection_now(
    conn: Connection, record: StudyRecord, sessions_per_year: float | None
) -> SelectionMeasured | None:
    """Return the stored one if no trial has ended since, else measure it; None where neither can be."""
    stored = _stored(conn, record)
    if stored is not None or sessions_per_year is None:
        return stored
    return measure_selection(conn, record, sessions_per_year)


def _stored(conn: Connection, record: StudyRecord) -> SelectionMeasured | None:
    """Return the stored one, None where a trial has ended since."""
    stored = last_event(conn, [record.study_name], [SelectionMeasured])
    fresh = stored is not None and stored.event.trials == count_counted(conn, record.study_name)
    return stored.event if stored is not None and fresh else None


def selection_line(found: SelectionMeasured, record: StudyRecord) -> str:
    """Return the line of a leaderboard, with the reasons for which its number is too good."""
    if not found.sessions:
        return "selection walk-forward: no trial could be chosen by the windows before"
    error = found.standard_error
    interval = ""
    if found.sharpe is not None and error is not None:
        low, high = found.sharpe - ERRORS * error, found.sharpe + ERRORS * error
        interval = f", 95 % interval {format_score(low)} to {format_score(high)}"
    line = (
        f"selection walk-forward: choosing the trial of each window by the windows before it earned a Sharpe "
        f"ratio of {format_score(found.sharpe)} ({found.sessions} sessions{interval}); a trial drawn at "
        f"random: {format_score(found.random_choice)}"
    )
    reasons = []
    if (sampler := record.spec["sampler"]["name"]) in LEARNING_SAMPLERS:
        reasons.append(f"the sampler {sampler} has seen the scores of all windows")
    if record.phase == SEARCH_PHASE:
        reasons.append("so has phase 1" if reasons else "phase 1 has seen the scores of all windows")
    if record.spec.get("search", {}).get("enqueue"):
        reasons.append("the sets of search.enqueue may have been chosen by earlier results on these dates")
    if (earlier := record.spec.get("search", {}).get("start_from")) is not None:
        reasons.append(f"the sets of {earlier} were chosen by the scores of all of its windows")
    return f"{line}; optimistic: {', and '.join(reasons)}" if reasons else line
