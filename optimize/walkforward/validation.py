"""The validation tail of a train span, and the Sharpe ratio of a policy on a part of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from envs.policy import Policy
from envs.types import Market
from optimize.agents.agent import Agent
from optimize.errors import BadInputError
from optimize.evaluate.metrics import returns_of_parts, sharpe_ratio
from optimize.evaluate.rollout import rollout
from optimize.evaluate.windows import Window, parts_of_sessions
from optimize.walkforward.spec import RunSpec

Span = tuple[int, int]  # first and last bar, both included


class TrainSpan(NamedTuple):
    """The bars that an agent learns from and, after a purge, those of its validation tail."""

    learned: Span
    tail: Span | None
    sessions: int = 0  # of the tail


def split_train_span(spec: RunSpec, market: Market, span: Span, purge_bars: int) -> TrainSpan:
    """Cut the validation tail from a purged train span between two sessions, purged like a test span."""
    if not spec.train.validation:
        return TrainSpan(span, None)
    first, last = span
    begin, end = int(market.session[first]), int(market.session[last]) + 1
    sessions = round(spec.train.validation * (end - begin))
    cut = int(np.searchsorted(market.session, end - sessions))
    return TrainSpan((first, cut - 1 - purge_bars), (cut, last), sessions)


def check_train_span(spec: RunSpec, market: Market, split: TrainSpan, where: str) -> None:
    """Refuse a validation tail too short for its Sharpe ratio, or one that leaves too little to learn from.

    `where` names the window.
    """
    if split.tail is None:
        return
    key = f"train.validation={spec.train.validation} in {where} at data.timeframe={market.timeframe}"
    if split.sessions < max(spec.score.min_periods, 2):
        raise BadInputError(
            f"{key} is a tail of {split.sessions} sessions, and its Sharpe ratio needs score.min_periods="
            f"{spec.score.min_periods}: raise train.validation, lower score.min_periods or use a longer span "
            "of data (data.months)"
        )
    bars = max(split.learned[1] - split.learned[0] + 1, 0)
    if bars < spec.window.min_train_bars:
        raise BadInputError(
            f"{key} leaves {bars} bars to learn from, and window.min_train_bars is "
            f"{spec.window.min_train_bars}: lower train.validation or use a longer span of data (data.months)"
        )


def train_span_of(spec: RunSpec, market: Market, window: Window) -> TrainSpan:
    """Return the bars that the agent of a window learns from, and its validation tail."""
    return split_train_span(spec, market, (window.train_first, window.train_last), window.purge_bars)


def validation_of(spec: RunSpec, market: Market, split: TrainSpan) -> Callable[[Agent], float] | None:
    """Return the function that measures an agent on the tail of an observed market, None without a tail."""
    if split.tail is None:
        return None
    tail = parts_of_sessions(market, *split.tail, 1)
    return lambda agent: sharpe_on(spec, market, agent, tail)


def sharpe_on(spec: RunSpec, market: Market, policy: Policy, parts: Sequence[tuple[Span, Span]]) -> float:
    """Return the net Sharpe ratio of a policy on (bars, sessions) of parts of a span, NaN where undefined."""
    played = rollout(
        policy,
        market,
        [bars for bars, _ in parts],
        env=spec.env,
        cost=spec.cost,
        reward=spec.reward,
        lookback=spec.feature.lookback,
    )
    returns = returns_of_parts(market, played, parts)
    return sharpe_ratio(np.concatenate(returns), market.sessions_per_year, spec.score.risk_free)
