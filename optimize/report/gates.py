"""Lines on the trials that gates keep out of a ranking, and on the flags of those that are in it."""

from collections.abc import Sequence

from optimize.database import Connection
from optimize.errors import WalkforgeError
from optimize.results.queries import LeaderboardRow
from optimize.results.runs import count_gated

IMPLAUSIBLE = "implausible"  # value of `accept` with which flagged trials are exported
FLAG_MEANINGS = {
    "implausible_sharpe": "a net Sharpe ratio above gate.implausible_sharpe on market data",
    "smoothed_prices": "returns of neighbouring bars that move together, as those of averaged prices do",
    "interest": "a Sharpe ratio that counts interest on cash, as cost.cash_rate is above score.risk_free",
}


def gate_lines(conn: Connection, study: str, rows: Sequence[LeaderboardRow]) -> list[str]:
    """Return which gate blocks how many trials of a study, and the flags of the rows that are shown."""
    lines = [line] if (line := blocked_line(count_gated(conn, study))) else []
    return lines + [
        f"rank {row.rank} (trial {row.trial_number}) is flagged {flag}: {FLAG_MEANINGS[flag]}"
        for row in rows
        for flag in split_flags(row.flags)
    ]


def mark_lines(gate: str | None, flags: str | None) -> list[str]:
    """Return the lines on one result: the gate that keeps it out of a ranking, and its flags."""
    blocked = [] if gate is None else [f"gate.{gate} blocks this result: no ranking and no export takes it"]
    return blocked + [f"flagged {flag}: {FLAG_MEANINGS[flag]}" for flag in split_flags(flags)]


def blocked_line(blocked: dict[str, int]) -> str:
    """Return which gate blocks how many trials, empty where none does."""
    if not blocked:
        return ""
    total = sum(blocked.values())
    each = ", ".join(f"{number} by gate.{name}" for name, number in blocked.items())
    return (
        f"blocked by gates and not ranked: {total} trial{'s' * (total != 1)} ({each}); the view gated_trials "
        "of the database lists them"
    )


def split_flags(flags: str | None) -> list[str]:
    """Return the names of stored flags."""
    return [] if flags is None else flags.split(", ")


def refuse_flagged(rows: Sequence[LeaderboardRow], accept: str | None) -> None:
    """Raise WalkforgeError for the first row with a flag, unless accept is "implausible"."""
    flagged = next((row for row in rows if row.flags), None)
    if flagged is None or accept == IMPLAUSIBLE:
        return
    reasons = "; ".join(f"{flag}, {FLAG_MEANINGS[flag]}" for flag in split_flags(flagged.flags))
    raise WalkforgeError(
        f"trial {flagged.trial_number} (rank {flagged.rank}) is flagged as implausible ({reasons}): look for "
        "the fault in data and costs first; accept=implausible exports it as it is"
    )
