"""Two one-sided t-tests of whether two ways to train are worth the same, within a margin."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALPHA = 0.05


@dataclass(frozen=True)
class Equivalence:
    """What pairs of scores say about the mean of their differences."""

    pairs: int
    mean_difference: float
    deviation: float  # of the differences
    low: float  # of the 1 - 2 * ALPHA confidence interval, which the tests hold inside the margin
    high: float
    margin: float
    p: float  # the larger of the two one-sided ones
    power: float  # of these tests at this deviation if the true difference were 0
    p_difference: float  # of the two-sided t-test that there is a difference at all
    correlation: float  # of the paired scores; NaN where one side does not vary

    @property
    def equivalent(self) -> bool:
        """Return whether a difference as large as the margin is refused on both sides."""
        return self.p < ALPHA

    def plain(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        rounded = {
            key: value if key == "pairs" else round_to(value, 4) for key, value in asdict(self).items()
        }
        return rounded | {"equivalent": self.equivalent}


def equivalence(ours: NDArray[np.float64], theirs: NDArray[np.float64], margin: float) -> Equivalence:
    """Test whether the mean of ours - theirs (n,), paired, lies within +- margin (Schuirmann 1987)."""
    differences = ours - theirs
    count = len(differences)
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    error = max(deviation / np.sqrt(count), np.finfo(np.float64).tiny)
    freedom = count - 1
    reach = stats.t.ppf(1 - ALPHA, freedom) * error
    above = stats.t.sf((mean + margin) / error, freedom)  # of a true difference of -margin or less
    below = stats.t.cdf((mean - margin) / error, freedom)
    return Equivalence(
        pairs=count,
        mean_difference=mean,
        deviation=deviation,
        low=mean - reach,
        high=mean + reach,
        margin=margin,
        p=float(max(above, below)),
        power=power(margin, deviation, count),
        p_difference=float(2 * stats.t.sf(abs(mean) / error, freedom)),
        correlation=float(np.corrcoef(ours, theirs)[0, 1]) if ours.std() * theirs.std() > 0 else float("nan"),
    )


def power(margin: float, deviation: float, count: int) -> float:
    """Return the chance of proving equivalence where there is no difference (Phillips 1990, approximately).

    The mean of the differences must come to lie within the margin less the reach of the one-sided tests.
    """
    error = deviation / np.sqrt(count)
    if error == 0:
        return 1.0
    room = margin / error - stats.t.ppf(1 - ALPHA, count - 1)
    return float(max(0.0, 1 - 2 * stats.t.sf(room, count - 1)))


def sharpe_error(sharpe: float, sessions: int, sessions_per_year: float) -> float:
    """Return the standard error of an annualised Sharpe ratio over so many sessions (Lo 2002, equation 9)."""
    of_one_session = sharpe / np.sqrt(sessions_per_year)
    return float(np.sqrt(sessions_per_year * (1 + of_one_session**2 / 2) / sessions))


def round_to(value: float, digits: int) -> float | None:
    """Return the value with so many digits, None for a value that is not a number."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
