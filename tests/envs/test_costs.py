"""Costs: hand-worked amounts, their description and the ranges of their spec."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs.cost_kernels import NS_PER_YEAR, check_spread, commission, financing, slippage
from envs.costs import CostSpec
from envs.errors import BadInputError
from tests.markets import make_market

COST = CostSpec(commission_bps=10.0, slippage_bps=20.0, borrow_rate=0.10, short_rate=0.20, cash_rate=0.05)
RATES = COST.rates()
TIERED = replace(CostSpec.free(), commission_per_share=0.0035, commission_min=0.35, commission_max_pct=1.0)


def pay(cost: CostSpec, shares: float, price: float, spread: float = 0.0) -> float:
    """Return the commission in account currency on whole shares."""
    return commission(shares / cost.capital, price, spread, cost.rates()) * cost.capital


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (3.0, 0.3006),  # 3 x 100.2 x 0.001: buys above the price
        (-3.0, 0.2994),  # 3 x 99.8 x 0.001: sells below it
        (0.0, 0.0),
    ],
)
def test_commission_is_on_the_execution_price(quantity: float, expected: float) -> None:
    assert commission(quantity, 100.0, 0.0, RATES) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("quantity", [3.0, -3.0])
def test_slippage_costs_both_sides_alike(quantity: float) -> None:
    assert slippage(quantity, 100.0, 0.0, RATES) == pytest.approx(0.6, rel=1e-12)  # 3 x 100 x 0.002


@pytest.mark.parametrize(
    ("shares", "price", "expected"),
    [
        (1000.0, 50.0, 3.5),  # 1000 x 0.0035
        (-1000.0, 50.0, 3.5),
        (10.0, 50.0, 0.35),  # 0.035 is below the minimum
        (100.0, 50.0, 0.35),  # exactly the minimum
        (1000.0, 0.2, 2.0),  # 3.5 is above 1 % of 200
        (10.0, 2.0, 0.2),  # the minimum, too, is above 1 % of 20
        (0.0, 50.0, 0.0),
    ],
)
def test_a_tiered_broker_by_hand(shares: float, price: float, expected: float) -> None:
    assert pay(TIERED, shares, price) == pytest.approx(expected, rel=1e-12)
    assert pay(replace(TIERED, capital=2_000.0), shares, price) == pytest.approx(expected, rel=1e-12)


def test_the_maximum_is_of_the_value_after_slippage() -> None:
    cost = replace(TIERED, slippage_bps=100.0)
    assert pay(cost, 10.0, 2.0) == pytest.approx(0.202, rel=1e-12)  # 1 % of 10 x 2.02
    assert pay(cost, -10.0, 2.0) == pytest.approx(0.198, rel=1e-12)  # 1 % of 10 x 1.98


def test_bps_share_and_order_commissions_add_up() -> None:
    cost = replace(TIERED, commission_bps=2.0, fixed_fee=1.5)
    assert pay(cost, 10.0, 50.0) == pytest.approx(0.1 + 0.35 + 1.5, rel=1e-12)  # 500 x 2 bps, minimum, fee
    assert pay(cost, 0.0, 50.0) == 0.0
    unlimited = replace(TIERED, commission_max_pct=None)
    assert pay(unlimited, 10.0, 2.0) == pytest.approx(0.35, rel=1e-12)
    assert pay(replace(CostSpec.free(), commission_min=0.35), 10.0, 50.0) == pytest.approx(0.35, rel=1e-12)
    assert pay(replace(CostSpec.free(), fixed_fee=1.5), -1e-6, 2.0) == pytest.approx(1.5, rel=1e-12)


def test_cents_a_share_move_the_execution_price() -> None:
    cost = replace(CostSpec.free(), slippage_per_share=0.01, commission_bps=100.0)
    rates = cost.rates()
    assert slippage(3.0, 50.0, 0.0, rates) == pytest.approx(0.03, rel=1e-12)
    assert slippage(-3.0, 50.0, 0.0, rates) == pytest.approx(0.03, rel=1e-12)
    assert commission(3.0, 50.0, 0.0, rates) == pytest.approx(3 * 50.01 * 0.01, rel=1e-12)
    assert commission(-3.0, 50.0, 0.0, rates) == pytest.approx(3 * 49.99 * 0.01, rel=1e-12)


def test_half_of_a_spread_is_paid_on_each_side() -> None:
    constant = replace(CostSpec.free(), slippage_bps=1.0, spread_bps=4.0)
    assert slippage(2.0, 50.0, 9.0, constant.rates()) == pytest.approx(2 * 50 * 3e-4, rel=1e-12)
    quoted = replace(
        constant, spread_from_data=True, commission_bps=100.0
    )  # the data's replaces the constant
    assert slippage(2.0, 50.0, 0.06, quoted.rates()) == pytest.approx(2 * (0.005 + 0.03), rel=1e-12)
    assert slippage(-2.0, 50.0, 0.06, quoted.rates()) == pytest.approx(2 * (0.005 + 0.03), rel=1e-12)
    assert commission(-2.0, 50.0, 0.06, quoted.rates()) == pytest.approx(2 * 49.965 * 0.01, rel=1e-12)


@pytest.mark.parametrize(
    ("cash", "short_value", "expected_a_year"),
    [
        (-2.0, 0.0, 0.2),  # borrows 2 at 10 %
        (1.0, 0.0, -0.05),  # earns 5 % on 1
        (2.0, 1.0, 0.15),  # 1 short at 20 %, and 5 % earned on 2 - 1 of proceeds
        (0.5, 1.0, 0.2),  # proceeds earn nothing
        (-0.5, 1.0, 0.25),  # borrows 0.5 and is short 1
    ],
)
def test_financing_by_hand(cash: float, short_value: float, expected_a_year: float) -> None:
    half_a_year = round(NS_PER_YEAR / 2)
    assert financing(cash, short_value, half_a_year, RATES) == pytest.approx(expected_a_year / 2, rel=1e-12)


def test_free_costs_are_zero() -> None:
    rates = CostSpec.free().rates()
    assert rates._replace(commission_max=0.0) == (0.0,) * len(rates)
    assert commission(3.0, 100.0, 1.0, rates) == slippage(3.0, 100.0, 1.0, rates) == 0.0
    assert financing(-1.0, 1.0, 10**18, rates) == 0.0


def test_a_market_must_have_the_spread_that_is_to_be_paid() -> None:
    market = make_market([50.0, 51.0, 50.0])
    quoted = replace(CostSpec.free(), spread_from_data=True)
    for bad in (0.0, -0.01, np.nan):
        with pytest.raises(BadInputError, match=r"spread_from_data=True .* ASSET0 has no spread"):
            check_spread(quoted, replace(market, spread=np.array([[bad], [0.0], [bad]])))
    check_spread(quoted, replace(market, spread=np.array([[0.0], [0.02], [0.02]])))
    check_spread(CostSpec.free(), replace(market, spread=np.full((3, 1), np.nan)))


def test_every_symbol_needs_a_spread_of_its_own() -> None:
    market = make_market([[1.0, 1.0]] * 3)
    half = replace(market, spread=np.array([[0.01, 0.0]] * 3))
    with pytest.raises(BadInputError, match="the data of ASSET1 has no spread"):
        check_spread(replace(CostSpec.free(), spread_from_data=True), half)


def test_a_concession_above_the_price_is_refused() -> None:
    market = make_market([0.02, 0.011, 0.02])
    check_spread(replace(CostSpec.free(), slippage_per_share=0.01), market)
    with pytest.raises(BadInputError, match=r"cost.slippage_per_share=0.011 .* of ASSET0, 0.011"):
        check_spread(replace(CostSpec.free(), slippage_per_share=0.011), market)
    wide = replace(market, spread=np.full((3, 1), 0.01))
    with pytest.raises(BadInputError, match=r"slippage_per_share=0.0061 .*: with half the spread it takes"):
        check_spread(replace(CostSpec.free(), slippage_per_share=0.0061, spread_from_data=True), wide)


def test_a_spread_above_the_price_is_blamed_on_the_data() -> None:
    market = make_market([0.02, 0.011, 0.02])
    quoted = replace(CostSpec.free(), spread_from_data=True)
    wide = replace(market, spread=np.array([[0.01], [0.03], [0.01]]))
    words = r"spread_from_data=True .* spread of 0.03 .* of ASSET0, 0.011 at 2024-01-01T01:00:00Z; repair"
    with pytest.raises(BadInputError, match=words):
        check_spread(quoted, wide)
    with pytest.raises(BadInputError, match=words):
        check_spread(replace(quoted, slippage_per_share=0.001), wide)
    check_spread(quoted, replace(wide, spread=wide.spread / 2))


def test_costs_are_described_in_words() -> None:
    assert CostSpec().describe() == "1 bps commission and 0.5 bps slippage a side"
    full = replace(TIERED, fixed_fee=1.0, slippage_per_share=0.01, spread_bps=2.0)
    assert full.describe() == (
        "0.0035 a share commission, at least 0.35, at most 1 % of the value, 1 an order, "
        "0.01 a share slippage and half of a spread of 2 bps a side"
    )
    assert replace(full, spread_from_data=True).describe().endswith("and half the spread of the data a side")


@pytest.mark.parametrize(
    "keys",
    [
        {"commission_bps": -0.1},
        {"commission_bps": float("nan")},
        {"slippage_bps": 10_000.0},
        {"borrow_rate": -0.01},
        {"short_rate": float("inf")},
        {"cash_rate": float("nan")},
        {"spread_bps": -0.1},
        {"spread_bps": float("nan")},
        {"spread_bps": 19_999.0},  # half of it and the slippage of 0.5 take all of the price
        {"slippage_per_share": -0.01},
        {"commission_per_share": float("inf")},
        {"commission_min": float("nan")},
        {"commission_max_pct": 0.0},
        {"commission_max_pct": 100.1},
        {"fixed_fee": -1.0},
        {"capital": 0.0},
        {"capital": float("inf")},
    ],
)
def test_out_of_range_costs_are_refused_by_name(keys: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=f"^cost.{next(iter(keys))}=.*must be"):
        CostSpec(**keys)
