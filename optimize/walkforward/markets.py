"""A market with the windows of a walk-forward placed on it, checked before anything is trained."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.cost_kernels import check_spread
from envs.episodes import session_spans
from envs.fields import MARKET
from envs.plain import part_of
from envs.types import Market
from optimize.agents.budget import check_budget, check_checkpoints
from optimize.agents.registry import find_algorithm
from optimize.agents.spec import AgentSpec
from optimize.data.cache import cached_market
from optimize.data.features import check_groups
from optimize.data.features.registry import foreign_code
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market
from optimize.errors import BadInputError
from optimize.evaluate.score import check_periods
from optimize.evaluate.windows import Window, WindowPlan, place_windows, plan_windows, purge_bars
from optimize.extensions import load_extensions
from optimize.walkforward.representation import Representation, fit_representation
from optimize.walkforward.spec import RunSpec, agent_of_window
from optimize.walkforward.validation import check_train_span, train_span_of


@dataclass(frozen=True, eq=False)
class WindowedMarket:
    """Market and windows shared by all trials of one timeframe and lookback."""

    market: Market
    plan: WindowPlan
    windows: tuple[Window, ...]


def build_windowed_market(spec: RunSpec, cache_dir: Path | None) -> WindowedMarket:
    """Build (or map) the market and place every window on it; raise BadInputError where one does not fit."""
    windowed = _place(spec, cache_dir)
    check_fit(spec, windowed)
    return windowed


def shared_market(
    spec: RunSpec, markets: dict[str, WindowedMarket], cache_dir: Path | None
) -> WindowedMarket:
    """Return the market and windows of a spec, built once for all specs that need the same."""
    key = market_key(spec)
    if key not in markets:
        markets[key] = _place(spec, cache_dir)
    check_fit(spec, markets[key])
    return markets[key]


def market_key(spec: RunSpec) -> str:
    """Return a text that is equal for two specs exactly where they share one market with its windows."""
    load_extensions(spec.extensions)
    feature = (part_of(spec.feature, MARKET), spec.feature.history)  # other keys choose among its columns
    parts = (spec.data, spec.session, feature, spec.window, spec.score)
    return repr((parts, _purge_bars(spec), sorted(foreign_code(spec.feature.indicators).items())))


def _place(spec: RunSpec, cache_dir: Path | None) -> WindowedMarket:
    load_extensions(spec.extensions)
    parts = (spec.data, spec.feature, spec.session)
    market = build_market(*parts) if cache_dir is None else cached_market(*parts, cache_dir)
    plan = plan_windows(spec.window, market.session_date)
    check_periods(spec.score, plan)
    history, purge = spec.feature.history, _purge_bars(spec)
    windows = place_windows(plan, market, purge_bars=purge, lookback=history, spec=spec.window)
    return WindowedMarket(market, plan, windows)


def _purge_bars(spec: RunSpec) -> int:
    return purge_bars(spec.env.fill, target_horizon(spec.agent))


def check_fit(spec: RunSpec, windowed: WindowedMarket) -> None:
    """Refuse costs and an environment that this market cannot have."""
    check_groups(spec.feature)
    check_spread(spec.cost, windowed.market)
    spec.env.check_assets(windowed.market.n_assets)
    for window in windowed.windows:
        split = train_span_of(spec, windowed.market, window)
        check_train_span(spec, windowed.market, split, f"window {window.index}")
        agent = agent_of_window(spec, split.learned[1] - split.learned[0] + 1)
        if spec.train.passes is not None:
            check_budget(agent)
        check_checkpoints(agent, spec.train)
    if spec.env.episode == "session":
        _check_whole_sessions(spec, windowed.market, windowed.windows)


def _check_whole_sessions(spec: RunSpec, market: Market, windows: Sequence[Window]) -> None:
    """Refuse train spans without a whole session to draw as an episode."""
    for window in windows:
        try:
            session_spans(market.session, *train_span_of(spec, market, window).learned)
        except BadInputError as error:
            raise BadInputError(
                f"env.episode='session' is not allowed in window {window.index} at "
                f"data.timeframe={market.timeframe}: {error}, or env.episode=bars"
            ) from None


def target_horizon(agent: AgentSpec) -> int:
    """Return how many bars ahead a training target looks: 1, or n for n-step returns."""
    if find_algorithm(agent.name).on_policy:
        return 1
    return int(agent.hyperparameters.get("n_steps", 1))


def fit_to_window(spec: RunSpec, windowed: WindowedMarket, window: Window) -> tuple[Representation, Market]:
    """Return the representation fitted on the train span of a window, and the market as the agent sees it."""
    return _fit_to_window(windowed, window, spec.feature, spec.env.fill == "open")


@functools.lru_cache(maxsize=1)  # all repeats of a window share one scaled market
def _fit_to_window(
    windowed: WindowedMarket, window: Window, feature: FeatureSpec, at_open: bool
) -> tuple[Representation, Market]:
    found = _fit(windowed, window, feature, at_open)
    return found, observe_window(windowed, window, found, feature)


@functools.lru_cache(maxsize=32)  # small, and wanted again by the linear probe and by the next trials
def _fit(windowed: WindowedMarket, window: Window, feature: FeatureSpec, at_open: bool) -> Representation:
    span = (window.train_first, window.train_last)
    return fit_representation(windowed.market, *span, feature, at_open=at_open)


def observe_window(
    windowed: WindowedMarket, window: Window, representation: Representation, feature: FeatureSpec
) -> Market:
    """Return the market as the agent sees it over the bars that this window can observe."""
    first = max(0, window.train_first - feature.history + 1)
    return representation.observe(windowed.market, first, window.test_last + 1)
