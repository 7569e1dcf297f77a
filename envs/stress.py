"""A worse market than the recorded one, under which finished agents are evaluated again."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from envs.costs import CostRates
from envs.types import FloatArray, Market


@dataclass(frozen=True, eq=False)
class Stress:
    """Changes of an evaluation's market; the defaults change nothing."""

    cost_factor: float = 1.0  # on commission, spread, slippage, fees, borrow and short rate
    delay: int = 0  # bars that an order waits beside its normal fill
    worst_price: bool = False  # buys fill at the high of their bar, sales at its low
    most_units: FloatArray | None = (
        None  # (T, A) units of an account of 1 that trade at a bar; None: no limit
    )


NO_STRESS = Stress()


class Frictions(NamedTuple):
    """Prices and limits of fills beyond the recorded market; with one row it holds for all bars."""

    above: FloatArray  # (T or 1, A) that a buy pays above the price of its fill
    below: FloatArray  # (T or 1, A) that a sale gets below it
    most_units: FloatArray  # (T or 1, A) that an order trades at a bar


def frictions_of(market: Market, stress: Stress, at_open: bool) -> Frictions:
    """Return the frictions of a market; the worst price is that of the bar in which an order fills."""
    none = np.zeros((1, market.n_assets))
    above, below, most = none, none.copy(), np.full((1, market.n_assets), np.inf)
    if stress.worst_price:
        price = market.open if at_open else market.close
        price = np.where(market.tradable, price, market.close)
        above, below = np.maximum(market.high - price, 0.0), np.maximum(price - market.low, 0.0)
    if stress.most_units is not None:
        most = np.ascontiguousarray(stress.most_units)
    return Frictions(above, below, most)


def scale_costs(rates: CostRates, factor: float) -> CostRates:
    """Return the costs of trading and holding times a factor; interest earned on cash stays."""
    scaled = (
        "commission", "slippage", "borrow", "short", "slippage_per_unit", "commission_per_unit",
        "commission_min", "commission_max", "fixed_fee",
    )  # fmt: skip
    return rates._replace(**{name: getattr(rates, name) * factor for name in scaled})
