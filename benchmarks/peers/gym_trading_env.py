"""gym-trading-env's environment: short, flat or long, a fee and interest, windows of the features."""

import sys
import warnings
from pathlib import Path

import pandas as pd
from gym_trading_env.environments import TradingEnv
from gymnasium.vector import SyncVectorEnv

from benchmarks.peers.rounds import EPISODE_STEPS, FEE, Tape, batch, read_tape, serve, single

HOURS_PER_YEAR = 8766


def make(tape: Tape) -> TradingEnv:
    """Make one environment that starts at random and logs nothing."""
    prices = {name: getattr(tape, name)[:, 0] for name in ("open", "high", "low", "close")}
    columns = [f"feature_{number}" for number in range(tape.features.shape[2])]
    index = pd.DatetimeIndex(tape.timestamp)
    features = pd.DataFrame(tape.features[:, 0], columns=columns, index=index)
    return TradingEnv(
        pd.concat([pd.DataFrame(prices, index=index), features], axis=1),
        positions=[-1, 0, 1],
        windows=tape.lookback,
        trading_fees=FEE,
        borrow_interest_rate=0.05 / HOURS_PER_YEAR,
        max_episode_duration=EPISODE_STEPS,
        verbose=0,
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # importing gym-trading-env turns every warning into an error
    handed = read_tape(Path(sys.argv[1]))
    serve(
        {
            "sync": lambda: batch(
                SyncVectorEnv([lambda: make(handed)] * handed.num_envs, copy=False),
                handed.choices,
                handed.num_envs,
            ),
            "single": lambda: single(make(handed), handed.choices[:, 0].tolist()),
        }
    )
