"""The only bookkeeping: target -> fill -> cash, position, equity.

A step of an account runs from the close of bar t, where it is decided, to the close of bar t + 1.
"""

import math
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from envs.costs import Rates, commission, financing, slippage
from envs.rewards import log_return
from envs.types import Account, BoolArray, Fill, FloatArray, IntArray, Market

RUNNING, RUINED, NOT_FINITE = 0, 1, 2


class Bars(NamedTuple):
    """What the ledger reads of a market, as read-only arrays."""

    timestamp: IntArray  # (T,)
    bar_end: IntArray  # (T,)
    open: FloatArray  # (T, A)
    close: FloatArray  # (T, A)
    tradable: BoolArray  # (T, A)


class Rules(NamedTuple):
    """How orders become trades."""

    at_open: bool  # fill at the next open, else at the close of the decision
    discrete: bool  # trade only when the order changes
    max_leverage: float
    rebalance_band: float


class AccountRows(NamedTuple):
    """The arrays of an Account, in the form a kernel takes."""

    cash: FloatArray
    quantity: FloatArray
    equity: FloatArray
    peak: FloatArray
    weight: FloatArray
    last_return: FloatArray
    order: FloatArray


class FillRows(NamedTuple):
    """The arrays of a Fill, in the form a kernel takes."""

    quantity: FloatArray
    price: FloatArray
    commission: FloatArray
    slippage: FloatArray
    financing: FloatArray
    turnover: FloatArray


def read_bars(market: Market) -> Bars:
    """Return the arrays that the ledger reads, without copying those that are contiguous."""
    return Bars(*(_read_only(getattr(market, name)) for name in Bars._fields))


def open_accounts(n_envs: int, n_assets: int) -> Account:
    """Return N flat accounts of unit equity."""
    one, many = np.zeros(n_envs), np.zeros((n_envs, n_assets))
    account = Account(one.copy(), many.copy(), one.copy(), one.copy(), many.copy(), one.copy(), many.copy())
    start_accounts(np.ones(n_envs, dtype=np.bool_), account_rows(account))
    return account


def no_fill(n_envs: int, n_assets: int) -> Fill:
    """Return the fill of a step that never was."""
    one, many = np.zeros(n_envs), np.zeros((n_envs, n_assets))
    return Fill(many.copy(), many.copy(), many.copy(), many.copy(), one.copy(), one.copy())


def account_rows(account: Account) -> AccountRows:
    """Return the same arrays in the form a kernel takes."""
    return AccountRows(*(getattr(account, field.name) for field in fields(account)))


def fill_rows(fill: Fill) -> FillRows:
    """Return the same arrays in the form a kernel takes."""
    return FillRows(*(getattr(fill, field.name) for field in fields(fill)))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@compiled
def start_accounts(wanted: BoolArray, account: AccountRows) -> None:
    """Start an episode in the wanted rows (N,): flat, at unit equity."""
    for row in range(len(wanted)):
        if wanted[row]:
            account.cash[row] = 1.0
            account.equity[row] = 1.0
            account.peak[row] = 1.0
            account.last_return[row] = 0.0
            account.quantity[row] = 0.0
            account.weight[row] = 0.0
            account.order[row] = 0.0


@compiled
def scale_target(target: FloatArray, max_leverage: float) -> None:
    """Turn actions (A,) in [-1, 1] into exposures in place, so that the sum of |weights| <= max_leverage."""
    gross = 0.0
    for asset in range(len(target)):
        target[asset] = min(max(target[asset], -1.0), 1.0) * max_leverage
        gross += abs(target[asset])
    if gross > max_leverage:
        target *= max_leverage / gross


@compiled
def accrue(row: int, price: FloatArray, elapsed_ns: int, rates: Rates, account: AccountRows) -> float:
    """Pay the financing of a position, valued at price (A,), from cash and return it."""
    short_value = 0.0
    for asset in range(len(price)):
        short_value += max(-account.quantity[row, asset] * price[asset], 0.0)
    paid = financing(account.cash[row], short_value, elapsed_ns, rates)
    account.cash[row] -= paid
    return paid


@compiled
def mark(row: int, price: FloatArray, account: AccountRows) -> float:
    """Return cash plus positions at price (A,)."""
    equity = account.cash[row]
    for asset in range(len(price)):
        equity += account.quantity[row, asset] * price[asset]
    return float(equity)


@compiled
def wants_trade(target: float, drifted: float, order: float, rules: Rules) -> bool:
    """Tell whether a target exposure is worth an order, given the drifted weight and the last order."""
    if rules.discrete:
        return target != order
    return abs(target - drifted) > rules.rebalance_band or (target == 0.0 and drifted != 0.0)


@compiled
def trade(
    row: int,
    equity: float,
    closing: bool,
    target: FloatArray,
    tradable: BoolArray,
    rates: Rates,
    rules: Rules,
    account: AccountRows,
    fill: FillRows,
) -> None:
    """Fill the orders of a row at fill.price and pay for them; equity is the one before costs.

    A void order (untradable asset) leaves account.order as it was, so the same order trades later.
    Closing settles every position, an untradable one at its last close, so that an episode ends flat.
    """
    notional = 0.0
    for asset in range(len(target)):
        held = account.quantity[row, asset]
        price = fill.price[row, asset]
        if closing:
            if held == 0.0:
                continue
        elif not tradable[asset] or not wants_trade(
            target[asset], held * price / equity, account.order[row, asset], rules
        ):
            continue
        exposure = 0.0 if closing else target[asset]
        quantity = exposure * equity / price
        traded = quantity - held
        account.quantity[row, asset] = quantity
        account.order[row, asset] = exposure
        fill.quantity[row, asset] = traded
        fill.commission[row, asset] = commission(traded, price, rates)
        fill.slippage[row, asset] = slippage(traded, price, rates)
        notional += abs(traded) * price
        account.cash[row] -= traded * price + fill.commission[row, asset] + fill.slippage[row, asset]
    fill.turnover[row] = notional / equity


@compiled
def settle(row: int, previous: float, equity: float, price: FloatArray, account: AccountRows) -> int:
    """Write the state of a row at the close of a bar; equity <= 0 is ruin, which takes everything."""
    if not math.isfinite(equity):
        return NOT_FINITE
    ruined = equity <= 0.0
    if ruined:
        equity = 0.0
        account.cash[row] = 0.0
        account.quantity[row] = 0.0
    account.equity[row] = equity
    account.peak[row] = max(account.peak[row], equity)
    account.last_return[row] = log_return(previous, equity)
    for asset in range(len(price)):
        value = account.quantity[row, asset] * price[asset]
        account.weight[row, asset] = 0.0 if ruined else value / equity
    return RUINED if ruined else RUNNING


@compiled
def step_account(
    row: int,
    bar: int,
    closing: bool,
    target: FloatArray,
    bars: Bars,
    rates: Rates,
    rules: Rules,
    account: AccountRows,
    fill: FillRows,
) -> int:
    """Take one account from the close of bar to the close of the next and return its status.

    target (A,) is the exposure ordered at the close of bar; closing says that the next bar ends the episode.
    """
    after = bar + 1
    previous = account.equity[row]
    tradable = bars.tradable[after] if rules.at_open else bars.tradable[bar]
    price = fill.price[row]
    for asset in range(len(price)):
        opens = rules.at_open and tradable[asset]
        price[asset] = bars.open[after, asset] if opens else bars.close[bar, asset]
    fill.quantity[row] = 0.0
    fill.commission[row] = 0.0
    fill.slippage[row] = 0.0
    fill.turnover[row] = 0.0
    fill.financing[row] = 0.0
    held_from = bars.bar_end[bar]
    if rules.at_open:
        gap_ns = bars.timestamp[after] - held_from
        fill.financing[row] = accrue(row, bars.close[bar], gap_ns, rates, account)
        held_from = bars.timestamp[after]
    equity = mark(row, price, account)
    if equity > 0.0:
        trade(row, equity, closing, target, tradable, rates, rules, account, fill)
        fill.financing[row] += accrue(row, price, bars.bar_end[after] - held_from, rates, account)
        equity = mark(row, bars.close[after], account)
    return settle(row, previous, equity, bars.close[after], account)


@compiled
def step_accounts(
    bar: IntArray,
    last: IntArray,
    target: FloatArray,
    bars: Bars,
    rates: Rates,
    rules: Rules,
    account: AccountRows,
    fill: FillRows,
    terminated: BoolArray,
    truncated: BoolArray,
) -> int:
    """Step N accounts and their bars (N,) in place; return the first row that is not finite, or -1.

    target (N, A) comes in as actions and leaves as exposures.
    """
    for row in range(len(bar)):
        closing = bar[row] + 1 == last[row]
        scale_target(target[row], rules.max_leverage)
        status = step_account(row, bar[row], closing, target[row], bars, rates, rules, account, fill)
        if status == NOT_FINITE:
            return row
        bar[row] += 1
        terminated[row] = status == RUINED
        truncated[row] = closing and status != RUINED
    return -1
