"""The verdict of phase 1 in words, and the lead that the budget of a launch can show."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from optimize.evaluate.precision import Precision
from optimize.report.timeframe_phase import launch_line, verdict_lines
from optimize.results.timeframe_verdict import Combination, Verdict


def verdict_of(**changes: Any) -> Verdict:
    """Return evidence that was never judged."""
    pairs = (Combination("1h", 2, 4, 4, (1.0, 2.0), 1.5, 0.5, 1.0, kept=True),)
    plain = Verdict("two.timeframe", "0" * 64, "rule", 0.9, 1000, 2, 30, 0.1, pairs, ("1h",), (2,))
    return dataclasses.replace(plain, **changes)


ONE_EACH = tuple(Combination(each, 2, 4, 4, p_value=0.7, kept=True) for each in ("1h", "4h"))


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "only 1h was compared: 1 of 1 combinations is kept"),
        (
            {"combinations": ONE_EACH, "timeframes": ("1h", "4h")},
            "not enough data to decide: no combination can be told from the best (2 of 2 combinations are",
        ),
        (
            {"sessions": 12, "combinations": (Combination("1h", 2, 4, 4, kept=True),)},
            "not enough data to decide: all timeframes are kept (1 of 1 combinations",
        ),
        (
            {
                "combinations": tuple(
                    Combination(each, 2, 4, 4, p_value=p, kept=p > 0.1)
                    for each, p in (("1h", 1.0), ("2h", 0.5), ("4h", 0.01))
                ),
                "timeframes": ("1h", "2h"),
            },
            "1h, 2h cannot be told from the best: 2 of 3 combinations are kept",
        ),
    ],
)
def test_the_verdict_is_told_in_words(changes: dict[str, Any], verdict: str) -> None:
    assert verdict_lines(verdict_of(**changes))[0].startswith(verdict)


def test_the_effect_of_seeds_is_an_interval_or_cannot_be_told() -> None:
    told = verdict_lines(verdict_of(seed_deviation=0.8, seed_low=0.4, seed_high=1.3))[-1]
    assert "seeds move a Sharpe ratio by 0.80 (90% interval 0.40 to 1.30)" in told
    clamped = verdict_lines(verdict_of(seed_deviation=0.0, seed_low=0.0, seed_high=1.3))[-1]
    assert "the effect of seeds on a Sharpe ratio cannot be told from luck (0 to 1.30)" in clamped


def test_an_undecided_verdict_names_the_sessions_and_trials_it_would_take() -> None:
    found = Precision(of_sessions=1.2, of_seeds=0.01, sessions=300, trials=4.0, quantile=3.5, lead=0.2)
    undecided = {"combinations": ONE_EACH, "sessions_per_year": 365.0}
    lines = verdict_lines(verdict_of(precision=found, **undecided))
    assert "the best leads the mean of the others by 3.8 in annual Sharpe ratio, luck included" in lines[2]
    assert "takes about 1600 test sessions with 4 trials each" in lines[2]
    assert lines[3].endswith("a lead of 5.4 shows in 80% of cases")
    twelve = verdict_lines(verdict_of(precision=replace(found, lead=0.1), **undecided))
    assert "3000 test sessions with 25 trials each" in twelve[2]
    alike = verdict_lines(verdict_of(precision=replace(found, lead=0.0), **undecided))
    assert alike[2] == "the combinations are equal: no number of sessions or trials tells them apart"


@pytest.mark.parametrize(
    ("sessions", "words"),
    [
        (120, "the test windows have 120 sessions, and below 250 phase 1 cannot decide"),
        (1000, "1000 test sessions and 5 trials for each of 20 combinations show a lead of about 3.5"),
    ],
)
def test_a_launch_names_the_lead_that_its_budget_shows(sessions: int, words: str) -> None:
    told = launch_line(combinations=20, trials=5, sessions=sessions, sessions_per_year=252.0, confidence=0.9)
    assert told is not None
    assert told.startswith(words)
    alone = launch_line(combinations=1, trials=5, sessions=9, sessions_per_year=252.0, confidence=0.9)
    assert alone is None
