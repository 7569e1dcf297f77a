"""FinRL's stock environment, the one on pandas and the one on numpy; long only, whole shares, one fee.

Neither knows windows, so the features of earlier bars are indicators of their own.
"""

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from gymnasium.vector import SyncVectorEnv

from benchmarks.peers.rounds import FEE, Player, Tape, batch, read_tape, serve, single, windows

CAPITAL = 1_000_000
SHARES = 100  # the most that one order trades


def load(name: str) -> ModuleType:
    """Load one environment file; importing the package would need brokers' and other agents' libraries."""
    package = importlib.util.find_spec("finrl")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("finrl is not installed")
    path = Path(package.submodule_search_locations[0]) / "meta" / "env_stock_trading" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{path} is not a module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def frame_of(tape: Tape) -> tuple[pd.DataFrame, list[str]]:
    """Return one row a bar and stock, indexed by the number of the bar, and the indicators' names."""
    seen = windows(tape)
    bars, stocks, width = seen.shape
    columns = [f"indicator_{number}" for number in range(width)]
    day = np.repeat(np.arange(bars), stocks)
    frame = pd.DataFrame(seen.reshape(-1, width), columns=columns, index=day)
    frame.insert(0, "close", tape.close[-bars:].reshape(-1))
    frame.insert(0, "tic", [f"STOCK{number}" for number in range(stocks)] * bars)
    frame.insert(0, "date", np.repeat(tape.timestamp[-bars:], stocks))
    return frame, columns


def make_pandas(tape: Tape) -> Any:
    """Make StockTradingEnv of env_stocktrading, which all its tutorials use."""
    frame, columns = frame_of(tape)
    stocks = tape.close.shape[1]
    return load("env_stocktrading").StockTradingEnv(
        df=frame,
        stock_dim=stocks,
        hmax=SHARES,
        initial_amount=CAPITAL,
        num_stock_shares=[0] * stocks,
        buy_cost_pct=[FEE] * stocks,
        sell_cost_pct=[FEE] * stocks,
        reward_scaling=1e-4,
        state_space=1 + stocks * (2 + len(columns)),
        action_space=stocks,
        tech_indicator_list=columns,
        print_verbosity=10**9,
    )


def make_numpy(tape: Tape) -> Any:
    """Make StockTradingEnv of env_stocktrading_np, the fast one."""
    seen = indicators(tape)
    config = {
        "price_array": tape.close[-len(seen) :],
        "tech_array": seen,
        "turbulence_array": np.zeros(len(seen)),
        "if_train": True,
    }
    return load("env_stocktrading_np").StockTradingEnv(
        config, initial_account=CAPITAL, max_stock=SHARES, buy_cost_pct=FEE, sell_cost_pct=FEE
    )


@cache
def indicators(tape: Tape) -> Any:
    """Return (T - L + 1, A * L * F)."""
    seen = windows(tape)
    return seen.reshape(len(seen), -1)


def many(make: Callable[[Tape], Any], tape: Tape) -> Player:
    """Make a vector environment whose environments share one copy of the indicators, as ours do."""
    first = make(tape)

    def another() -> Any:
        env = make(tape)
        if hasattr(first, "tech_ary"):
            env.tech_ary = first.tech_ary
        return env

    return batch(SyncVectorEnv([another] * tape.num_envs, copy=False), tape.targets, tape.num_envs)


if __name__ == "__main__":
    handed = read_tape(Path(sys.argv[1]))
    serve(
        {
            "pandas_sync": lambda: many(make_pandas, handed),
            "pandas_single": lambda: single(make_pandas(handed), handed.targets[:, 0]),
            "numpy_sync": lambda: many(make_numpy, handed),
            "numpy_single": lambda: single(make_numpy(handed), handed.targets[:, 0]),
        }
    )
