"""The trades of one evaluation as a table, in the order in which they were made."""

from typing import TypeAlias

import numpy as np
import pyarrow as pa

from envs.types import Market
from optimize.evaluate.rollout import Evaluation

Trades: TypeAlias = pa.Table

SCHEMA = pa.schema(
    {
        "timestamp": pa.timestamp("ns", tz="UTC"),  # start of the bar at whose open or close it filled
        "symbol": pa.string(),
        "side": pa.string(),  # buy or sell
        "quantity": pa.float64(),  # units for each unit of starting equity, > 0
        "price": pa.float64(),  # before slippage
        "cost": pa.float64(),  # commission + slippage, in units of starting equity
        "forced_exit": pa.bool_(),  # closed because its session ended, against the agent's order
    }
)


def trades_table(evaluation: Evaluation, market: Market, fill: str) -> Trades:
    """Return one row for each order that filled and each exit at a session's last close.

    An order fills on the bar after its decision (env.fill=open) or on the very bar of it (env.fill=close).
    """
    # (n, 2, A), because a bar's order fills before its session closes
    quantity = np.stack([evaluation.quantity, evaluation.exit_quantity], axis=1)
    price = np.stack([evaluation.price, evaluation.exit_price], axis=1)
    cost = np.stack([evaluation.cost, evaluation.exit_cost], axis=1)
    forced = np.stack([evaluation.forced, np.ones_like(evaluation.forced)], axis=1)
    step, at_close, asset = traded = np.nonzero(quantity)
    bar = evaluation.bar[step] - ((at_close == 0) & (fill == "close"))
    columns = {
        "timestamp": market.timestamp[bar].astype("datetime64[ns]"),
        "symbol": np.array(market.symbols, dtype=object)[asset],
        "side": np.where(quantity[traded] > 0, "buy", "sell").astype(object),
        "quantity": np.abs(quantity[traded]),
        "price": price[traded],
        "cost": cost[traded],
        "forced_exit": forced[traded],
    }
    return pa.table(columns, schema=SCHEMA)
