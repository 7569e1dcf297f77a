"""What trading and holding cost: commission, spread and slippage, financing."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from envs.compiled import compiled
from envs.errors import require

BASIS_POINT = 1e-4
NS_PER_YEAR = 365.25 * 86_400 * 1e9


class Rates(NamedTuple):
    """Costs as the plain fractions that the kernels read."""

    commission: float  # of the traded value
    slippage: float  # of the price, against the trader
    borrow: float  # a year, on negative cash
    short: float  # a year, on the value held short
    cash: float  # a year, earned on cash that is not short-sale proceeds


@dataclass(frozen=True)
class CostSpec:
    """One set of costs for training, evaluation and paper trading alike."""

    commission_bps: float = 1.0
    slippage_bps: float = 0.5  # half the spread plus slippage, on each side
    borrow_rate: float = 0.05  # annual, of 365.25 days, like the next two
    short_rate: float = 0.02
    cash_rate: float = 0.0

    def __post_init__(self) -> None:
        for key in ("commission_bps", "slippage_bps"):
            value = getattr(self, key)
            require(0 <= value < 10_000, f"cost.{key}", value, "between 0 and 9999 basis points")
        for key in ("borrow_rate", "short_rate", "cash_rate"):
            value = getattr(self, key)
            allowed = "a finite annual rate >= 0, such as 0.05 for 5 %"
            require(value >= 0 and math.isfinite(value), f"cost.{key}", value, allowed)

    @classmethod
    def free(cls) -> "CostSpec":
        """Return costs of zero."""
        return cls(0.0, 0.0, 0.0, 0.0, 0.0)

    def rates(self) -> Rates:
        """Return the fractions that the kernels read."""
        return Rates(
            commission=self.commission_bps * BASIS_POINT,
            slippage=self.slippage_bps * BASIS_POINT,
            borrow=float(self.borrow_rate),
            short=float(self.short_rate),
            cash=float(self.cash_rate),
        )


@compiled
def commission(quantity: float, price: float, rates: Rates) -> float:
    """Return the commission on signed units traded: a share of the value after slippage."""
    execution_price = price * (1.0 + math.copysign(rates.slippage, quantity))
    return abs(quantity) * execution_price * rates.commission


@compiled
def slippage(quantity: float, price: float, rates: Rates) -> float:
    """Return what half the spread and slippage take from signed units traded at a price."""
    return abs(quantity) * price * rates.slippage


@compiled
def financing(cash: float, short_value: float, elapsed_ns: int, rates: Rates) -> float:
    """Return the interest paid (+) or earned (-) over a time on borrowed cash, shorts and idle cash."""
    annual = (
        rates.borrow * max(-cash, 0.0) + rates.short * short_value - rates.cash * max(cash - short_value, 0.0)
    )
    return annual * (elapsed_ns / NS_PER_YEAR)
