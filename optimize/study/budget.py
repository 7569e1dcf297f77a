"""Budget of a timeframe phase in words: the lead it resolves, and the sessions or trials for a finer one."""

import math

from optimize.evaluate.confidence import MIN_SESSIONS
from optimize.evaluate.power import POWER, Precision, expected_precision

SEEDS = 1.0  # annual Sharpe ratio that another seed is expected to move a trial by, before any ran


def launch_line(
    *, combinations: int, trials: int, sessions: int, sessions_per_year: float, confidence: float
) -> str | None:
    """Return how finely a timeframe phase of this size resolves; None where there is nothing to compare."""
    if combinations < 2:
        return None
    if sessions < MIN_SESSIONS:
        return (
            f"the test windows have {sessions} sessions, and below {MIN_SESSIONS} phase 1 cannot decide: it "
            "will keep every combination. Give it more data (data.months, data.start or a longer file) or a "
            "smaller window.train_ratio, or save its trials with phase=single"
        )
    expected = expected_precision(
        count=combinations,
        sessions=sessions,
        trials=trials,
        per_year=sessions_per_year,
        size=1 - confidence,
        seeds=SEEDS,
    )
    lead = expected.resolved * math.sqrt(sessions_per_year)
    return (
        f"{sessions} test sessions and {trials} trials for each of {combinations} combinations show a lead "
        f"of about {lead:.1f} in annual Sharpe ratio ({POWER:.0%} of cases if a seed moves it by {SEEDS:g}); "
        "a smaller one takes more sessions or a larger phase.timeframe.n_trials"
    )


def resolution(found: Precision, sessions_per_year: float) -> str:
    """Return the least lead that a finished comparison resolves."""
    return f"a lead of {found.resolved * math.sqrt(sessions_per_year):.1f} shows in {POWER:.0%} of cases"


def needed(found: Precision, sessions_per_year: float) -> str:
    """Return how many sessions or trials it would take to tell the best by the lead it has."""
    if found.lead <= 0:
        return "the combinations are equal: no number of sessions or trials tells them apart"
    lead = f"{found.lead * math.sqrt(sessions_per_year):.1f}"
    sessions, trials = found.sessions_for(found.lead), found.trials_for(found.lead)
    ways = []
    if sessions is not None:
        ways.append(f"{_least(sessions)} test sessions with {found.trials:g} trials each")
    if trials is not None and found.sessions >= MIN_SESSIONS:
        ways.append(f"{max(2, math.ceil(trials))} trials each with {found.sessions} sessions")
    if not ways:
        more, each = found.both_for(found.lead)
        ways.append(f"{_least(more)} test sessions with {max(2, math.ceil(each))} trials each")
    return (
        f"the best leads the mean of the others by {lead} in annual Sharpe ratio, luck included; to show "
        f"such a lead in {POWER:.0%} of cases takes about {', or '.join(ways)}"
    )


def _least(sessions: float) -> int:
    """Return a number of sessions to ask for, in two digits, and never below those that can decide."""
    unit: int = 10 ** max(0, math.floor(math.log10(max(sessions, 1))) - 1)
    return max(MIN_SESSIONS, math.ceil(sessions / unit) * unit)
