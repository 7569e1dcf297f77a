"""The linear probe before any search: an inner walk-forward that ends where the first test window begins."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from optimize.data.features.groups import column_groups
from optimize.data.features.spec import GROUPS, FeatureSpec
from optimize.errors import BadInputError
from optimize.evaluate.metrics import sharpe_error
from optimize.evaluate.windows import WindowPlan, WindowSpec, place_windows, plan_windows
from optimize.walkforward.forecasters import NO_FORECAST
from optimize.walkforward.markets import WindowedMarket, build_windowed_market
from optimize.walkforward.probe import evaluate_probe
from optimize.walkforward.spec import RunSpec, at_timeframe

# Expanding windows inside the first train span; their test spans cover two thirds of it.
INNER = WindowSpec(kind="expanding", count=4, train_ratio=2.0, holdout_share=0.0)
INTERVAL_ERRORS = 1.96  # standard errors on either side, of a 95 % interval
DETECTABLE = 1.645 + 0.842  # standard errors that a one-sided test at 5 % finds in 80 % of cases


@dataclass(frozen=True)
class Inputs:
    """A timeframe, a lookback and groups of columns; no group stands for all columns."""

    timeframe: str
    lookback: int
    groups: tuple[str, ...] = ()

    @property
    def group_words(self) -> str:
        """Return the groups as text."""
        return ", ".join(self.groups) or "all"


@dataclass(frozen=True)
class InnerProbe:
    """The probe on some inputs over the inner test windows; Sharpe ratios are annualised."""

    inputs: Inputs
    sessions: int = 0
    sharpe: float | None = None  # net of costs; 0 where it stayed flat
    standard_error: float | None = None  # None: it stayed flat
    gross: float | None = None  # of the same actions without costs
    cost: float | None = None  # sum over the windows, in units of starting equity
    reason: str | None = None  # why it was not measured

    @property
    def low(self) -> float | None:
        """Return the lower bound of the 95 % interval of the net Sharpe ratio."""
        return None if self.sharpe is None else self.sharpe - INTERVAL_ERRORS * (self.standard_error or 0.0)

    @property
    def high(self) -> float | None:
        """Return the upper bound of the 95 % interval of the net Sharpe ratio."""
        return None if self.sharpe is None else self.sharpe + INTERVAL_ERRORS * (self.standard_error or 0.0)

    @property
    def detectable(self) -> float | None:
        """Return the Sharpe ratio that these sessions show in 80 % of cases."""
        return None if self.standard_error is None else DETECTABLE * self.standard_error

    @property
    def eaten(self) -> float | None:
        """Return the Sharpe ratio that costs take."""
        return None if self.gross is None or self.sharpe is None else self.gross - self.sharpe

    @property
    def hopeless(self) -> bool:
        """Return whether even the upper bound of the net Sharpe ratio is not above 0; unmeasured: unknown."""
        return self.high is not None and self.high <= 0


def probe_inputs(spec: RunSpec, inputs: Iterable[Inputs], cache_dir: Path | None) -> Iterator[InnerProbe]:
    """Measure the probe on each of the inputs, on bars before the first test window of the spec alone."""
    for each in inputs:
        try:
            own = with_inputs(spec, each)
            inner = inner_windows(build_windowed_market(own, cache_dir), own)
        except BadInputError as error:  # such as too few bars at this timeframe: the table names the reason
            yield InnerProbe(each, reason=str(error))
            continue
        yield _measure(own, each, inner)


def with_inputs(spec: RunSpec, inputs: Inputs) -> RunSpec:
    """Return the spec with the timeframe, lookback and groups of these inputs, and all of their columns."""
    data = replace(spec.data, timeframe=inputs.timeframe)
    feature = replace(
        spec.feature, lookback=inputs.lookback, select=0, forecast=NO_FORECAST, forecast_alone=False
    )
    if inputs.groups:
        feature = replace(feature, groups=list(inputs.groups))
    return at_timeframe(replace(spec, data=data, feature=feature), spec.data.target)


def inner_windows(windowed: WindowedMarket, spec: RunSpec) -> WindowedMarket:
    """Return the market with windows inside the train span of its first window."""
    market, first = windowed.market, windowed.windows[0]
    begin = int(market.session[first.train_first])
    end = int(np.searchsorted(market.session_date, np.datetime64(first.dates.train_end)))
    plan: WindowPlan = plan_windows(INNER, market.session_date[begin:end])
    history = spec.feature.history
    placed = place_windows(plan, market, purge_bars=first.purge_bars, lookback=history, spec=INNER)
    return WindowedMarket(market, plan, placed)


def _measure(spec: RunSpec, inputs: Inputs, inner: WindowedMarket) -> InnerProbe:
    found = evaluate_probe(spec, inner).baseline
    year = inner.market.sessions_per_year
    returns = np.concatenate(found.returns)
    if not returns.any():
        return InnerProbe(inputs, len(returns), sharpe=0.0, gross=0.0, cost=0.0)
    error = sharpe_error(returns - spec.score.risk_free / year, year)
    if found.sharpe is None or not np.isfinite(error):
        return InnerProbe(inputs, len(returns), reason="its returns have no Sharpe ratio")
    return InnerProbe(inputs, len(returns), found.sharpe, error, found.sharpe_zero_cost, found.cost)


def choices_of_inputs(
    timeframes: Sequence[str], lookbacks: Sequence[int], feature: FeatureSpec, groups: bool
) -> list[Inputs]:
    """Return every timeframe x lookback, with all columns and, if asked for, with each group alone."""
    known = set(column_groups(feature).values())
    chosen = [group for group in GROUPS if group in (set(feature.groups) or known) & known]
    options = [(), *((group,) for group in chosen)] if groups and len(chosen) > 1 else [()]
    return [Inputs(*each) for each in product(timeframes, lookbacks, options)]
