"""Costs: hand-worked amounts and the ranges of their spec."""

import pytest

from envs.costs import NS_PER_YEAR, CostSpec, commission, financing, slippage
from envs.errors import BadInputError

RATES = CostSpec(
    commission_bps=10.0, slippage_bps=20.0, borrow_rate=0.10, short_rate=0.20, cash_rate=0.05
).rates()


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (3.0, 0.3006),  # 3 x 100.2 x 0.001: buys above the price
        (-3.0, 0.2994),  # 3 x 99.8 x 0.001: sells below it
        (0.0, 0.0),
    ],
)
def test_commission_is_on_the_execution_price(quantity: float, expected: float) -> None:
    assert commission(quantity, 100.0, RATES) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("quantity", [3.0, -3.0])
def test_slippage_costs_both_sides_alike(quantity: float) -> None:
    assert slippage(quantity, 100.0, RATES) == pytest.approx(0.6, rel=1e-12)  # 3 x 100 x 0.002


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
    assert CostSpec.free().rates() == (0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "keys",
    [
        {"commission_bps": -0.1},
        {"commission_bps": float("nan")},
        {"slippage_bps": 10_000.0},
        {"borrow_rate": -0.01},
        {"short_rate": float("inf")},
        {"cash_rate": float("nan")},
    ],
)
def test_out_of_range_costs_are_refused_by_name(keys: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match=f"^cost.{next(iter(keys))}=.*must be"):
        CostSpec(**keys)
