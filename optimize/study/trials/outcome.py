"""Records of a run: the rows of its windows and, at its end, its state, score and metrics."""

import dataclasses
from collections.abc import Sequence

from envs.types import Market
from optimize.evaluate.captions import BUY_AND_HOLD
from optimize.evaluate.summary import WindowResult, summarise
from optimize.evaluate.windows import Window, train_start
from optimize.results.records import SCORE_ERROR, BaselineRecord, Outcome, WindowRecord
from optimize.results.states import RunState
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import TrialResult
from optimize.walkforward.spec import RunSpec


def window_record(
    run_uuid: str, market: Market, window: Window, repeat: int, measured: WindowResult, returns_path: str
) -> WindowRecord:
    """Return the row of one finished window."""
    dates, metrics = window.dates, dataclasses.asdict(measured.metrics)
    same = {f.name for f in dataclasses.fields(WindowRecord)} & metrics.keys()
    return WindowRecord(
        run_uuid=run_uuid,
        window=window.index,
        repeat=repeat,
        train_start=train_start(window, market),
        train_end=dates.train_end,
        test_start=dates.test_start,
        test_end=dates.test_end,
        train_bars=window.train_last - window.train_first + 1,
        test_bars=metrics["bars"],
        seconds=measured.seconds,
        returns_path=returns_path,
        reward_active_share=measured.reward_active_share,
        **{name: metrics[name] for name in same},
    )


def outcome_of(
    spec: RunSpec,
    windowed: WindowedMarket,
    result: TrialResult,
    seconds: float,
    baselines: Sequence[BaselineRecord],
) -> Outcome:
    """Return COMPLETE for a finite, feasible score of all windows, else PRUNED with its reason.

    The reason of a run that a pruner stopped is left to the caller, which knows the pruner.
    """
    year, risk_free = windowed.market.sessions_per_year, spec.score.risk_free
    metrics: dict[str, float | None] = {**summarise(result.measured, year, risk_free)}
    timeframe = spec.data.target
    hold = [b.score for b in baselines if b.timeframe == timeframe and b.name == BUY_AND_HOLD]
    metrics["buy_and_hold"] = hold[0] if hold else None
    metrics["sessions_per_year"] = windowed.market.sessions_per_year
    metrics[SCORE_ERROR] = result.score.standard_error
    outcome = Outcome(RunState.PRUNED, seconds, standard_error=result.score.standard_error, metrics=metrics)
    if result.pruned_at is not None:
        return outcome
    if not result.score.feasible:
        return dataclasses.replace(outcome, reason=result.score.reason)
    return dataclasses.replace(outcome, state=RunState.COMPLETE, score=result.score.value)
