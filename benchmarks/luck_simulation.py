"""Simulated families of trials without skill, and with one, through the code of the board's verdict.

The sessions of the trials and of buy-and-hold are 51 equally correlated series, so that the trials are as
correlated in their returns beyond buy-and-hold as in their returns. A median pruner, with the settings of a
study, stops trials by their running score; a second study is tested on the later half of the sessions and on
as many after them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.types import BoolArray, FloatArray, IntArray
from optimize.evaluate.metrics import sharpe_ratio
from optimize.report.luck import StudyLuck, luck_of_family, verdict_of
from optimize.results.family import Family, FamilyRun
from optimize.results.records import StudyRecord
from optimize.results.states import LuckVerdict
from optimize.results.tries import Tries
from optimize.search.pruners import is_worse_than_median
from optimize.search.spec import PrunerSpec

YEAR = 252.0
SESSIONS, TRIALS = 250, 50
ENDS = (50, 100, 150, 200, 250)  # of the windows, for the pruner
CORRELATION = 0.5
VOLATILITY = 0.01  # of a session
DEGREES, ALPHA, BETA = 4, 0.12, 0.83  # of Student's t, and of the GARCH process
STUDY = StudyRecord("simulated", "single", TRIALS, 0, 1, {}, {}, "", {"risk_free": 0.0}, "", "", {})
FOUND = LuckVerdict.FOUND


@dataclass(frozen=True)
class Kind:
    """One kind of family."""

    heavy: bool = False  # tails of Student's t and clusters of volatility
    pruned: bool = False
    overlapping: bool = False  # half of the trials are of another study on later sessions


KINDS = {
    "normal": Kind(),
    "t and GARCH": Kind(heavy=True),
    "pruned": Kind(pruned=True),
    "overlapping": Kind(overlapping=True),
}


def draw(kind: Kind, rng: np.random.Generator, columns: int = TRIALS + 1) -> FloatArray:
    """Return session returns (T, columns) of mean zero and equal correlation; the last is buy-and-hold."""
    sessions = SESSIONS * 3 // 2 if kind.overlapping else SESSIONS
    common, own = rng.standard_normal((sessions, 1)), rng.standard_normal((sessions, columns))
    if kind.heavy:
        scale = np.sqrt(DEGREES / (DEGREES - 2))
        common, own = (rng.standard_t(DEGREES, each.shape) / scale for each in (common, own))
    returns = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own
    if kind.heavy:
        returns *= clustered(rng, sessions)[:, None]
    return np.asarray(VOLATILITY * returns)


def clustered(rng: np.random.Generator, sessions: int) -> FloatArray:
    """Return a volatility (sessions,) that follows a GARCH(1, 1) process of mean variance 1."""
    shocks, variance = rng.standard_normal(sessions) ** 2, np.ones(sessions)
    for session in range(1, sessions):
        variance[session] = 1 - ALPHA - BETA + (ALPHA * shocks[session - 1] + BETA) * variance[session - 1]
    return np.asarray(np.sqrt(variance))


def stopped(
    returns: FloatArray, spec: PrunerSpec, ends: Sequence[int] | IntArray, spared: int | None = None
) -> BoolArray:
    """Return which trials (N,) of returns (T, N) a median pruner stops; clear their later returns.

    ends: index after the last session of each window. spared: a trial that is not stopped.
    """
    reported: list[list[float]] = [[] for _ in ends]
    found = np.zeros(returns.shape[1], np.bool_)
    for trial in range(returns.shape[1]):
        for step, end in enumerate(ends):
            score, others = sharpe_ratio(returns[:end, trial], YEAR), reported[step]
            judged = step >= spec.n_warmup_steps and len(others) >= spec.n_startup_trials
            worse = judged and is_worse_than_median(score, others, maximize=True)
            others.append(score)
            if worse and end < len(returns) and trial != spared:
                returns[end:, trial], found[trial] = np.nan, True
                break
    return found


def family(kind: Kind, returns: FloatArray, spared: int | None = None) -> Family:
    """Return the family of these returns, as it would be loaded from a database; `spared` is not pruned."""
    trials, hold = returns[:, :-1].copy(), returns[:, -1:]
    count, other = trials.shape[1], np.zeros(trials.shape[1], np.bool_)
    if kind.overlapping:
        other[::2] = True
        trials[SESSIONS:, ~other] = np.nan
        trials[: SESSIONS // 2, other] = np.nan
    pruned = stopped(trials, PrunerSpec(), ENDS, spared) if kind.pruned else np.zeros(count, np.bool_)
    scores = [sharpe_ratio(column[np.isfinite(column)], YEAR) for column in trials.T]
    runs = tuple(
        FamilyRun(
            study_name="other" if other[number] else STUDY.study_name,
            parameter_set=str(number),
            run_uuid=str(number),
            trial_number=number,
            score=None if pruned[number] else scores[number],
            pruned=bool(pruned[number]),
            timeframe="1d",
        )
        for number in range(count)
    )
    sessions = np.datetime64("2020-01-01") + np.arange(len(trials))
    return Family(runs, trials, hold, np.zeros(count, np.int64), sessions, Tries(count, count), count)


def luck(found: Family) -> StudyLuck:
    """Return the luck that the board of the study shows, without intervals."""
    return luck_of_family(found, STUDY, TRIALS, YEAR, intervals=0)


def fires(name: str, seed: int) -> dict[str, float]:
    """Return whether one family without skill is found better than flat, and than buy-and-hold."""
    kind = KINDS[name]
    test = luck(family(kind, draw(kind, np.random.default_rng([seed, 1])))).test
    return {"flat": test.verdict == FOUND, "buy_and_hold": test.verdict_buy_and_hold == FOUND}


def detects(name: str, seed: int) -> dict[str, float]:
    """Return the Sharpe ratio that the power line names, and whether a trial that has it is found.

    The trial takes the place of the last one and is not pruned; its mean is equal against both.
    """
    kind = KINDS[name]
    returns = draw(kind, np.random.default_rng([seed, 2]), TRIALS + 2)
    named = luck(family(kind, returns[:, 1:])).test.detectable_sharpe
    assert named is not None
    returns[:, 0] += VOLATILITY * named / np.sqrt(YEAR)
    planted = np.column_stack((returns[:, 2:-1], returns[:, 0], returns[:, -1]))
    sets = {each.trial_number: each for each in luck(family(kind, planted, spared=TRIALS - 1)).sets}
    own = sets[TRIALS - 1]
    p_values = {"flat": own.p_flat, "buy_and_hold": own.p_buy_and_hold}
    return {"named": named} | {key: verdict_of(p_value) == FOUND for key, p_value in p_values.items()}
