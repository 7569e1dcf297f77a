"""The timeframe phase in words: its verdict, and the lead in Sharpe ratio that its budget resolves."""

import math

from optimize.evaluate.confidence_set import MIN_SESSIONS
from optimize.evaluate.precision import POWER, Precision
from optimize.evaluate.precision_estimate import INTERVAL, expected_precision
from optimize.report.format import number
from optimize.results.timeframe_verdict import Verdict

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
    lead = number(1)(expected.resolved * math.sqrt(sessions_per_year))
    return (
        f"{sessions} test sessions and {trials} trials for each of {combinations} combinations show a lead "
        f"of about {lead} in annual Sharpe ratio ({POWER:.0%} of cases if a seed moves it by {SEEDS:g}); "
        "a smaller one takes more sessions or a larger phase.timeframe.n_trials"
    )


def resolution(found: Precision, sessions_per_year: float) -> str:
    """Return the least lead that a finished comparison resolves."""
    return (
        f"a lead of {number(1)(found.resolved * math.sqrt(sessions_per_year))} shows in {POWER:.0%} of cases"
    )


def needed(found: Precision, sessions_per_year: float) -> str:
    """Return the number of sessions or trials that would separate the best by its present lead."""
    if found.lead <= 0:
        return "the combinations are equal: no number of sessions or trials tells them apart"
    lead = number(1)(found.lead * math.sqrt(sessions_per_year))
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


def verdict_lines(evidence: Verdict) -> list[str]:
    """Return lines on the kept combinations, the search of the model phase, and the rule behind them."""
    lookbacks = ", ".join(map(str, evidence.lookbacks))
    searched = f"timeframes {', '.join(evidence.timeframes)}, lookbacks {lookbacks}"
    lines = [_verdict(evidence), f"the model phase searches {searched}"]
    if evidence.added:
        pairs = ", ".join(f"{each.timeframe} x {each.lookback}" for each in evidence.added)
        lines[-1] += (
            f", in every pairing: {pairs} too, which were not kept: timeframe and lookback are searched as "
            "two lists"
        )
    precision, year = evidence.precision, evidence.sessions_per_year
    several = sum(each.reason is None for each in evidence.combinations) > 1
    if precision is not None and year is not None and several and not evidence.decided:
        lines.append(needed(precision, year))
    counts = f"{evidence.sessions} sessions, blocks of {evidence.block}, {evidence.bootstraps} bootstraps"
    rule = f"rule: {evidence.rule}; {100 * evidence.confidence:g} % confidence, {counts}, {_seeds(evidence)}"
    if precision is not None and year is not None:
        rule = f"{rule}; {resolution(precision, year)}"
    lines.append(rule)
    if evidence.compared:
        lines.append(f"compared: {evidence.compared}")
    return lines


def _verdict(evidence: Verdict) -> str:
    compared = {each.timeframe for each in evidence.combinations if each.reason is None}
    total, kept = len(evidence.combinations), len(evidence.kept)
    share = f"{kept} of {total} combinations {'is' if kept == 1 else 'are'} kept"
    if all(each.p_value is None for each in evidence.combinations):
        whole = "all timeframes are kept" if kept == total else "what has scores is kept"
        few = f"{evidence.sessions} test sessions, and {MIN_SESSIONS} are the least"
        return f"not enough data to decide: {whole} ({share}; {few})"
    if len(compared) == 1 and kept < 2:
        return f"only {evidence.timeframes[0]} was compared: {share}"
    if not evidence.decided:
        return f"not enough data to decide: no combination can be told from the best ({share})"
    if len(compared) == 1:
        return f"only {evidence.timeframes[0]} was compared: {share}"
    if compared == set(evidence.timeframes):
        return f"no timeframe can be told from the best: all {len(compared)} are kept ({share})"
    if len(evidence.timeframes) == 1:
        return f"{evidence.timeframes[0]} is better than every other timeframe ({share})"
    return f"{', '.join(evidence.timeframes)} cannot be told from the best: {share}"


def _seeds(evidence: Verdict) -> str:
    """Return how far seeds move a Sharpe ratio, with an interval: few trials may agree by luck."""
    low, high = evidence.seed_low, evidence.seed_high
    if low is None or high is None:
        return f"seeds move a Sharpe ratio by {number()(evidence.seed_deviation)}"
    if low == 0:
        return f"the effect of seeds on a Sharpe ratio cannot be told from luck (0 to {number()(high)})"
    interval = f"{INTERVAL:.0%} interval {number()(low)} to {number()(high)}"
    return f"seeds move a Sharpe ratio by {number()(evidence.seed_deviation)} ({interval})"
