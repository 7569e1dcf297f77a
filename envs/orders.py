"""Orders: from actions to exposures, which of them trade, and what a trade does to an account."""

from typing import NamedTuple

from envs.accounts import AccountRows, FillRows
from envs.compiled import compiled
from envs.costs import Rates, commission, slippage
from envs.types import BoolArray, FloatArray


class Rules(NamedTuple):
    """How orders become trades."""

    at_open: bool  # fill at the next open, else at the close of the decision
    discrete: bool  # trade only when the order changes
    max_leverage: float
    rebalance_band: float
    long_only: bool
    max_weight: FloatArray  # (A,) of |exposure|, inf where there is no limit


@compiled
def scale_target(target: FloatArray, rules: Rules) -> None:
    """Turn actions (A,) in [-1, 1] into exposures in place, within the limit of each asset and of the sum.

    An action beyond its range is cut to it, a short one to 0 where the rules are long-only. Where the sum of
    |exposures| is above max_leverage all of them shrink alike.
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
def wants_trade(target: float, drifted: float, order: float, rules: Rules) -> bool:
    """Tell whether a target exposure is worth an order, given the drifted weight and the last order."""
    if rules.discrete:
        return target != order
    return abs(target - drifted) > rules.rebalance_band or (target == 0.0 and drifted != 0.0)


@compiled
def exchange(
    row: int, asset: int, quantity: float, price: float, spread: float, rates: Rates, account: AccountRows
) -> tuple[float, float, float]:
    """Trade until quantity is held and pay for it; return units traded, commission and slippage."""
    traded = quantity - account.quantity[row, asset]
    paid = commission(traded, price, spread, rates)
    slipped = slippage(traded, price, spread, rates)
    account.quantity[row, asset] = quantity
    account.cash[row] -= traded * price + paid + slipped
    return traded, paid, slipped


@compiled
def room_for_orders(
    row: int,
    equity: float,
    target: FloatArray,
    tradable: BoolArray,
    rules: Rules,
    account: AccountRows,
    fill: FillRows,
) -> float:
    """Return the share of the targets that max_leverage leaves beside what cannot be traded away now."""
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
def trade(
    row: int,
    equity: float,
    closing: bool,
    exiting: bool,
    target: FloatArray,
    tradable: BoolArray,
    spread: FloatArray,
    rates: Rates,
    rules: Rules,
    account: AccountRows,
    fill: FillRows,
) -> None:
    """Fill the orders of a row at fill.price and pay for them; equity is the one before costs.

    A void order (untradable asset) leaves account.order as it was, so the same order trades later.
    Closing settles every position, an untradable one at its last close, so that an episode ends flat.
    Exiting closes what can be traded and opens nothing; that order counts as 0, so that the one before trades
    again in the next session.
    """
    notional = 0.0
    room = room_for_orders(row, equity, target, tradable, rules, account, fill)
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
        elif not tradable[asset] or not wants_trade(
            exposure, held * price / equity, account.order[row, asset], rules
        ):
            continue
        traded, fill.commission[row, asset], fill.slippage[row, asset] = exchange(
            row, asset, exposure * equity / price, price, spread[asset], rates, account
        )
        account.order[row, asset] = exposure
        fill.quantity[row, asset] = traded
        notional += abs(traded) * price
    fill.turnover[row] = notional / equity


@compiled
def exit_at_close(
    row: int,
    equity: float,
    price: FloatArray,
    spread: FloatArray,
    rates: Rates,
    account: AccountRows,
    fill: FillRows,
) -> None:
    """Close what a row still holds at the session's last price (A,); equity is the one before that cost."""
    notional = 0.0
    for asset in range(len(price)):
        if account.quantity[row, asset] == 0.0:
            continue
        traded, fill.exit_commission[row, asset], fill.exit_slippage[row, asset] = exchange(
            row, asset, 0.0, price[asset], spread[asset], rates, account
        )
        account.order[row, asset] = 0.0
        fill.exit_quantity[row, asset] = traded
        fill.exit_price[row, asset] = price[asset]
        notional += abs(traded) * price[asset]
    fill.turnover[row] += notional / equity
