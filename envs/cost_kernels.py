"""Costs on a market: the check of its spread, and compiled commission, slippage and financing."""

import math

import numpy as np

from envs.compiled import compiled
from envs.costs import CostRates, CostSpec
from envs.errors import BadInputError
from envs.types import Market

NS_PER_YEAR = 365.25 * 86_400 * 1e9


def check_spread(cost: CostSpec, market: Market) -> None:
    """Refuse costs that need a spread missing from the data, or that exceed the price of a sale."""
    if not cost.spread_from_data and cost.slippage_per_share == 0:
        return
    spread = market.spread
    sound = [bool(np.isfinite(each).all() and each.min() >= 0 and each.any()) for each in spread.T]
    if cost.spread_from_data and not all(sound):
        lacking = ", ".join(name for name, given in zip(market.symbols, sound, strict=True) if not given)
        raise BadInputError(
            f"cost.spread_from_data=True is not allowed: the data of {lacking} has no spread, or one that is "
            "negative or not finite; set cost.spread_bps instead, or use data with a spread column"
        )
    rates = cost.rates()
    half_spread = spread / 2 if cost.spread_from_data else np.zeros_like(spread)
    kept = market.low * (1.0 - rates.slippage) - rates.slippage_per_unit - half_spread
    if kept.min() <= 0:
        bar, asset = np.unravel_index(kept.argmin(), kept.shape)
        half, key = half_spread[bar, asset], f"cost.slippage_per_share={cost.slippage_per_share!r}"
        taking = "with half the spread it takes" if half > 0 else "it takes"
        remedy = "use less, or cost.slippage_bps"
        if half > cost.slippage_per_share:
            key, taking = "cost.spread_from_data=True", f"half of the data's spread of {2 * half:g} takes"
            remedy = "repair the spread column or set cost.spread_bps"
        at = np.datetime64(int(market.timestamp[bar]) // 10**9, "s")
        raise BadInputError(
            f"{key} is not allowed: {taking} all of the price of {market.symbols[asset]}, "
            f"{market.low[bar, asset]:g} at {at}Z; {remedy}"
        )


@compiled
def unit_slippage(spread: float, rates: CostRates) -> float:
    """Return the price concession per unit beyond rates.slippage, given the quoted spread."""
    return rates.slippage_per_unit + (0.5 * spread if rates.quoted_spread else 0.0)


@compiled
def commission(quantity: float, price: float, spread: float, rates: CostRates) -> float:
    """Return the commission on signed units traded: on the value after slippage, per unit, per order."""
    if quantity == 0.0:
        return 0.0
    units = abs(quantity)
    execution_price = price * (1.0 + math.copysign(rates.slippage, quantity))
    execution_price += math.copysign(unit_slippage(spread, rates), quantity)
    value = units * execution_price
    charged = value * rates.commission + rates.fixed_fee
    if rates.priced_per_unit:
        by_unit = max(units * rates.commission_per_unit, rates.commission_min)
        charged += min(by_unit, rates.commission_max * value)
    return charged


@compiled
def slippage(quantity: float, price: float, spread: float, rates: CostRates) -> float:
    """Return the slippage, half the spread included, of signed units traded at a price."""
    units = abs(quantity)
    return units * price * rates.slippage + units * unit_slippage(spread, rates)


@compiled
def financing(cash: float, short_value: float, elapsed_ns: int, rates: CostRates) -> float:
    """Return the interest paid (+) or earned (-) over a time on borrowed cash, shorts and idle cash."""
    annual = (
        rates.borrow * max(-cash, 0.0) + rates.short * short_value - rates.cash * max(cash - short_value, 0.0)
    )
    return annual * (elapsed_ns / NS_PER_YEAR)


@compiled
def idle_interest(cash: float, short_value: float, elapsed_ns: int, rates: CostRates) -> float:
    """Return the interest that idle cash earns over a time, which `financing` has as a negative part."""
    return rates.cash * max(cash - short_value, 0.0) * (elapsed_ns / NS_PER_YEAR)
