"""Model confidence set of alternatives, from their session returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from envs.types import FloatArray
from optimize.errors import require
from optimize.evaluate.precision import Precision
from optimize.evaluate.precision_estimate import SeedEffect, precision, seed_effect

MIN_SESSIONS = 250  # with fewer the bootstrap drops the best more often than the level allows
METHOD: Final = "R"  # range statistic: the maximum statistic of the same paper has next to no power
LOSS_TOLERANCE = 1e-9  # losses that differ by less in every session are one alternative


@dataclass(frozen=True)
class ConfidenceSet:
    """Members of the set, and for each alternative the smallest test size that excludes it."""

    kept: tuple[bool, ...]
    p_values: tuple[float | None, ...]  # None: too few sessions to test
    sharpes: tuple[float, ...]  # mean over trials, of one session
    sessions: int
    block: int  # mean length of the bootstrap's blocks, in sessions
    seeds: SeedEffect | None  # None: a single session
    precision: Precision | None  # of this comparison; None: one alternative or session


def model_confidence_set(
    returns: Sequence[FloatArray], *, level: float, bootstraps: int, seed: int, borders: Sequence[int] = ()
) -> ConfidenceSet:
    """Return the model confidence set (Hansen, Lunde & Nason 2011) of alternatives (trials, sessions) each.

    All share their sessions. The loss of a session is minus the mean over trials of the excess return over
    its own standard deviation, so that means are Sharpe ratios; with `borders`, the first sessions of all
    windows but the first, they are means over windows of each window's Sharpe ratio. The stationary bootstrap
    draws sessions, so the effect of other seeds is added to the losses as noise of mean zero.
    """
    require(0 < level < 1, "level", level, "between 0 and 1")
    scaled = [scale_to_unit_variance(each, borders) for each in returns]
    losses = -np.stack([each.mean(axis=0) for each in scaled], axis=1)
    sessions, count = losses.shape
    sharpes = tuple(float(value) for value in -losses.mean(axis=0))
    block = block_length(losses) if sessions >= MIN_SESSIONS else 1
    seeds = seed_effect(scaled, 1 - level) if sessions > 1 else None
    resolved = precision(scaled, losses, seeds, block, 1 - level) if seeds is not None and count > 1 else None
    if seeds is None or sessions < MIN_SESSIONS or count == 1:
        alone = (1.0,) if count == 1 else (None,) * count
        return ConfidenceSet((True,) * count, alone, sharpes, sessions, block, seeds, resolved)
    groups = _groups(losses)
    firsts = sorted(set(groups))
    noise = _noise([len(scaled[first]) for first in firsts], seeds.cautious, sessions, seed)
    found = _p_values(losses[:, firsts] + noise, 1 - level, bootstraps, block, seed)
    p_values = tuple(found[firsts.index(group)] for group in groups)
    kept = tuple(p_value > 1 - level for p_value in p_values)
    return ConfidenceSet(kept, p_values, sharpes, sessions, block, seeds, resolved)


def scale_to_unit_variance(returns: FloatArray, borders: Sequence[int] = ()) -> FloatArray:
    """Return each trial (trials, sessions) at a standard deviation of 1; a constant one stays at 0.

    Cut at `borders`, each part has a deviation of its own and the same share of the mean.
    """
    parts = np.split(returns, borders, axis=1)
    scaled = [_unit(part) * returns.shape[1] / (len(parts) * part.shape[1]) for part in parts]
    return np.concatenate(scaled, axis=1)


def _unit(returns: FloatArray) -> FloatArray:
    deviation = returns.std(axis=1, ddof=1, keepdims=True)
    unit: FloatArray = np.divide(returns, deviation, out=np.zeros_like(returns), where=deviation > 0)
    return unit


def block_length(losses: FloatArray) -> int:
    """Return the optimal block length for losses (sessions, alternatives), rounded up.

    It is the mean over alternatives of the optimal length for the stationary bootstrap (Politis & White
    2004, corrected 2009), of each loss beyond the mean loss of its session: the test sees differences alone.
    """
    from arch.bootstrap import optimal_block_length  # slow to import, and only two phases need it

    differences = losses - losses.mean(axis=1, keepdims=True)
    moving = differences[:, differences.std(axis=0) > LOSS_TOLERANCE]
    if moving.shape[1] == 0:
        return 1
    lengths = optimal_block_length(moving)["stationary"].to_numpy()
    return int(min(max(1, np.ceil(np.mean(lengths))), len(losses) // 4))


def _groups(losses: FloatArray) -> list[int]:
    """Return for each alternative the first with the same losses: the test divides by their difference."""
    columns = range(losses.shape[1])
    return [
        next(
            first
            for first in columns
            if np.allclose(losses[:, first], losses[:, each], rtol=0, atol=LOSS_TOLERANCE)
        )
        for each in columns
    ]


def _noise(trials: Sequence[int], deviation: float, sessions: int, seed: int) -> FloatArray:
    """Return (sessions, alternatives) of mean 0; the variance of a mean is that of the mean over trials."""
    drawn = np.random.default_rng([seed, 1]).standard_normal((sessions, len(trials)))
    drawn = (drawn - drawn.mean(axis=0)) / drawn.std(axis=0)
    return np.asarray(drawn * deviation * np.sqrt(sessions / np.asarray(trials)))


def _p_values(losses: FloatArray, size: float, bootstraps: int, block: int, seed: int) -> tuple[float, ...]:
    from arch.bootstrap import MCS

    if losses.shape[1] == 1:
        return (1.0,)
    drawn = np.random.default_rng([seed, 0])
    test = MCS(losses, size, reps=bootstraps, block_size=block, method=METHOD, seed=drawn)
    test.compute()
    found = test.pvalues["Pvalue"]
    return tuple(float(found[index]) for index in range(losses.shape[1]))
