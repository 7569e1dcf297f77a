"""What trading and holding cost: commission, spread and slippage, financing."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from envs.compiled import compiled
from envs.errors import BadInputError, require
from envs.types import Market

BASIS_POINT = 1e-4
PERCENT = 1e-2
NS_PER_YEAR = 365.25 * 86_400 * 1e9


class Rates(NamedTuple):
    """Costs as the plain numbers that the kernels read; amounts are in units of starting equity."""

    commission: float  # of the traded value
    slippage: float  # of the price, against the trader; half of a constant spread included
    borrow: float  # a year, on negative cash
    short: float  # a year, on the value held short
    cash: float  # a year, earned on cash that is not short-sale proceeds
    slippage_per_unit: float  # of the price's currency, against the trader
    quoted_spread: bool  # half of the market's spread is paid too
    priced_per_unit: bool  # the next three hold
    commission_per_unit: float  # of the price's currency
    commission_min: float  # an order
    commission_max: float  # of the traded value, above the minimum too
    fixed_fee: float  # an order


@dataclass(frozen=True)
class CostSpec:
    """One set of costs for training, evaluation and paper trading alike."""

    commission_bps: float = 1.0
    slippage_bps: float = 0.5  # on each side; with a spread of its own below, what comes on top of half of it
    borrow_rate: float = 0.05  # annual, of 365.25 days, like the next two
    short_rate: float = 0.02
    cash_rate: float = 0.0
    spread_bps: float = 0.0  # ask - bid, constant; each side pays half
    spread_from_data: bool = False  # pay half of the data's spread instead of spread_bps
    slippage_per_share: float = 0.0  # 0.01 is a cent a share, on each side
    commission_per_share: float = 0.0  # 0.0035 is 35 cents for 100 shares
    commission_min: float = 0.0  # of an order's per-share commission, in account currency
    commission_max_pct: float | None = None  # of the traded value, minimum included; None: no maximum
    fixed_fee: float = 0.0  # an order, in account currency
    capital: float = 100_000.0  # account currency at the start; only commission_min and fixed_fee need it

    def __post_init__(self) -> None:
        for key in ("commission_bps", "slippage_bps"):
            value = getattr(self, key)
            require(0 <= value < 10_000, f"cost.{key}", value, "between 0 and 9999 basis points")
        side = self.slippage_bps + self.spread_bps / 2
        allowed = "0 or more, and half of it plus cost.slippage_bps below 10000 basis points"
        require(self.spread_bps >= 0 and side < 10_000, "cost.spread_bps", self.spread_bps, allowed)
        for key in ("borrow_rate", "short_rate", "cash_rate"):
            _require_finite(key, getattr(self, key), "annual rate >= 0, such as 0.05 for 5 %")
        for key in ("slippage_per_share", "commission_per_share", "commission_min", "fixed_fee"):
            _require_finite(key, getattr(self, key), "amount of money >= 0")
        maximum = self.commission_max_pct
        allowed = "a percentage of the traded value above 0 and up to 100, or null for no maximum"
        require(maximum is None or 0 < maximum <= 100, "cost.commission_max_pct", maximum, allowed)
        allowed = "a finite amount of account currency above 0, such as 100000"
        require(0 < self.capital < math.inf, "cost.capital", self.capital, allowed)

    @classmethod
    def free(cls) -> "CostSpec":
        """Return costs of zero."""
        return cls(0.0, 0.0, 0.0, 0.0, 0.0)

    def describe(self) -> str:
        """Return what each side of a trade costs, in words."""
        per_share = self.commission_per_share > 0 or self.commission_min > 0
        commission, slippage = [], []
        if self.commission_bps > 0 or not (per_share or self.fixed_fee > 0):
            commission.append(f"{self.commission_bps:g} bps commission")
        if per_share:
            bounds = f", at least {self.commission_min:g}" if self.commission_min > 0 else ""
            if self.commission_max_pct is not None:
                bounds += f", at most {self.commission_max_pct:g} % of the value"
            commission.append(f"{self.commission_per_share:g} a share commission{bounds}")
        if self.fixed_fee > 0:
            commission.append(f"{self.fixed_fee:g} an order")
        if self.slippage_bps > 0 or self.slippage_per_share == 0:
            slippage.append(f"{self.slippage_bps:g} bps slippage")
        if self.slippage_per_share > 0:
            slippage.append(f"{self.slippage_per_share:g} a share slippage")
        if self.spread_from_data:
            slippage.append("half the spread of the data")
        elif self.spread_bps > 0:
            slippage.append(f"half of a spread of {self.spread_bps:g} bps")
        parts = [*commission, *slippage]
        return f"{', '.join(parts[:-1])} and {parts[-1]} a side"

    def rates(self) -> Rates:
        """Return the numbers that the kernels read."""
        spread_bps = 0.0 if self.spread_from_data else self.spread_bps
        maximum = self.commission_max_pct
        return Rates(
            commission=self.commission_bps * BASIS_POINT,
            slippage=(self.slippage_bps + spread_bps / 2) * BASIS_POINT,
            borrow=float(self.borrow_rate),
            short=float(self.short_rate),
            cash=float(self.cash_rate),
            slippage_per_unit=float(self.slippage_per_share),
            quoted_spread=self.spread_from_data,
            priced_per_unit=self.commission_per_share > 0 or self.commission_min > 0,
            commission_per_unit=float(self.commission_per_share),
            commission_min=self.commission_min / self.capital,
            commission_max=math.inf if maximum is None else maximum * PERCENT,
            fixed_fee=self.fixed_fee / self.capital,
        )


def check_spread(cost: CostSpec, market: Market) -> None:
    """Refuse costs that wait for a spread the data lacks, or that leave a seller nothing of a price."""
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


def _require_finite(key: str, value: float, what: str) -> None:
    require(0 <= value < math.inf, f"cost.{key}", value, f"a finite {what}")


@compiled
def concession(spread: float, rates: Rates) -> float:
    """Return what a unit is traded worse than its price beyond rates.slippage, at a quoted spread."""
    return rates.slippage_per_unit + (0.5 * spread if rates.quoted_spread else 0.0)


@compiled
def commission(quantity: float, price: float, spread: float, rates: Rates) -> float:
    """Return the commission on signed units traded: parts of the value after slippage, a unit, an order."""
    if quantity == 0.0:
        return 0.0
    units = abs(quantity)
    execution_price = price * (1.0 + math.copysign(rates.slippage, quantity))
    execution_price += math.copysign(concession(spread, rates), quantity)
    value = units * execution_price
    charged = value * rates.commission + rates.fixed_fee
    if rates.priced_per_unit:
        by_unit = max(units * rates.commission_per_unit, rates.commission_min)
        charged += min(by_unit, rates.commission_max * value)
    return charged


@compiled
def slippage(quantity: float, price: float, spread: float, rates: Rates) -> float:
    """Return what half the spread and slippage take from signed units traded at a price."""
    units = abs(quantity)
    return units * price * rates.slippage + units * concession(spread, rates)


@compiled
def financing(cash: float, short_value: float, elapsed_ns: int, rates: Rates) -> float:
    """Return the interest paid (+) or earned (-) over a time on borrowed cash, shorts and idle cash."""
    annual = (
        rates.borrow * max(-cash, 0.0) + rates.short * short_value - rates.cash * max(cash - short_value, 0.0)
    )
    return annual * (elapsed_ns / NS_PER_YEAR)
