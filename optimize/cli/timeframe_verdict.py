"""Verdict of a timeframe phase, printed below its leaderboard."""

import dataclasses

from optimize.database import Engine
from optimize.report.format import format_score, number
from optimize.report.tables import Column, say, show
from optimize.results.timeframe_verdict import RULE, Combination, Verdict, stored_evidence

EVIDENCE_COLUMNS = (
    Column("timeframe", "timeframe"),
    Column("lookback", "lookback"),
    Column("scored", "trials with a score"),
    Column("mean", "mean Sharpe", format_score),
    Column("standard_error", "standard error", number()),
    Column("p_value", "p", number(3)),
    Column("verdict", "verdict", right=False),
)
P_VALUE = (
    "p: the chance that equally good combinations lie as far apart as those still compared when this one, "
    "the worst of them, left (never below the p of one that left before)"
)


def show_evidence(engine: Engine, study: str) -> None:
    """Print how the combinations of a timeframe phase compare, once it has a verdict."""
    with engine.connect() as conn:
        evidence = stored_evidence(conn, study)
    if evidence is None:
        return
    say("")
    unscored = float("-inf")
    best_first = sorted(
        evidence.combinations, key=lambda each: -(unscored if each.mean is None else each.mean)
    )
    from optimize.report.timeframe_phase import verdict_lines  # loads numpy: not for every board

    verdict, *rest = verdict_lines(evidence)
    say(verdict)
    show(
        [_row(each) for each in best_first],
        EVIDENCE_COLUMNS,
        "table",
        title=f"timeframe x lookback of {study}",
    )
    for line in (_explained(evidence), *rest):
        say(line)


def _explained(evidence: Verdict) -> str:
    size = 1 - evidence.confidence
    if evidence.rule != RULE:  # of an older version, with another statistic
        return (
            f"p: the size of the test above which a combination is dropped; kept: where p is above {size:.2g}"
        )
    return (
        f"{P_VALUE}; kept: where p is above {size:.2g}; if all were equally good, all would be kept with "
        f"{100 * evidence.confidence:g} % confidence"
    )


def _row(each: Combination) -> dict[str, object]:
    verdict = "kept" if each.kept else "dropped" if each.reason is None else f"not compared: {each.reason}"
    return dataclasses.asdict(each) | {"verdict": verdict, "scored": f"{each.scores} of {each.trials}"}
