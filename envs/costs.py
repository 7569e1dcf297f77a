"""Settings of the costs: commission, spread, slippage and financing. Free of compiled code."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from envs.errors import require
from envs.fields import RUN, check_ranges, setting

BASIS_POINT = 1e-4
PERCENT = 1e-2


class CostRates(NamedTuple):
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

    commission_bps: float = setting(
        1.0, RUN, "Commission on the traded value.", unit="basis points", low=0, below=10_000
    )
    slippage_bps: float = setting(
        0.5,
        RUN,
        "Slippage on each side; where a spread is set, it comes on top of half the spread.",
        unit="basis points",
        low=0,
        below=10_000,
    )
    borrow_rate: float = setting(
        0.05,
        RUN,
        "Financing of a debt: interest on negative cash.",
        unit="a year of 365.25 days, 0.05 is 5 %",
        low=0,
    )
    short_rate: float = setting(
        0.02,
        RUN,
        "Financing of a short: fee on the value held short.",
        unit="a year of 365.25 days, 0.02 is 2 %",
        low=0,
    )
    cash_rate: float = setting(
        0.0,
        RUN,
        "Interest earned on cash, booked with the financing.",
        unit="a year of 365.25 days, 0.05 is 5 %",
        low=0,
    )
    spread_bps: float = setting(
        0.0, RUN, "Constant spread between bid and ask, of which each side pays half.",
        unit="basis points", low=0,
    )  # fmt: skip
    spread_from_data: bool = setting(False, RUN, "Pay half of the data's spread instead of spread_bps.")
    slippage_per_share: float = setting(
        0.0, RUN, "Slippage of each share on each side.", unit="of the price's currency, 0.01 is a cent",
        low=0,
    )  # fmt: skip
    commission_per_share: float = setting(
        0.0, RUN, "Commission of each share.", unit="of the price's currency, 0.01 is a cent", low=0
    )
    commission_min: float = setting(
        0.0, RUN, "Least commission of an order that is charged by the share.", unit="of account currency",
        low=0,
    )  # fmt: skip
    commission_max_pct: float | None = setting(
        None,
        RUN,
        "Largest commission by the share, minimum included.",
        unit="percent of the traded value",
        above=0,
        high=100,
        null="no maximum",
    )
    fixed_fee: float = setting(0.0, RUN, "Fee of each order.", unit="of account currency", low=0)
    capital: float = setting(
        100_000.0,
        RUN,
        "Account at the start, which commission_min and fixed_fee are charged to.",
        unit="of account currency",
        above=0,
    )

    def __post_init__(self) -> None:
        check_ranges(self, "cost")
        side = self.slippage_bps + self.spread_bps / 2
        allowed = "0 or more, and half of it plus cost.slippage_bps below 10000 basis points"
        require(side < 10_000, "cost.spread_bps", self.spread_bps, allowed)

    @classmethod
    def free(cls, cash_rate: float = 0.0) -> "CostSpec":
        """Return costs of zero; idle cash earns its interest, which is no cost."""
        return cls(0.0, 0.0, 0.0, 0.0, cash_rate)

    def describe(self) -> str:
        """Return the costs of each side of a trade in words."""
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

    def rates(self) -> CostRates:
        """Return the numbers that the kernels read."""
        spread_bps = 0.0 if self.spread_from_data else self.spread_bps
        maximum = self.commission_max_pct
        return CostRates(
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
