"""Probability of backtest overfitting by combinatorially symmetric cross-validation."""

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Literal, get_args

import numpy as np

from envs.types import BoolArray, FloatArray, IntArray
from optimize.errors import require
from optimize.evaluate.luck.returns import return_matrix
from optimize.evaluate.metrics import RELATIVE_ROUNDING

Statistic = Literal["sharpe", "mean"]
MAX_BLOCKS = 20  # 184,756 splits
CHUNK_SPLITS = 1024


@dataclass(frozen=True)
class BacktestOverfitting:
    """Result of all splits, each of which takes half of the blocks as in-sample; NaN without two trials."""

    probability: float  # share of splits whose winner is at or below the median out of sample
    probability_of_loss: float  # share of splits whose winner loses out of sample
    logits: FloatArray  # (splits,) of the winner's relative rank out of sample
    winner: IntArray  # (splits,) the best column in sample
    in_sample: FloatArray  # (splits,) the winner's statistic
    out_of_sample: FloatArray  # (splits,) likewise, -inf where it is undefined
    blocks_in_sample: BoolArray  # (splits, blocks)
    n_trials: int  # columns that take part
    n_blocks: int
    statistic: Statistic


def probability_of_backtest_overfitting(
    *, returns: FloatArray, n_blocks: int, statistic: Statistic = "sharpe"
) -> BacktestOverfitting:
    """Return how often the in-sample winner of returns (T, N) is not above the median out of sample.

    Bailey, Borwein, Lopez de Prado & Zhu (2017). Blocks follow each other and differ by at most one session;
    the Sharpe ratio is per observation with ddof 1, ranks of ties are averaged. Constant columns take no
    part; a column that is constant in one half has no Sharpe ratio there and ranks last.
    """
    values = return_matrix(returns, missing=False)
    known = get_args(Statistic)
    require(statistic in known, "statistic", statistic, f"one of {', '.join(known)}", known)
    require(
        n_blocks % 2 == 0 and 2 <= n_blocks <= MAX_BLOCKS, "n_blocks", n_blocks, f"even, 2 to {MAX_BLOCKS}"
    )
    require(n_blocks <= len(values) // 2, "n_blocks", n_blocks, f"at most half of {len(values)} sessions")
    centre = values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
    varied = np.flatnonzero(values.std(axis=0) > RELATIVE_ROUNDING * np.abs(centre))
    chosen = _halves(n_blocks)
    if len(varied) < 2:
        return _undefined(chosen, len(varied), statistic)
    logits, inside, outside = (np.empty(len(chosen)) for _ in range(3))
    winner = np.empty(len(chosen), dtype=np.int64)
    sums = _BlockSums.of(values[:, varied], n_blocks)
    for start in range(0, len(chosen), CHUNK_SPLITS):
        part = slice(start, start + CHUNK_SPLITS)
        train = sums.statistic(chosen[part], statistic)
        test = sums.statistic(~chosen[part], statistic)
        best = train.argmax(axis=1)
        rows = np.arange(len(best))
        outside[part], inside[part], winner[part] = test[rows, best], train[rows, best], varied[best]
        reached = test[rows, best][:, None]
        below = np.count_nonzero(test < reached, axis=1)
        rank = below + (np.count_nonzero(test == reached, axis=1) + 1) / 2
        relative = rank / (len(varied) + 1)
        logits[part] = np.log(relative / (1 - relative))
    return BacktestOverfitting(
        probability=float(np.mean(logits <= 0)),
        probability_of_loss=float(np.mean(outside < 0)),
        logits=logits,
        winner=winner,
        in_sample=inside,
        out_of_sample=outside,
        blocks_in_sample=chosen,
        n_trials=len(varied),
        n_blocks=n_blocks,
        statistic=statistic,
    )


@dataclass(frozen=True)
class _BlockSums:
    """Sums over each block of columns less their mean, so that variances do not cancel."""

    centre: FloatArray  # (N,)
    count: FloatArray  # (S,)
    total: FloatArray  # (S, N)
    square: FloatArray  # (S, N)

    @staticmethod
    def of(values: FloatArray, n_blocks: int) -> "_BlockSums":
        centre = values.mean(axis=0)
        blocks = np.array_split(values - centre, n_blocks)
        return _BlockSums(
            centre=centre,
            count=np.array([float(len(block)) for block in blocks]),
            total=np.stack([block.sum(axis=0) for block in blocks]),
            square=np.stack([(block**2).sum(axis=0) for block in blocks]),
        )

    def statistic(self, chosen: BoolArray, statistic: Statistic) -> FloatArray:
        """Return the statistic (splits, N) over the chosen blocks (splits, S)."""
        weight = chosen.astype(np.float64)
        count = (weight @ self.count)[:, None]
        shift = weight @ self.total / count
        mean = self.centre + shift
        if statistic == "mean":
            return np.asarray(mean)
        variance = np.maximum(weight @ self.square - count * shift**2, 0.0) / (count - 1)
        deviation = np.sqrt(variance)
        defined = deviation > RELATIVE_ROUNDING * np.abs(mean)
        return np.divide(mean, deviation, out=np.full_like(mean, -np.inf), where=defined)


def _halves(n_blocks: int) -> BoolArray:
    """Return all choices (splits, blocks) of half of the blocks."""
    chosen = np.zeros((comb(n_blocks, n_blocks // 2), n_blocks), dtype=np.bool_)
    for row, blocks in enumerate(combinations(range(n_blocks), n_blocks // 2)):
        chosen[row, list(blocks)] = True
    return chosen


def _undefined(chosen: BoolArray, n_trials: int, statistic: Statistic) -> BacktestOverfitting:
    nothing = np.full(len(chosen), np.nan)
    winner = np.full(len(chosen), -1, dtype=np.int64)
    return BacktestOverfitting(
        float("nan"),
        float("nan"),
        nothing,
        winner,
        nothing,
        nothing,
        chosen,
        n_trials,
        chosen.shape[1],
        statistic,
    )
