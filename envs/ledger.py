"""The only bookkeeping: target -> fill -> cash, position, equity.

A step of an account runs from the close of bar t, where it is decided, to the close of bar t + 1.
"""

import math

from envs.accounts import AccountRows, Bars, FillRows, clear_fill
from envs.compiled import compiled
from envs.costs import Rates, financing
from envs.orders import Rules, exit_at_close, scale_target, trade
from envs.rewards import log_return
from envs.types import BoolArray, FloatArray, IntArray

RUNNING, RUINED, NOT_FINITE = 0, 1, 2


def broken_equity(row: int, bar: int) -> str:
    """Say that the step from this bar came to NOT_FINITE."""
    return (
        f"equity of env row {row} is not finite after bar {bar + 1}: "
        f"check that the prices there are finite and positive"
    )


@compiled
def must_exit(bar: int, bars: Bars, rules: Rules) -> bool:
    """Tell whether the orders of a step that starts at the close of bar may only close positions.

    Orders that fill at the next open: from the first bar that starts at or after the session's exit time.
    Orders that fill at the close of bar itself: from the close before that bar, which is the same moment on
    gapless bars and earlier on others, and on the close that ends the session. So in both modes an account
    is flat from its exit to the session's end, but for an asset that could not be traded; what is held at
    the session's last close, for that reason or because the session lacks its exit bar, is closed there by
    the step that ends at it.
    """
    return bars.exit_at_open[bar + 1] or (not rules.at_open and bars.exit_at_close[bar])


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
    filled = after if rules.at_open else bar
    previous = account.equity[row]
    tradable = bars.tradable[filled]
    price = fill.price[row]
    for asset in range(len(price)):
        opens = rules.at_open and tradable[asset]
        price[asset] = bars.open[after, asset] if opens else bars.close[bar, asset]
    clear_fill(row, fill)
    held_from = bars.bar_end[bar]
    if rules.at_open:
        gap_ns = bars.timestamp[after] - held_from
        fill.financing[row] = accrue(row, bars.close[bar], gap_ns, rates, account)
        held_from = bars.timestamp[after]
    equity = mark(row, price, account)
    if equity > 0.0:
        exiting = must_exit(bar, bars, rules)
        spread = bars.spread[filled]
        trade(row, equity, closing, exiting, target, tradable, spread, rates, rules, account, fill)
        fill.financing[row] += accrue(row, price, bars.bar_end[after] - held_from, rates, account)
        equity = mark(row, bars.close[after], account)
    if equity > 0.0 and bars.exit_at_close[after]:
        exit_at_close(row, equity, bars.close[after], bars.spread[after], rates, account, fill)
        equity = mark(row, bars.close[after], account)
    return settle(row, previous, equity, bars.close[after], account)


@compiled
def step_row(
    row: int,
    bar: IntArray,
    last: IntArray,
    target: FloatArray,
    bars: Bars,
    rates: Rates,
    rules: Rules,
    account: AccountRows,
    fill: FillRows,
) -> int:
    """Step one of N accounts and its bar (N,) in place and return its status.

    target (A,) comes in as actions and leaves as exposures.
    """
    closing = bar[row] + 1 == last[row]
    scale_target(target, rules)
    status = step_account(row, bar[row], closing, target, bars, rates, rules, account, fill)
    if status != NOT_FINITE:
        bar[row] += 1
    return status


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
        status = step_row(row, bar, last, target[row], bars, rates, rules, account, fill)
        if status == NOT_FINITE:
            return row
        terminated[row] = status == RUINED
        truncated[row] = bar[row] == last[row] and status != RUINED
    return -1
