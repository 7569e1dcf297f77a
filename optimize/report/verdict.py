"""The verdict on luck in plain words, for boards, notes, cards and commands."""

from optimize.report.format import format_score, number, probability
from optimize.report.tables import Column
from optimize.results.luck import LuckRecord, LuckTest
from optimize.results.queries import LeaderboardRow
from optimize.results.states import LuckVerdict
from optimize.results.tries import Tries

LUCK_COLUMNS = (
    Column("interval", "95 % interval"),
    Column("psr", "PSR", probability, detail=True),
    Column("deflated_sharpe_ratio", "deflated", probability),
    Column("p_flat", "p (flat)", probability),
    Column("p_buy_and_hold", "p (hold)", probability),
)
HELD = "{gone} of them, of which the database holds no returns, count as independent ones"
VERDICT_WORDS = {
    LuckVerdict.FOUND: "FOUND",
    LuckVerdict.LUCK: "LUCK",
    LuckVerdict.CANNOT_TELL: "CANNOT TELL",
}
LUCK_LEGEND = (
    "interval: 95 % of the Sharpe ratio of the session returns; PSR: probability that the true ratio is "
    "above 0; deflated: that it is above the one that chance alone would show; p: how often the best of all "
    "tries does as well without skill, against flat and against buy-and-hold"
)


def interval_of(row: LeaderboardRow) -> str:
    """Return the interval of a row's Sharpe ratio, a dash where none was measured."""
    if row.sharpe_low is None or row.sharpe_high is None:
        return "-"
    return f"{format_score(row.sharpe_low)} to {format_score(row.sharpe_high)}"


def luck_lines(test: LuckTest) -> list[str]:
    """Return the verdict against flat, against buy-and-hold, the count of tries, and the power."""
    return [flat_line(test), hold_line(test), tries_line(test), *power_lines(test)]


def flat_line(test: LuckTest) -> str:
    """Return whether the best trial has skill at all."""
    word = f"verdict: {VERDICT_WORDS[test.verdict]}"
    if test.p_flat is None:
        return f"{word}: nothing has enough test sessions with returns that vary"
    trial = f"{_subject(test.trial_number)} (Sharpe ratio {format_score(test.sharpe)})"
    alone = "one try" if test.n_tries == 1 else "the best of them"
    chance = (
        f"after {_tries(test)} chance alone would show {format_score(test.chance_sharpe)}, and without any "
        f"skill {alone} does as well as this in {_cases(test.p_flat)} of 100 cases"
    )
    if test.verdict == LuckVerdict.FOUND:
        return f"{word}: {trial} is more than luck: {chance}"
    if test.verdict == LuckVerdict.LUCK:
        return f"{word}: {trial} is no evidence of skill: {chance}"
    return f"{word}: {trial} may be skill or luck: {chance}, where 5 or fewer are needed"


def hold_line(test: LuckTest) -> str:
    """Return whether the best trial earns more than buy-and-hold."""
    if test.p_buy_and_hold is None:
        return f"against buy-and-hold: {VERDICT_WORDS[test.verdict_buy_and_hold]}: no returns to compare"
    if test.verdict_buy_and_hold == LuckVerdict.FOUND:
        earned = f"{_subject(test.trial_buy_and_hold)} earned more, beyond luck"
    elif test.trial_buy_and_hold is None:
        earned = f"{_subject(None)} is not shown to earn more"
    else:
        earned = f"no trial is shown to earn more; {_subject(test.trial_buy_and_hold)} comes closest"
    return (
        f"against buy-and-hold: {VERDICT_WORDS[test.verdict_buy_and_hold]}: {earned} "
        f"(p {probability(test.p_buy_and_hold)} after all tries)"
    )


def tries_line(test: LuckTest) -> str:
    """Return how many tries stand behind the verdict."""
    gone = test.n_tries - test.n_held
    as_of = f"; as of {test.as_of_trials} trials" if test.trial_number is not None else ""
    held = f"; {HELD.format(gone=gone)}" if gone > 0 else ""
    return (
        f"tries: {test.n_tries} on this instrument and these dates in the database, {test.n_tries_all} on "
        f"these dates on all instruments{held}{as_of}"
    )


def power_lines(test: LuckTest) -> list[str]:
    """Return the smallest Sharpe ratio that the sessions can detect, nothing where it is unknown."""
    if test.critical_flat is None:
        return []
    return [power_line(test.detectable_sharpe, test.n_sessions, test.n_tries)]


def power_line(detectable: float | None, sessions: int, tries: int) -> str:
    """Return the power in one line; None: no Sharpe ratio is large enough."""
    after = f"after {tries} {'try' if tries == 1 else 'tries'}"
    if detectable is None:
        return f"power: {sessions} test sessions cannot detect any Sharpe ratio {after}"
    return (
        f"power: {sessions} test sessions can detect a Sharpe ratio of at least "
        f"{format_score(detectable)} {after}, in 80 % of cases"
    )


def planned_power_line(tries: Tries, planned: int, sessions: int, sessions_per_year: float) -> str:
    """Return the power that a study will have at its cap, as if its trials were independent."""
    from optimize.evaluate.luck.power import detectable_sharpe, sidak_critical_value

    total = max(tries.same_instrument + planned, 1)
    critical = sidak_critical_value(n_trials=total, confidence=0.95)
    found = detectable_sharpe(critical_value=critical, n_sessions=max(sessions, 2))
    annual = found * sessions_per_year**0.5
    before = f"; {tries.same_instrument} of the tries were made before" if tries.same_instrument else ""
    return power_line(annual if annual < float("inf") else None, sessions, total) + before


def set_line(luck: LuckRecord | LeaderboardRow) -> str:
    """Return the luck of one parameter set in one line."""
    if luck.n_tries is None:
        return "its luck was not measured"
    interval = "no interval"
    if luck.sharpe_low is not None and luck.sharpe_high is not None:
        interval = f"95 % interval {format_score(luck.sharpe_low)} to {format_score(luck.sharpe_high)}"
    return (
        f"{interval}; PSR {probability(luck.psr)}, deflated Sharpe ratio "
        f"{probability(luck.deflated_sharpe_ratio)} after {luck.n_tries} tries; p against flat "
        f"{probability(luck.p_flat)}, against buy-and-hold {probability(luck.p_buy_and_hold)}"
    )


def _subject(trial: int | None) -> str:
    return "this configuration" if trial is None else f"trial {trial}"


def _tries(test: LuckTest) -> str:
    return f"{test.n_tries} {'try' if test.n_tries == 1 else 'tries'}"


def _cases(p_value: float) -> str:
    """Return a p-value as the number of cases in 100."""
    cases = 100 * p_value
    if cases < 0.1:
        return "less than 0.1"
    return number(1)(cases) if cases < 10 else number(0)(cases)
