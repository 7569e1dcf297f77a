"""Power of a study before its first trial: the Sharpe ratio that its sessions can detect at its cap."""

from envs.plain import to_plain
from optimize.report.verdict import planned_power_line
from optimize.results.instrument_names import instruments_of
from optimize.results.tries import count_tries
from optimize.study.context import StudyContext
from optimize.study.trials.tell import counted
from optimize.walkforward.markets import WindowedMarket


def planned_power(context: StudyContext, windowed: WindowedMarket) -> str:
    """Return the line that a launch prints: the trials to come count beside the tries made before."""
    dates = [window.dates for window in windowed.windows]
    symbols = instruments_of(to_plain(context.spec.data), windowed.market.symbols)
    with context.engine.connect() as conn:
        before = count_tries(conn, symbols, dates[0].test_start, dates[-1].test_end)
    planned = max(context.spec.n_trials - counted(context), 0)
    sessions = sum(each.test_sessions for each in dates)
    return planned_power_line(before, planned, sessions, windowed.market.sessions_per_year)
