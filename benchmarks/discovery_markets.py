"""Markets of the discovery benchmark, and the table of trials that is recorded on each of them.

The noise is like that of real hourly bars: Student's t with 5 degrees of freedom, GARCH(1, 1), and a season
within the day. The edge is a drift, up in the first half of the day and down in the second, of the size at
which holding its sign earns the stated Sharpe ratio net of costs. A table has the session returns of every
point of a small grid, for several seeds, over all windows; the last window is the holdout.
"""

import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.costs import CostSpec
from envs.types import FloatArray
from optimize.agents.spec import AgentSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec
from optimize.evaluate.metrics import sharpe_ratio
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.study.spec import StudySpec, resolve
from optimize.walkforward.markets import WindowedMarket, build_windowed_market
from optimize.walkforward.run import run_trial

YEAR, DAY = 365.25, 24
VOLATILITY = 0.005  # of an hourly bar
DEGREES, ALPHA, BETA = 5, 0.08, 0.90  # of Student's t, and of the GARCH process
SEASON = 0.5  # by which the volatility of an hour differs from the mean of the day, at most
COST = CostSpec(commission_bps=0.2, slippage_bps=0.4, borrow_rate=0.03, short_rate=0.01)
TURNOVER = 4.0  # of the account, a day: from short to long and back
POINTS = [
    {"learning_rate": rate, "gamma": gamma, "lookback": lookback}
    for rate, gamma, lookback in product((0.005, 0.01, 0.02, 0.03), (0.0, 0.5), (1, 2))
]


@dataclass(frozen=True)
class Size:
    """Number and length of the markets and studies that a run records."""

    edges: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)  # best achievable Sharpe ratios, net
    bars: tuple[int, ...] = (6000, 12000, 24000)
    markets: int = 20  # of each edge and length
    points: int = len(POINTS)
    seeds: int = 2  # the first is that of the search, the others are fresh
    windows: int = 5  # the last one is the holdout
    steps: int = 20000


FULL = Size()
QUICK = replace(FULL, bars=(6000,), markets=4, points=8, seeds=2, windows=4, steps=8192)


@dataclass(frozen=True)
class Table:
    """Recorded trials of one market."""

    returns: FloatArray  # (points, seeds, sessions)
    window: FloatArray  # (sessions,) number of the window
    trades: FloatArray  # (points, seeds, windows)
    seconds: FloatArray  # (points, windows) of training and evaluation, CPU, mean over seeds


def sharpe(returns: FloatArray) -> float:
    """Return the annualised Sharpe ratio of session returns, 0 where it is undefined."""
    found = sharpe_ratio(returns, YEAR)
    return found if np.isfinite(found) else 0.0


def make_bars(edge: float, bars: int, seed: int) -> pd.DataFrame:
    """Return hourly bars with realistic noise and a drift of the stated net Sharpe ratio; 0 has no drift."""
    rng = np.random.default_rng([seed, bars, int(edge * 10)])
    shock = rng.standard_t(DEGREES, bars) / np.sqrt(DEGREES / (DEGREES - 2))
    variance = np.empty(bars)
    noise = np.empty(bars)
    now = 1.0
    for bar in range(bars):
        variance[bar] = now
        noise[bar] = np.sqrt(now) * shock[bar]
        now = 1 - ALPHA - BETA + ALPHA * noise[bar] ** 2 + BETA * now
    hour = np.arange(bars) % DAY
    season = 1 + SEASON * np.cos(2 * np.pi * hour / DAY)
    log_return = VOLATILITY * noise * season / np.sqrt(np.mean(season**2))
    log_return += np.where(hour < DAY // 2, 1, -1) * drift(edge)
    close = 100 * np.exp(np.cumsum(log_return))
    start = np.r_[100.0, close[:-1]]
    wick = np.exp(np.abs(rng.normal(0, VOLATILITY / 2, (2, bars))))
    stamps = pd.date_range("2020-01-01", periods=bars, freq="h", tz="UTC")
    high, low = np.maximum(start, close) * wick[0], np.minimum(start, close) / wick[1]
    columns = {"timestamp": stamps, "open": start, "high": high, "low": low, "close": close, "volume": 1.0}
    return pd.DataFrame(columns)


def drift(edge: float) -> float:
    """Return the drift of a bar at which holding its sign earns a Sharpe ratio net of the cost of turning."""
    if edge == 0:
        return 0.0
    cost = TURNOVER * (COST.commission_bps + COST.slippage_bps) * 1e-4
    return float((edge / np.sqrt(YEAR) * VOLATILITY * np.sqrt(DAY) + cost) / DAY)


def spec_of(path: Path, size: Size, point: dict[str, Any]) -> StudySpec:
    """Return the configuration of one point of the grid, that of the defaults but for its two columns."""
    agent = AgentSpec(
        total_timesteps=size.steps,
        net="linear",
        weight_decay=0.3,
        hyperparameters={
            "learning_rate": point["learning_rate"],
            "gamma": point["gamma"],
            "n_steps": 256,
            "batch_size": 256,
            "clip_range": 0.1,
        },
    )
    return resolve(
        StudySpec(
            name="discovery",
            data=DataSpec(provider="file", path=str(path), timeframe="1h"),
            feature=FeatureSpec(
                lookback=point["lookback"],
                indicators=["returns", "time_of_day"],
                forecast="ridge",
                forecast_alone=True,
            ),
            cost=COST,
            agent=agent,
            window=WindowSpec(kind="expanding", count=size.windows, holdout_share=0.0, min_train_bars=100),
            score=ScoreSpec(min_trades=0, min_volatility=0.0),
        )
    )


def record(path: Path, size: Size) -> Table:
    """Train and evaluate every point of the grid with every seed, window by window."""
    markets: dict[float, WindowedMarket] = {}
    returns, trades, seconds = [], [], []
    window = np.empty(0)
    step = len(POINTS) // size.points
    for number, point in enumerate(POINTS[::step][: size.points]):
        spec = spec_of(path, size, point)
        if point["lookback"] not in markets:
            markets[point["lookback"]] = build_windowed_market(spec, None)
        windowed = markets[point["lookback"]]
        spent = np.zeros(size.windows)
        of_point, fills = [], []
        for seed in range(size.seeds):
            began = [time.process_time()]

            def keep(*arguments: Any, began: list[float] = began, spent: FloatArray = spent) -> None:
                now = time.process_time()
                spent[arguments[0].index] += (now - began[0]) / size.seeds
                began[0] = now

            found = run_trial(spec, windowed, [seed, number], keep=keep, report=lambda step, value: False)
            of_point.append(np.concatenate([each.returns for each in found.measured[0]]))
            fills.append([float(each.metrics.trades) for each in found.measured[0]])
            window = np.repeat(np.arange(size.windows), [len(each.returns) for each in found.measured[0]])
        returns.append(of_point)
        trades.append(fills)
        seconds.append(spent)
    return Table(np.array(returns), window, np.array(trades), np.array(seconds))
