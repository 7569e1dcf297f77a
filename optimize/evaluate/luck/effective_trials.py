"""Effective number of independent trials, by the effective rank of their correlations."""

import numpy as np

from envs.types import FloatArray
from optimize.errors import require
from optimize.evaluate.luck.returns import return_matrix
from optimize.evaluate.metrics import RELATIVE_ROUNDING


def effective_rank(correlation: FloatArray) -> float:
    """Return the exponential of the entropy of a correlation matrix's eigenvalues (Roy & Vetterli 2007)."""
    matrix = np.asarray(correlation, dtype=np.float64)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    require(square, "correlation with shape", matrix.shape, "a square matrix")
    require(bool(np.all(np.isfinite(matrix))), "correlation", "NaN or infinity", "finite")
    return _exponential_entropy(np.asarray(np.linalg.eigvalsh(matrix), dtype=np.float64))


def effective_trials(returns: FloatArray) -> float:
    """Return the effective number of trials in returns (T, N), NaN where no trial has any variance.

    A missing session (NaN) counts as a return at its trial's mean: two trials are correlated on the sessions
    that they share. Constant trials are left out.
    """
    values = return_matrix(returns, missing=True)
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    mean = np.where(present, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    centred = np.where(present, values - mean, 0.0)
    length = np.sqrt(np.sum(centred**2, axis=0))
    varied = length > RELATIVE_ROUNDING * np.abs(mean) * np.sqrt(count)
    if not varied.any():
        return float("nan")
    unit = centred[:, varied] / length[varied]
    smaller = unit @ unit.T if unit.shape[0] < unit.shape[1] else unit.T @ unit  # both have these eigenvalues
    return _exponential_entropy(np.asarray(np.linalg.eigvalsh(smaller), dtype=np.float64))


def _exponential_entropy(eigenvalues: FloatArray) -> float:
    positive = eigenvalues[eigenvalues > 0]
    shares = positive / positive.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))
