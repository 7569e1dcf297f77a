"""Power of a study before its first trial: the Sharpe ratio that its sessions can detect at its cap."""

from envs.plain import to_plain
from optimize.report.verdict import planned_power_line
from optimize.results.instrument_names import instruments_of
from optimize.results.runs import count_counted
from optimize.results.tries import count_tries
from optimize.search.spec import MODEL_PHASE, TIMEFRAME_PHASE
from optimize.study.context import StudyContext
from optimize.study.trials.tell import counted
from optimize.walkforward.markets import WindowedMarket


def planned_power(context: StudyContext, windowed: WindowedMarket, model_trials: int = 0) -> str:
    """Return the line that a launch prints: the trials to come count beside the tries made before.

    model_trials: cap of the model phase that follows a timeframe phase.
    """
    spec, dates = context.spec, [window.dates for window in windowed.windows]
    symbols = instruments_of(to_plain(spec.data), windowed.market.symbols)
    model = f"{spec.name.removesuffix(f'.{TIMEFRAME_PHASE}')}.{MODEL_PHASE}"
    with context.engine.connect() as conn:
        before = count_tries(conn, symbols, dates[0].test_start, dates[-1].test_end)
        to_come = max(model_trials - count_counted(conn, model), 0) if model_trials else 0
    planned = max(spec.n_trials - counted(context), 0) + to_come
    sessions = sum(each.test_sessions for each in dates)
    return planned_power_line(before, planned, sessions, windowed.market.sessions_per_year)
