"""Ledger: target exposure -> fill -> cash, position, equity.

A step of an account runs from the close of bar t, where it is decided, to the close of bar t + 1.
"""

import math

from envs.accounts import MarketView, clear_fill
from envs.compiled import compiled
from envs.cost_kernels import financing, idle_interest
from envs.costs import CostRates
from envs.orders import OrderRules, exit_positions, fill_orders, liquidate, must_exit, scale_target
from envs.outcomes import BAD_EQUITY, COMPLETED, RUINED
from envs.rewards import floored_log_return
from envs.types import Account, BoolArray, Fill, FloatArray, IntArray


def bad_equity_message(row: int, bar: int) -> str:
    """Return the error message for BAD_EQUITY in the step from this bar."""
    return (
        f"equity of env row {row} is not finite after bar {bar + 1}: "
        f"check that the prices there are finite and positive"
    )


@compiled
def pay_financing(row: int, price: FloatArray, elapsed_ns: int, rates: CostRates, account: Account) -> float:
    """Pay the financing of positions, valued at price (A,), from cash and return the amount."""
    short_value = 0.0
    for asset in range(len(price)):
        short_value += max(-account.quantity[row, asset] * price[asset], 0.0)
    paid = financing(account.cash[row], short_value, elapsed_ns, rates)
    account.cash[row] -= paid
    return paid


@compiled
def finance(
    row: int, price: FloatArray, elapsed_ns: int, rates: CostRates, account: Account, fill: Fill
) -> None:
    """Pay the financing of a row and add it to the fill, with the interest that it contains."""
    if rates.cash > 0.0:
        short_value = 0.0
        for asset in range(len(price)):
            short_value += max(-account.quantity[row, asset] * price[asset], 0.0)
        fill.interest[row] += idle_interest(account.cash[row], short_value, elapsed_ns, rates)
    fill.financing[row] += pay_financing(row, price, elapsed_ns, rates, account)


@compiled
def mark_to_market(row: int, price: FloatArray, account: Account) -> float:
    """Return cash plus positions at price (A,)."""
    equity = account.cash[row]
    for asset in range(len(price)):
        equity += account.quantity[row, asset] * price[asset]
    return float(equity)


@compiled
def mark_account(row: int, previous: float, equity: float, price: FloatArray, account: Account) -> int:
    """Write the state of a row at the close of a bar; equity <= 0 is ruin and zeroes the account."""
    if not math.isfinite(equity):
        return BAD_EQUITY
    ruined = equity <= 0.0
    if ruined:
        equity = 0.0
        account.cash[row] = 0.0
        account.quantity[row] = 0.0
        account.entry[row] = 0.0
    account.equity[row] = equity
    account.peak[row] = max(account.peak[row], equity)
    account.last_return[row] = floored_log_return(previous, equity)
    for asset in range(len(price)):
        value = account.quantity[row, asset] * price[asset]
        account.weight[row, asset] = 0.0 if ruined else value / equity
    return RUINED if ruined else COMPLETED


@compiled
def step_account(
    row: int,
    bar: int,
    closing: bool,
    target: FloatArray,
    bars: MarketView,
    rates: CostRates,
    rules: OrderRules,
    account: Account,
    fill: Fill,
) -> int:
    """Take one account from the close of bar to the close of the next and return its status.

    target (A,) is the exposure ordered at the close of bar; closing: the next bar ends the episode.
    """
    after = bar + 1
    filled = after if rules.at_open else bar
    previous = account.equity[row]
    price = fill.price[row]
    for asset in range(len(price)):
        opens = rules.at_open and bars.tradable[filled, asset]
        price[asset] = bars.open[after, asset] if opens else bars.close[bar, asset]
    clear_fill(row, fill)
    held_from = bars.bar_end[bar]
    if rules.at_open:
        gap_ns = bars.timestamp[after] - held_from
        finance(row, bars.close[bar], gap_ns, rates, account, fill)
        held_from = bars.timestamp[after]
    equity = mark_to_market(row, price, account)
    if equity > 0.0:
        exiting = must_exit(bar, bars, rules)
        fill_orders(row, equity, filled, closing, exiting, target, bars, rates, rules, account, fill)
        finance(row, price, bars.bar_end[after] - held_from, rates, account, fill)
        if rules.maintenance_margin > 0.0:
            liquidate(row, after, bars, rates, rules, account, fill)
        equity = mark_to_market(row, bars.close[after], account)
    if equity > 0.0 and bars.exit_at_close[after]:
        exit_positions(row, equity, after, bars, rates, account, fill)
        equity = mark_to_market(row, bars.close[after], account)
    return mark_account(row, previous, equity, bars.close[after], account)


@compiled
def step_row(
    row: int,
    bar: IntArray,
    last: IntArray,
    target: FloatArray,
    bars: MarketView,
    rates: CostRates,
    rules: OrderRules,
    account: Account,
    fill: Fill,
) -> int:
    """Step one of N accounts and its bar (N,) in place and return its status.

    target (A,) holds actions on entry and exposures on return.
    """
    closing = bar[row] + 1 == last[row]
    scale_target(target, rules)
    status = step_account(row, bar[row], closing, target, bars, rates, rules, account, fill)
    if status != BAD_EQUITY:
        bar[row] += 1
    return status


@compiled
def step_accounts(
    bar: IntArray,
    last: IntArray,
    target: FloatArray,
    bars: MarketView,
    rates: CostRates,
    rules: OrderRules,
    account: Account,
    fill: Fill,
    terminated: BoolArray,
    truncated: BoolArray,
) -> int:
    """Step N accounts and their bars (N,) in place; return the first row that is not finite, or -1.

    target (N, A) holds actions on entry and exposures on return.
    """
    for row in range(len(bar)):
        status = step_row(row, bar, last, target[row], bars, rates, rules, account, fill)
        if status == BAD_EQUITY:
            return row
        terminated[row] = status == RUINED
        truncated[row] = bar[row] == last[row] and status != RUINED
    return -1
