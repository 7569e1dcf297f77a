"""Explanations of a decision: the reason for its order, and the age of its bars."""

from optimize.data.bars import utc_text
from optimize.data.timeframes import DAY_NS, HOUR_NS
from optimize.walkforward.spec import RunSpec

NO_BAR = "no bar: no order"
YEAR_DAYS = 365.25


def reason_of(
    spec: RunSpec, asked: float, holding: float, traded: bool, *, forced: bool, exiting: bool
) -> str:
    """Return the reason for an order, as the end of a sentence."""
    if forced:
        return "closed by the session's forced exit, over the target of the policy"
    if exiting and asked != 0.0:
        return "no order: the session's exit time has come, and nothing is opened until the next session"
    if traded:
        return "the policy's target, within env.max_leverage and env.max_weights"
    if spec.env.action == "discrete":
        return "no order: the policy keeps its choice"
    if holding == 0.0 and abs(asked) <= spec.env.rebalance_band:
        return f"no order: the target is within env.rebalance_band={spec.env.rebalance_band:g} of flat"
    return f"no order: the target is within env.rebalance_band={spec.env.rebalance_band:g} of the holding"


def closing_words(closes_ns: int | None, held: float) -> str:
    """Return a remark that the position is closed if the order's bar ends the session, else an empty text."""
    if closes_ns is None or held == 0.0:
        return ""
    return (
        f"; no later bar of the session is its exit, so it is closed at the last close, {utc_text(closes_ns)}"
    )


def span_words(span_ns: int) -> str:
    """Return a span of time in hours, days or years."""
    if span_ns < 2 * DAY_NS:
        return f"{span_ns / HOUR_NS:.1f} hours"
    days = span_ns / DAY_NS
    return f"{days:.0f} days" if days < 2 * YEAR_DAYS else f"{days / YEAR_DAYS:.1f} years"
