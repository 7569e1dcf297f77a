"""New accounts and fills, and the arrays of a market that the ledger reads."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from envs.stress import Frictions, Stress, frictions_of
from envs.types import Account, BoolArray, Fill, FloatArray, IntArray, Market


class MarketView(NamedTuple):
    """Read-only arrays of a market that the ledger reads."""

    timestamp: IntArray  # (T,)
    bar_end: IntArray  # (T,)
    open: FloatArray  # (T, A)
    high: FloatArray  # (T, A)
    low: FloatArray  # (T, A)
    close: FloatArray  # (T, A)
    tradable: BoolArray  # (T, A)
    spread: FloatArray  # (T, A)
    exit_at_open: BoolArray  # (T,)
    exit_at_close: BoolArray  # (T,)
    frictions: Frictions

    @property
    def arrays(self) -> list[NDArray[Any]]:
        """Return the arrays of the market itself, without the frictions."""
        return [getattr(self, name) for name in self._fields if name != "frictions"]


def view_market(market: Market, stress: Stress, *, at_open: bool) -> MarketView:
    """Return the arrays that the ledger reads, without copying those that are contiguous."""
    arrays = {name: _read_only(getattr(market, name)) for name in MarketView._fields if name != "frictions"}
    if stress.cost_factor != 1.0:
        arrays["spread"] = _read_only(market.spread * stress.cost_factor)
    frictions = Frictions(*map(_read_only, frictions_of(market, stress, at_open)))
    return MarketView(**arrays, frictions=frictions)


def open_accounts(n_envs: int, n_assets: int) -> Account:
    """Return N flat accounts of unit equity."""
    one, many = np.zeros(n_envs), np.zeros((n_envs, n_assets))
    account = Account(
        one.copy(), many.copy(), one.copy(), one.copy(), many.copy(), one.copy(), many.copy(), many
    )
    reset_accounts(np.ones(n_envs, dtype=np.bool_), account)
    return account


def empty_fill(n_envs: int, n_assets: int) -> Fill:
    """Return an all-zero fill (initial state)."""
    one, many = np.zeros(n_envs), np.zeros((n_envs, n_assets))
    order = (many.copy(), many.copy(), many.copy(), many.copy(), one.copy(), one.copy())
    forced, liquidated = np.zeros(many.shape, np.bool_), np.zeros(n_envs, np.bool_)
    exits = (many.copy(), many.copy(), many.copy(), many.copy())
    return Fill(*order, forced, *exits, one.copy(), liquidated)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@compiled
def reset_accounts(wanted: BoolArray, account: Account) -> None:
    """Start an episode in the wanted rows (N,): flat, at unit equity."""
    for row in range(len(wanted)):
        if wanted[row]:
            account.cash[row] = 1.0
            account.equity[row] = 1.0
            account.peak[row] = 1.0
            account.last_return[row] = 0.0
            account.quantity[row] = 0.0
            account.weight[row] = 0.0
            account.order[row] = 0.0
            account.entry[row] = 0.0


@compiled
def clear_fill(row: int, fill: Fill) -> None:
    """Zero the fill of a row before its next step; prices are overwritten by each step."""
    fill.financing[row] = 0.0
    fill.turnover[row] = 0.0
    fill.interest[row] = 0.0
    fill.liquidated[row] = False
    for asset in range(fill.quantity.shape[1]):
        fill.quantity[row, asset] = 0.0
        fill.commission[row, asset] = 0.0
        fill.slippage[row, asset] = 0.0
        fill.forced[row, asset] = False
        fill.exit_quantity[row, asset] = 0.0
        fill.exit_price[row, asset] = 0.0
        fill.exit_commission[row, asset] = 0.0
        fill.exit_slippage[row, asset] = 0.0
