"""Names of baselines, the best of them, and meanings of standard errors in tables and pictures."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

BUY_AND_HOLD = "buy_and_hold"
BUY_AND_HOLD_OVERNIGHT = "buy_and_hold_overnight"  # in markets whose sessions end flat: bought once a window
LINEAR_PROBE = "linear probe"  # a ridge regression on the inputs of an agent, traded as the agent is
REBOUGHT = "bought anew each session"
REBOUGHT_REASON = f"{REBOUGHT}, as sessions end flat"
ERROR_MEANINGS = {  # meaning of the standard error for each kind of score
    "joined": "of the Sharpe ratio of these sessions, with their autocorrelation",
    "mean_window": "of the mean over windows, from 4 windows on",
    "median_window": "none, for that of a median over windows is not known",
    "lower_bound": "of the mean over windows, from 4 windows on",
}


def baseline_label(name: str, bought_anew: bool) -> str:
    """Return the stored name of a baseline, qualified for tables, pictures and notes."""
    return f"{name} ({REBOUGHT})" if bought_anew else name


class ScoredBaseline(Protocol):
    """A baseline as it was evaluated, or as it is stored."""

    @property
    def score(self) -> float | None:
        """Return its score; None where that is undefined."""


B = TypeVar("B", bound=ScoredBaseline)


def best_baseline(baselines: Sequence[B]) -> B | None:
    """Return the baseline of the highest score, of all timeframes; None where none has one."""
    scored = [each for each in baselines if each.score is not None]
    return max(scored, key=lambda each: each.score or 0.0, default=None)


def better_baseline(baselines: Sequence[B], score: float) -> B | None:
    """Return the best baseline where it scores at least as well as a policy, else None."""
    best = best_baseline(baselines)
    return best if best is not None and best.score is not None and best.score >= score else None
