"""Orders: actions become exposures, exposures become trades or forced exits, trades change the account."""

import math
from typing import NamedTuple

from envs.accounts import MarketView
from envs.compiled import compiled
from envs.cost_kernels import commission, slippage
from envs.costs import CostRates
from envs.types import Account, BoolArray, Fill, FloatArray


class OrderRules(NamedTuple):
    """Parameters that decide which orders trade and how far."""

    at_open: bool  # fill at the next open, else at the close of the decision
    discrete: bool  # trade only when the order changes
    max_leverage: float
    rebalance_band: float
    long_only: bool
    max_weight: FloatArray  # (A,) of |exposure|, inf where there is no limit
    delay: int = 0  # bars that a rollout keeps each order back; a training never does
    maintenance_margin: float = 0.0  # of the size of all holdings, below which they are liquidated; 0: never
    max_drift: float = math.inf  # sum of |holdings| / equity above which they are cut back to their targets


@compiled
def scale_target(target: FloatArray, rules: OrderRules) -> None:
    """Turn actions (A,) in [-1, 1] into exposures in place, within the limit of each asset and of the sum.

    Actions are clipped to their range, short ones to 0 with long_only. If the sum of |exposures| exceeds
    max_leverage, all exposures shrink by the same factor.
    """
    lowest = 0.0 if rules.long_only else -1.0
    gross = 0.0
    for asset in range(len(target)):
        exposure = min(max(target[asset], lowest), 1.0) * rules.max_leverage
        limit = rules.max_weight[asset]
        target[asset] = min(max(exposure, -limit), limit)
        gross += abs(target[asset])
    if gross > rules.max_leverage:
        target *= rules.max_leverage / gross


@compiled
def needs_order(target: float, drifted: float, order: float, rules: OrderRules) -> bool:
    """Return whether a target exposure needs an order, given the drifted weight and the last order."""
    if rules.discrete:
        return target != order
    return abs(target - drifted) > rules.rebalance_band or (target == 0.0 and drifted != 0.0)


@compiled
def mean_entry(held: float, quantity: float, price: float, entry: float) -> float:
    """Return the mean entry price after a trade at a price from `held` to `quantity` units, 0 without any."""
    if quantity == 0.0:
        return 0.0
    if held * quantity <= 0.0:
        return price
    if abs(quantity) <= abs(held):
        return entry
    return (held * entry + (quantity - held) * price) / quantity


@compiled
def execute_order(
    row: int, asset: int, quantity: float, price: float, spread: float, rates: CostRates, account: Account
) -> tuple[float, float, float]:
    """Trade to a position of `quantity` units; return units traded, commission and slippage."""
    held = account.quantity[row, asset]
    traded = quantity - held
    account.entry[row, asset] = mean_entry(held, quantity, price, account.entry[row, asset])
    paid = commission(traded, price, spread, rates)
    slipped = slippage(traded, price, spread, rates)
    account.quantity[row, asset] = quantity
    account.cash[row] -= traded * price + paid + slipped
    return traded, paid, slipped


@compiled
def target_scale(
    row: int,
    equity: float,
    target: FloatArray,
    tradable: BoolArray,
    rules: OrderRules,
    account: Account,
    fill: Fill,
) -> float:
    """Return the factor on targets that keeps max_leverage beside positions that cannot trade now."""
    stuck, wanted = 0.0, 0.0
    for asset in range(len(target)):
        if tradable[asset]:
            wanted += abs(target[asset])
        else:
            stuck += abs(account.quantity[row, asset] * fill.price[row, asset]) / equity
    if stuck == 0.0 or stuck + wanted <= rules.max_leverage:
        return 1.0
    return max(rules.max_leverage - stuck, 0.0) / wanted if wanted > 0.0 else 1.0


@compiled
def has_drifted(row: int, equity: float, rules: OrderRules, account: Account, fill: Fill) -> bool:
    """Return whether the holdings of a row, valued at fill.price, have outgrown max_drift."""
    if rules.max_drift == math.inf:
        return False
    gross = 0.0
    for asset in range(account.quantity.shape[1]):
        gross += abs(account.quantity[row, asset] * fill.price[row, asset])
    return gross > rules.max_drift * equity


@compiled
def fill_orders(
    row: int,
    equity: float,
    filled: int,
    closing: bool,
    exiting: bool,
    target: FloatArray,
    bars: MarketView,
    rates: CostRates,
    rules: OrderRules,
    account: Account,
    fill: Fill,
) -> None:
    """Fill the orders of a row at fill.price in the bar `filled` and pay for them; equity is before costs.

    A void order (untradable asset) leaves account.order unchanged, so the same order can trade later.
    An order beyond frictions.most_units is filled in part, and the next order goes on; closing and exits are
    not limited.
    closing: every position is closed, an untradable one at its last close, so that an episode ends flat.
    exiting: tradable positions are closed and none is opened; the order is stored as 0, so that a repeated
    order trades again in the next session.
    """
    notional = 0.0
    tradable, spread, worse = bars.tradable[filled], bars.spread[filled], bars.frictions
    place = filled if len(worse.above) > 1 else 0
    limited = filled if len(worse.most_units) > 1 else 0
    room = target_scale(row, equity, target, tradable, rules, account, fill)
    cut_back = has_drifted(row, equity, rules, account, fill)
    for asset in range(len(target)):
        held = account.quantity[row, asset]
        price = fill.price[row, asset]
        exposure = target[asset] * room
        forced = exiting and tradable[asset]
        if closing or forced:
            if held == 0.0:
                continue
            fill.forced[row, asset] = forced and exposure != 0.0
            exposure = 0.0
        elif not tradable[asset] or not (
            (cut_back and held != 0.0)
            or needs_order(exposure, held * price / equity, account.order[row, asset], rules)
        ):
            continue
        quantity = exposure * equity / price
        whole = closing or forced or abs(quantity - held) <= worse.most_units[limited, asset]
        if not whole:
            quantity = held + math.copysign(worse.most_units[limited, asset], quantity - held)
        price += worse.above[place, asset] if quantity > held else -worse.below[place, asset]
        fill.price[row, asset] = price
        traded, fill.commission[row, asset], fill.slippage[row, asset] = execute_order(
            row, asset, quantity, price, spread[asset], rates, account
        )
        account.order[row, asset] = exposure if whole else math.nan  # equal to no order: the next one trades
        fill.quantity[row, asset] = traded
        notional += abs(traded) * price
    fill.turnover[row] = notional / equity


@compiled
def must_exit(bar: int, bars: MarketView, rules: OrderRules) -> bool:
    """Return whether a step that starts at the close of bar may only close positions.

    Fills at the next open: from the first bar that starts at or after the session's exit time. Fills at the
    close of bar: from the close before that bar, and on the close that ends the session. In both modes an
    account is flat from the exit to the end of the session, except in assets that did not trade; those,
    and positions of a session without an exit bar, are closed by the step that ends at its last close.
    """
    return bars.exit_at_open[bar + 1] or (not rules.at_open and bars.exit_at_close[bar])


@compiled
def exit_positions(
    row: int,
    equity: float,
    bar: int,
    bars: MarketView,
    rates: CostRates,
    account: Account,
    fill: Fill,
) -> None:
    """Close the remaining positions of a row at the session's last close, in a bar; equity is before costs.

    That price holds under a stress test as well: it is one auction, without a worse price inside the bar.
    """
    notional = 0.0
    for asset in range(bars.close.shape[1]):
        if account.quantity[row, asset] == 0.0:
            continue
        price = bars.close[bar, asset]
        traded, fill.exit_commission[row, asset], fill.exit_slippage[row, asset] = execute_order(
            row, asset, 0.0, price, bars.spread[bar, asset], rates, account
        )
        account.order[row, asset] = 0.0
        fill.exit_quantity[row, asset] = traded
        fill.exit_price[row, asset] = price
        notional += abs(traded) * price
    fill.turnover[row] += notional / equity


@compiled
def liquidate(
    row: int, bar: int, bars: MarketView, rates: CostRates, rules: OrderRules, account: Account, fill: Fill
) -> None:
    """Close the positions of a row at the worst price of a bar where equity falls below the margin there.

    Long positions are valued at the bar's low, short ones at its high, all at once, and those that do not
    trade at the close. The next order starts from a flat account, as after a forced exit.
    """
    worst, equity, gross = fill.exit_price[row], account.cash[row], 0.0
    for asset in range(len(worst)):
        held = account.quantity[row, asset]
        worst[asset] = bars.low[bar, asset] if held > 0.0 else bars.high[bar, asset]
        if not bars.tradable[bar, asset]:
            worst[asset] = bars.close[bar, asset]
        equity += held * worst[asset]
        gross += abs(held * worst[asset])
    fill.liquidated[row] = gross > 0.0 and equity < rules.maintenance_margin * gross
    notional = 0.0
    for asset in range(len(worst)):
        if not fill.liquidated[row] or not bars.tradable[bar, asset] or account.quantity[row, asset] == 0.0:
            worst[asset] = 0.0
            continue
        traded, fill.exit_commission[row, asset], fill.exit_slippage[row, asset] = execute_order(
            row, asset, 0.0, worst[asset], bars.spread[bar, asset], rates, account
        )
        account.order[row, asset] = 0.0
        fill.exit_quantity[row, asset] = traded
        notional += abs(traded) * worst[asset]
    fill.turnover[row] += notional / account.equity[row]
