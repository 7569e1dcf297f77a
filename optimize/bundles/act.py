"""The next order of a bundle from raw bars, decided in the environment of the evaluation."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.episodes import SequentialEpisodes
from envs.observations import write_observations
from envs.types import BoolArray, FloatArray, Market
from envs.vector import TradingVectorEnv
from optimize.agents.agent import Agent
from optimize.bundles.closes import check_same_assets, read_closes
from optimize.bundles.reasons import NO_BAR, closing_words, reason_of, span_words
from optimize.bundles.spans import Spans
from optimize.clock import now
from optimize.data.bars import Bars, select_rows, utc_text
from optimize.data.market import bars_at, market_of
from optimize.data.quality.calendar_fit import resolve_calendar
from optimize.data.quality.findings import share_text
from optimize.data.quality.hours import MAJORITY_OUTSIDE
from optimize.data.quality.sessions import outside_sessions
from optimize.data.session_closes import closes_of
from optimize.data.sessions import (
    AROUND_THE_CLOCK,
    SessionTable,
    append_expected_bars,
    session_table,
    sessions_end_flat,
)
from optimize.data.timeframes import DAY_NS, HOUR_NS, MINUTE_NS
from optimize.errors import BadInputError, WalkforgeError, require
from optimize.walkforward.representation import Representation
from optimize.walkforward.spec import RunSpec

DRIFT = 1e-6  # relative tolerance of rounding
APPENDED_BARS = 2  # bars appended: the order fills on the first, and the episode ends on neither
Holding = float | Mapping[str, float] | list[float]


@dataclass(frozen=True, eq=False)
class DeployedAgent:
    """The deployable policy of a bundle with its configuration and its representation of a market."""

    folder: Path
    spec: RunSpec
    spans: Spans
    agent: Agent
    representation: Representation

    def observed(self, market: Market) -> Market:
        """Return the market as the agent sees it on all bars; refuse other features."""
        where = f"the bars given to {self.folder}"
        self.representation.check_columns(self.spec.feature, market.feature_names, where)
        return self.representation.observe(market, 0, market.n_bars)


@dataclass(frozen=True)
class Order:
    """The order of one symbol; exposures are shares of equity, negative for short."""

    symbol: str
    holding: float  # exposure at the close of the newest bar
    action: float  # exposure chosen by the policy
    target: float  # exposure after the order; the holding if nothing trades
    trades: bool
    side: str  # buy, sell or none
    size: float  # target minus holding, without sign
    price: float  # close of the newest bar, at which the size is measured
    reason: str

    def units(self, equity: float) -> float:
        """Return about how many units the order buys or sells for an account of this equity."""
        return self.size * equity / self.price


@dataclass(frozen=True)
class Decision:
    """The next order of a bundle, and the bar on which it is based; times are UTC."""

    bar: str  # start of the newest bar that has ended
    known_at: str  # end of that bar: time of the decision
    fills_at: str  # open of the next bar, in its session; env.fill=close: known_at
    next_bar: str  # stamp of that bar, which may lie before the session's open
    orders: tuple[Order, ...]
    session: str  # the trading session in which the order fills, with its forced exit
    followed_from: str | None  # start of the first bar of the simulated holding; None: given
    expires_at: str  # end of the next bar, after which its open no longer fills an order
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Newest:
    """The market up to the newest bar, with bars appended on which its order fills."""

    spec: RunSpec
    market: Market
    table: SessionTable
    bar: int  # row of the newest bar that has ended
    flat: bool  # whether sessions end flat


def decide(
    bundle: DeployedAgent,
    source: Bars,
    *,
    holding: Holding | None = None,
    since: str | None = None,
    other_assets: bool = False,
) -> Decision:
    """Return the order at the close of the newest bar that has ended."""
    newest = _newest(bundle, source)
    market, spec = newest.market, newest.spec
    about: tuple[str, ...] = ()
    if not other_assets:
        about = check_same_assets(read_closes(bundle.folder), closes_of(market, newest.bar + 1))
    held = None if holding is None else _holding(holding, market.symbols, spec)
    require(held is None or since is None, "since", since, "left out where holding is given")
    first = newest.bar if held is not None else _followed_from(bundle, newest, since)
    env = TradingVectorEnv(
        _open_at_the_close(market, newest.bar + 1),
        SequentialEpisodes([first], [newest.bar + APPENDED_BARS]),
        num_envs=1,
        env=spec.env,
        cost=spec.cost,
        reward=spec.reward,
        lookback=spec.feature.lookback,
        seed=0,
    )
    observation, _ = env.reset()
    state: Any = None
    start: BoolArray = np.ones(1, dtype=np.bool_)
    if held is not None:
        observation = _set_holding(env, held, spec)
    while True:
        action, state = bundle.agent.act(observation, state, start)
        if int(env.bar[0]) == newest.bar:
            break
        observation, _, terminated, _ = env.advance(action)
        start = np.zeros(1, dtype=np.bool_)
        if terminated[0]:
            at = utc_text(int(market.timestamp[env.bar[0]]))
            raise WalkforgeError(f"the account was ruined at {at}: give holding=..., or a later since=DATE")
    decision = _decision(bundle, newest, env, action, None if held is not None else first)
    return dataclasses.replace(decision, notes=(*about, *decision.notes))


def _newest(bundle: DeployedAgent, source: Bars) -> _Newest:
    """Build the market at the bundle's timeframe, with two bars appended to the newest that has ended."""
    spec = with_bars(bundle.spec, source)
    ended = source.bar_end <= int(now().timestamp() * 1e9)
    if not ended.any():
        raise BadInputError(f"no bar of {', '.join(source.symbols)} has ended yet: give earlier bars as well")
    source = select_rows(source, ended)
    calendar = resolve_calendar(spec.session, source)
    flat = sessions_end_flat(spec.session, calendar, source.timeframe)
    session = dataclasses.replace(spec.session, calendar=calendar, flat_overnight=flat)
    timeframe = spec.data.target
    bars = bars_at(source, timeframe, session)
    last = int(bars.bar_end[-1]) + 7 * DAY_NS
    table = session_table(calendar, int(bars.bar_end[0]), last, session)
    _refuse_other_hours(source, table)
    ahead = dataclasses.replace(
        append_expected_bars(bars, table, APPENDED_BARS), symbols=tuple(spec.data.symbols)
    )
    if len(ahead.symbols) > 1:  # a symbol without a current bar has no price for an order
        ahead.tradable[-APPENDED_BARS:] = bars.tradable[-1]
    market = market_of(ahead, timeframe, spec.feature, session)
    row = market.n_bars - 1 - APPENDED_BARS
    if row < spec.feature.history:
        raise BadInputError(
            f"{', '.join(spec.data.symbols)}: {bars.n_bars} bars are too few for the features' warm-up and "
            f"feature.lookback={spec.feature.lookback}: give a longer history"
        )
    return _Newest(spec, bundle.observed(market), table, row, flat)


def with_bars(spec: RunSpec, source: Bars) -> RunSpec:
    """Return the spec of a bundle; refuse bars of symbols on which it was not trained."""
    wanted = list(spec.data.symbols)
    if len(wanted) != len(source.symbols):
        raise BadInputError(
            f"the bundle trades {len(wanted)} symbols ({', '.join(wanted)}), but the bars are of "
            f"{', '.join(source.symbols)}: give one file or frame for each of its symbols"
        )
    return dataclasses.replace(spec, data=dataclasses.replace(spec.data, symbols=wanted))


def _refuse_other_hours(source: Bars, table: SessionTable) -> None:
    """Refuse bars most of which lie outside the sessions in which the bundle trades."""
    outside = outside_sessions(source.timestamp, source, table)
    if outside.mean() > MAJORITY_OUTSIDE:
        raise BadInputError(
            f"{share_text(outside)} of {', '.join(source.symbols)} lie outside the sessions of "
            f"{table.calendar}, which the bundle trades: give bars of that market, stamped in UTC with "
            "their start"
        )


def _open_at_the_close(market: Market, bar: int) -> Market:
    """Return the market without the exit at a bar's close, which would hide the exposure ordered for it."""
    exits = market.exit_at_close.copy()
    exits[bar] = False
    return dataclasses.replace(market, exit_at_close=exits)


def _followed_from(bundle: DeployedAgent, newest: _Newest, since: str | None) -> int:
    """Return the row at whose close the account is flat and the policy acts for the first time."""
    market, lowest = newest.market, newest.spec.feature.history - 1
    first: date | None
    if since is None:
        first = bundle.spans.eligible_from or bundle.spans.windows_until
    else:
        try:
            first = date.fromisoformat(str(since))
        except ValueError:
            raise BadInputError(f"since={since!r} is not allowed: give a date such as 2024-01-31") from None
    ordinal = int(np.searchsorted(market.session_date, np.datetime64(first)))
    row = int(np.searchsorted(market.session, ordinal)) - 1
    if since is not None and not lowest <= row <= newest.bar:
        earliest, latest = market.session_date[market.session[[lowest, newest.bar]]]
        raise BadInputError(
            f"since={since} is not allowed: give a session after {earliest} and no later than {latest}"
        )
    return min(max(row, lowest), newest.bar)


def _holding(holding: Holding, symbols: Sequence[str], spec: RunSpec) -> FloatArray:
    """Return the given exposures (A,)."""
    if isinstance(holding, Mapping):
        unknown = sorted(set(map(str, holding)) - set(symbols))
        require(not unknown, "holding", ", ".join(unknown), f"keyed by {', '.join(symbols)}", symbols)
        values = [holding.get(symbol, 0.0) for symbol in symbols]
    else:
        values = list(holding) if isinstance(holding, list) else [holding]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    many = f"one number, such as 0.5 (half of the equity long), for each of {', '.join(symbols)}"
    require(numbers and len(values) == len(symbols), "holding", holding, many)
    held = np.array(values, dtype=np.float64)
    require(bool(np.isfinite(held).all()), "holding", holding, many)
    most = max(1.0, spec.env.max_leverage)
    drifts = bool((held < 0).any()) or most > 1.0  # a debt or a short grows beyond its order
    allowed = (
        f"at most {most:g} of equity in all, as env.max_leverage={spec.env.max_leverage:g} orders no more"
    )
    require(drifts or held.sum() <= most * (1.0 + DRIFT), "holding", holding, allowed)
    return held


def _set_holding(env: TradingVectorEnv, held: FloatArray, spec: RunSpec) -> NDArray[np.float32]:
    """Set a given holding in the account at the newest close and return its observation (1, D).

    The last return is that of the holding over the newest bar; drawdown and reward state are initial.
    """
    account, state = env.account, env.env_state
    bar = int(env.bar[0])
    close, before = state.bars.close[bar], state.bars.close[bar - 1]
    account.cash[0] = 1.0 - held.sum()
    account.quantity[0] = held / close
    account.weight[0] = held
    account.order[0] = np.sign(held) * spec.env.max_leverage if state.rules.discrete else held
    account.last_return[0] = np.log1p(np.clip((held * (1.0 - before / close)).sum(), -0.999, None))
    observation = np.empty((1, state.layout.size), np.float32)
    write_observations(
        state.features, state.bars.tradable, state.layout, state.bar, state.account, state.reward_state,
        np.ones(1, dtype=np.bool_), observation,
    )  # fmt: skip
    return observation


def _decision(
    bundle: DeployedAgent, newest: _Newest, env: TradingVectorEnv, action: NDArray[Any], first: int | None
) -> Decision:
    """Execute the action in the ledger on the next bar, and describe the order."""
    market, spec, bar = newest.market, newest.spec, newest.bar
    holding = env.account.weight[0].copy()
    env.advance(action)
    traded, forced = env.fill.quantity[0] != 0.0, env.fill.forced[0]
    asked = np.asarray(action, dtype=np.float64).reshape(-1)
    if env.env_state.rules.discrete:
        asked += env.env_state.lowest
    asked *= spec.env.max_leverage
    stale = ~market.tradable[bar + 1]
    exiting = bool(market.exit_at_open[bar + 1])
    closes = market.bar_end[bar + 1] if market.exit_at_close[bar + 1] else None
    targets = np.where(traded, env.account.order[0], holding)
    orders = tuple(
        Order(
            symbol,
            float(holding[asset]),
            float(asked[asset]),
            float(targets[asset]),
            bool(traded[asset]),
            "none" if not traded[asset] else "buy" if targets[asset] > holding[asset] else "sell",
            float(abs(targets[asset] - holding[asset])),
            float(market.close[bar, asset]),
            NO_BAR if stale[asset] else reason_of(
                spec, float(asked[asset]), float(holding[asset]), bool(traded[asset]),
                forced=bool(forced[asset]) or (exiting and bool(traded[asset])), exiting=exiting)
            + closing_words(closes, float(env.account.weight[0, asset])),
        )
        for asset, symbol in enumerate(market.symbols)
    )  # fmt: skip
    fills_ns = _fills_ns(newest, bar + 1) if spec.env.fill == "open" else int(market.bar_end[bar])
    return Decision(
        bar=utc_text(int(market.timestamp[bar])),
        known_at=utc_text(int(market.bar_end[bar])),
        fills_at=utc_text(fills_ns),
        next_bar=utc_text(int(market.timestamp[bar + 1])),
        orders=orders,
        session=_session_line(newest, bar + 1),
        followed_from=None if first is None else utc_text(int(market.timestamp[first])),
        expires_at=utc_text(int(market.bar_end[bar + 1])),
        notes=(*_notes(bundle, newest), *_holding_notes(market.symbols, holding, spec)),
    )


def _fills_ns(newest: _Newest, bar: int) -> int:
    """Return when the open of a bar trades: at its timestamp, or at the session's open if that is later."""
    market, table = newest.market, newest.table
    row = int(np.searchsorted(table.date, market.session_date[market.session[bar]]))
    return max(int(market.timestamp[bar]), int(table.open_ns[row]))


def _session_line(newest: _Newest, bar: int) -> str:
    """Return the session of a bar as text, with its early close and its forced exit."""
    market, table = newest.market, newest.table
    row = int(np.searchsorted(table.date, market.session_date[market.session[bar]]))
    opens, closes = int(table.open_ns[row]), int(table.close_ns[row])
    line = f"{table.date[row]} of {table.calendar}"
    if table.calendar in AROUND_THE_CLOCK and not newest.flat:
        return f"{line}, no forced exit"
    line += f", {utc_text(opens)} to {utc_text(closes)}"
    usual = int(np.median(table.close_ns - table.open_ns))
    if closes - opens < usual - HOUR_NS // 2:
        line += f" (early close, {(usual - closes + opens) // MINUTE_NS} minutes before the usual)"
    return f"{line}, forced exit from {utc_text(int(table.exit_ns[row]))}" if newest.flat else line


def _notes(bundle: DeployedAgent, newest: _Newest) -> tuple[str, ...]:
    """Return notes on the age of the model and of the bars."""
    market, bar = newest.market, newest.bar
    today: date = market.session_date[market.session[bar]].item()
    notes = []
    if today < bundle.spans.trained_until:
        notes.append(f"the newest bar lies before {bundle.spans.trained_until}, inside the model's training")
    else:
        age = (today - bundle.spans.trained_until).days
        notes.append(f"the model's training ended {age} days before the newest bar")
    now_ns = int(now().timestamp() * 1e9)
    if now_ns >= market.bar_end[bar + 1]:
        ago = span_words(now_ns - int(market.bar_end[bar]))
        notes.append(
            f"the newest bar ended {ago} ago, and the bar in which the order fills has ended as well"
        )
    stale = np.flatnonzero(~market.tradable[bar + 1])
    if len(stale):
        lasts = (np.flatnonzero(market.tradable[: bar + 1, asset]) for asset in stale)
        ends = [int(market.bar_end[rows[-1]]) if len(rows) else int(market.bar_end[0]) for rows in lasts]
        names = ", ".join(market.symbols[asset] for asset in stale)
        behind = span_words(int(market.bar_end[bar]) - min(ends))
        notes.append(f"{names}: no bar at the decision (up to {behind} behind the others), so no order")
    return tuple(notes)


def _holding_notes(symbols: Sequence[str], held: FloatArray, spec: RunSpec) -> tuple[str, ...]:
    """Return a note if the holding exceeds the bundle's limits, as price changes can cause."""
    total, most = float(np.abs(held).sum()), spec.env.max_leverage
    if total <= most * (1.0 + DRIFT):
        return ()
    return (f"the holding of {', '.join(symbols)} is {total:.2f} of equity, over env.max_leverage={most:g}",)
