"""Run a nested walk-forward: for each outer window a study on the bars before it, then its trade."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from envs.types import FloatArray
from optimize.database import Connection, Engine, open_engine
from optimize.errors import StudyStoppedError
from optimize.evaluate.metrics import sharpe_error, sharpe_ratio
from optimize.evaluate.windows import WindowDates, WindowPlan
from optimize.report.nested import nested_line, outer_line
from optimize.results.event_log import events, log_event
from optimize.results.events import NestedMeasured, OuterWindowTraded
from optimize.results.finalists import Finalist
from optimize.results.queries import best_models
from optimize.results.records import RunRecord
from optimize.results.returns import load_returns
from optimize.results.runs import count_counted, load_run, parameter_set, run_of_trial
from optimize.results.study_names import trade_name
from optimize.study.context import cache_dir
from optimize.study.nested.plan import inner_study, outer_windows, trading_study
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import WindowedMarket, build_windowed_market

_Launch = Callable[[StudySpec], str]  # run a study to its cap, return the name of its results
_Rank = Callable[[str], list[Finalist]]  # retrain the best of a study, return the ranked finalists
_Echo = Callable[[str], None]


@dataclass(frozen=True)
class Outer:
    """Settings, market and engine that all outer windows of one nested walk-forward share."""

    spec: StudySpec
    stored_as: str  # the study whose boards show the result
    plan: WindowPlan
    first: str  # date of the first session
    sessions_per_year: float
    launch: _Launch
    rank: _Rank

    @property
    def rule(self) -> tuple[int, int, int]:
        """Return the cap, finalists and seeds of each study before a window, which choose its winner."""
        finalists = self.spec.nested_finalists
        return self.spec.n_trials, finalists, self.spec.nested_seeds if finalists else 0


def run_nested(
    spec: StudySpec, stored_as: str, windowed: WindowedMarket, launch: _Launch, rank: _Rank, echo: _Echo
) -> None:
    """Trade every outer window by the winner of a study on the bars before it; store the joined result.

    The winner is the one that an export would take: the best finalist where the study asks for finalists.

    A window that was traded at the same cap is not run again, and studies that were begun go on.
    """
    first = str(windowed.market.session_date[0])  # the first bar comes later, once the features have settled
    outer = Outer(spec, stored_as, windowed.plan, first, windowed.market.sessions_per_year, launch, rank)
    engine = open_engine(spec.database.url, busy_timeout_s=spec.database.busy_timeout_s)
    try:
        traded = [_trade(outer, window, engine, echo) for window in outer_windows(spec, windowed.plan)]
        with engine.begin() as conn:
            measured = _join(conn, outer, traded)
            line = nested_line(measured)
            log_event(conn, stored_as, line, measured)
        echo(f"{spec.name}: {line}")
    finally:
        engine.dispose()


def base_market(spec: StudySpec) -> WindowedMarket:
    """Return the market and windows of a study at its own timeframe and lookback."""
    return build_windowed_market(spec, cache_dir(spec))


def _trade(outer: Outer, window: WindowDates, engine: Engine, echo: _Echo) -> OuterWindowTraded:
    """Run the study before a window and trade the window, unless that was done by the same rule."""
    spec = outer.spec
    with engine.connect() as conn:
        for each in events(conn, outer.stored_as, OuterWindowTraded):
            done = each.event
            if (done.window, done.n_trials, done.finalists, done.seeds) == (window.index, *outer.rule):
                return done
    echo(
        f"{spec.name}: outer window {window.index}, {window.test_start} to {window.test_end}: "
        "the study on the bars before it"
    )
    inner = outer.launch(inner_study(spec, outer.plan, window, outer.first))
    run, score = _winner(outer, inner, engine)
    trader, returns = None, np.zeros(window.test_sessions)
    if run is not None:
        of_set = parameter_set(run.parameters)
        trader = trade_name(spec.name, window.index, of_set)
        outer.launch(trading_study(spec, run.spec, of_set, window, outer.first))
        returns = _returns(engine, trader)
    with engine.begin() as conn:
        event = OuterWindowTraded(
            window=window.index,
            n_trials=spec.n_trials,
            test_start=window.test_start.isoformat(),
            test_end=window.test_end.isoformat(),
            sessions=len(returns),
            inner=inner,
            trials=count_counted(conn, inner),
            score=score,
            sharpe=_finite(sharpe_ratio(returns, outer.sessions_per_year, spec.score.risk_free)),
            growth=float(np.prod(1.0 + returns) - 1.0),
            trader=trader,
            parameters=dict(run.parameters) if run is not None else None,
            finalists=outer.rule[1],
            seeds=outer.rule[2],
        )
        line = outer_line(event)
        log_event(conn, outer.stored_as, line, event)
    echo(f"{spec.name}: {line}")
    return event


def _winner(outer: Outer, inner: str, engine: Engine) -> tuple[RunRecord | None, float | None]:
    """Return the search's run of the winner of a study, and its score; None without a winner."""
    if outer.spec.nested_finalists and best_models(engine, inner, 1):
        ranked = outer.rank(inner)
        best = next((each for each in ranked if each.gate is None and each.run_uuid is not None), None)
        with engine.connect() as conn:
            run = None if best is None else run_of_trial(conn, inner, best.trial_number)
        return run, None if best is None else best.fresh_score
    rows = best_models(engine, inner, 1)
    with engine.connect() as conn:
        run = None if not rows or rows[0].run_uuid is None else load_run(conn, rows[0].run_uuid)
    return run, rows[0].score if rows else None


def _returns(engine: Engine, trader: str) -> FloatArray:
    """Return the session returns of a trade; raise StudyStoppedError where it failed."""
    with engine.connect() as conn:
        found = load_returns(conn, trader)
    if found is None or not np.isfinite(found.returns[0, 0]).all():
        raise StudyStoppedError(
            f"study {trader!r}, which trades an outer window, has no returns: `walkforge status "
            f"name={trader} failures=true` lists the failure"
        )
    return np.asarray(found.returns[0, 0])


def _join(conn: Connection, outer: Outer, traded: list[OuterWindowTraded]) -> NestedMeasured:
    """Return the result of all traded windows, joined in order of time."""
    parts = []
    for each in traded:
        found = None if each.trader is None else load_returns(conn, each.trader)
        parts.append(np.zeros(each.sessions) if found is None else found.returns[0, 0])
    joined, year = np.concatenate(parts), outer.sessions_per_year
    rate = outer.spec.score.risk_free
    return NestedMeasured(
        n_trials=outer.spec.n_trials,
        windows=len(traded),
        sessions=len(joined),
        trials=sum(each.trials for each in traded),
        sharpe=_finite(sharpe_ratio(joined, year, rate)),
        standard_error=_finite(sharpe_error(joined - rate / year, year)),
        growth=float(np.prod(1.0 + joined) - 1.0),
        finalists=outer.rule[1],
        seeds=outer.rule[2],
        given_sets=len(outer.spec.search.enqueue),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
