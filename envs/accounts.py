"""The arrays of the ledger: what it reads of a market, keeps of an account and says of a fill."""

from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from envs.types import Account, BoolArray, Fill, FloatArray, IntArray, Market


class Bars(NamedTuple):
    """What the ledger reads of a market, as read-only arrays."""

    timestamp: IntArray  # (T,)
    bar_end: IntArray  # (T,)
    open: FloatArray  # (T, A)
    close: FloatArray  # (T, A)
    tradable: BoolArray  # (T, A)
    spread: FloatArray  # (T, A)
    exit_at_open: BoolArray  # (T,)
    exit_at_close: BoolArray  # (T,)


class AccountRows(NamedTuple):
    """The arrays of an Account, in the form a kernel takes."""

    cash: FloatArray
    quantity: FloatArray
    equity: FloatArray
    peak: FloatArray
    weight: FloatArray
    last_return: FloatArray
    order: FloatArray


class FillRows(NamedTuple):
    """The arrays of a Fill, in the form a kernel takes."""

    quantity: FloatArray
    price: FloatArray
    commission: FloatArray
    slippage: FloatArray
    financing: FloatArray
    turnover: FloatArray
    forced: BoolArray
    exit_quantity: FloatArray
    exit_price: FloatArray
    exit_commission: FloatArray
    exit_slippage: FloatArray


def read_bars(market: Market) -> Bars:
    """Return the arrays that the ledger reads, without copying those that are contiguous."""
    return Bars(*(_read_only(getattr(market, name)) for name in Bars._fields))


def open_accounts(n_envs: int, n_assets: int) -> Account:
    """Return N flat accounts of unit equity."""
    one, many = np.zeros(n_envs), np.zeros((n_envs, n_assets))
    account = Account(one.copy(), many.copy(), one.copy(), one.copy(), many.copy(), one.copy(), many.copy())
    start_accounts(np.ones(n_envs, dtype=np.bool_), account_rows(account))
    return account


def no_fill(n_envs: int, n_assets: int) -> Fill:
    """Return the fill of a step that never was."""
    one, many = np.zeros(n_envs), np.zeros((n_envs, n_assets))
    order = (many.copy(), many.copy(), many.copy(), many.copy(), one.copy(), one.copy())
    return Fill(*order, np.zeros(many.shape, np.bool_), many.copy(), many.copy(), many.copy(), many.copy())


def account_rows(account: Account) -> AccountRows:
    """Return the same arrays in the form a kernel takes."""
    return AccountRows(*(getattr(account, field.name) for field in fields(account)))


def fill_rows(fill: Fill) -> FillRows:
    """Return the same arrays in the form a kernel takes."""
    return FillRows(*(getattr(fill, field.name) for field in fields(fill)))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@compiled
def start_accounts(wanted: BoolArray, account: AccountRows) -> None:
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


@compiled
def clear_fill(row: int, fill: FillRows) -> None:
    """Forget what a row traded in the step before; prices are written anew each step."""
    fill.financing[row] = 0.0
    fill.turnover[row] = 0.0
    for asset in range(fill.quantity.shape[1]):
        fill.quantity[row, asset] = 0.0
        fill.commission[row, asset] = 0.0
        fill.slippage[row, asset] = 0.0
        fill.forced[row, asset] = False
        fill.exit_quantity[row, asset] = 0.0
        fill.exit_price[row, asset] = 0.0
        fill.exit_commission[row, asset] = 0.0
        fill.exit_slippage[row, asset] = 0.0
