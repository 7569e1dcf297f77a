"""The rows of a leaderboard that pass the gates of an export; each refusal has the name of its gate."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from optimize.bundles.finalist_rows import finalist_leaderboard
from optimize.bundles.gates import LUCK_GATES, GateCheck, GateSpec, checks_of_row, checks_of_study
from optimize.database import Connection, Engine
from optimize.errors import WalkforgeError
from optimize.results.queries import LeaderboardRow, best_models

MOST_NAMED = 10  # refused trials that are named one by one


@dataclass(frozen=True)
class PassedRow:
    """A row of the leaderboard that passed every gate, with the figures that they judged."""

    row: LeaderboardRow
    checks: tuple[GateCheck, ...]


@dataclass(frozen=True)
class GateRefusal:
    """A trial that a gate blocked."""

    trial: int
    check: GateCheck

    def __str__(self) -> str:
        return f"trial {self.trial} is refused by {self.check.name}: {self.check.refusal}"


def gated_rows(
    engine: Engine, study: str, top_n: int, gates: GateSpec, echo: Callable[[str], None]
) -> list[PassedRow]:
    """Return the best rows of the leaderboard that pass the gates, empty where no trial has a score.

    Trials that were added by hand have no run and are left out. Raises WalkforgeError where the gates refuse
    every trial.
    """
    passed, refused, by_hand, seen = list[PassedRow](), list[GateRefusal](), list[LeaderboardRow](), 0
    of_study: list[GateCheck] | None = None
    for row in _ranked(engine, study, top_n):
        seen += 1
        if row.run_uuid is None:
            by_hand.append(row)
            continue
        with engine.connect() as conn:
            if of_study is None:
                of_study = _until_refused(checks_of_study(conn, gates, study, row.sessions_per_year))
                if of_study and (why := of_study[-1]).refusal is not None:
                    head = f"every trial of {study} is refused by {why.name}: {why.refusal}"
                    raise WalkforgeError(f"{head}. {_remedy(why)}")
            checks = _until_refused(checks_of_row(conn, gates, row))
        if checks and checks[-1].refusal is not None:
            refused.append(GateRefusal(row.trial_number, checks[-1]))
        else:
            passed.append(PassedRow(row, (*of_study, *checks)))
        if len(passed) == top_n:
            break
    _report(by_hand, refused, echo)
    if refused and not passed:
        names = ", ".join(dict.fromkeys(each.check.name for each in refused))
        head = f"no trial of {study} passes the gates: {len(refused)} refused by {names}"
        raise WalkforgeError(f"{head}. {_remedy(refused[0].check)}")
    if seen and len(passed) < top_n:
        kind = "pass the gates" if refused else "are feasible"
        echo(f"top_n={top_n} were asked for; {len(passed)} distinct trials {kind}")
    return passed


def checks_of_ensemble(
    conn: Connection,
    gates: GateSpec,
    row: LeaderboardRow,
    title: str,
    sharpes: Sequence[float],
    members: Sequence[PassedRow],
) -> tuple[GateCheck, ...]:
    """Return the gates that an ensemble passed; `sharpes` are those of its windows.

    Its members have passed the gates on a study and on luck, of which the weakest figure stands for them.
    Raises WalkforgeError where a gate blocks the ensemble.
    """
    own = _until_refused(checks_of_row(conn, gates, row, sharpes))
    if own and (why := own[-1]).refusal is not None:
        raise WalkforgeError(f"the {title} is refused by {why.name}: {why.refusal}. {_remedy(why)}")
    of_own = {check.gate for check in own}
    shared: dict[str, GateCheck] = {}
    for check in (check for member in members for check in member.checks if check.gate not in of_own):
        known = shared.setdefault(check.gate, check)
        if check.gate in LUCK_GATES and _is_weaker(check, known):
            shared[check.gate] = check
    return (*shared.values(), *own)


def _is_weaker(check: GateCheck, other: GateCheck) -> bool:
    """Return whether a figure of luck is nearer to its limit than another: a larger p, a smaller ratio."""
    if check.figure is None or other.figure is None:
        return False
    return check.figure > other.figure if check.gate == "max_luck_p" else check.figure < other.figure


def _until_refused(checks: Iterable[GateCheck]) -> list[GateCheck]:
    """Return the checks up to the first that blocks, which is then the last one."""
    found = list[GateCheck]()
    for check in checks:
        found.append(check)
        if check.refusal is not None:
            break
    return found


def _ranked(engine: Engine, study: str, first: int) -> Iterator[LeaderboardRow]:
    """Yield the finalists where there are such, else the rows of a leaderboard, read in growing parts."""
    if finalists := finalist_leaderboard(engine, study):
        yield from finalists
        return
    limit, seen = first, 0
    while True:
        rows = best_models(engine, study, limit)
        yield from rows[seen:]
        if len(rows) < limit:
            return
        limit, seen = 2 * limit, len(rows)


def _remedy(check: GateCheck) -> str:
    """Return the end of an error: no bundle was written, and how to go on."""
    return (
        "Nothing is exported: search longer or on other bars, or state your own gates, such as "
        f"{check.gate}=null or gate=none"
    )


def _report(
    by_hand: Sequence[LeaderboardRow], refused: Sequence[GateRefusal], echo: Callable[[str], None]
) -> None:
    """Print the trials that are left out and the gate of each refused one."""
    if by_hand:
        named = ", ".join(f"{row.trial_number} (rank {row.rank})" for row in by_hand)
        echo(f"left out: trials added by hand, whose score no run of Walkforge has measured: {named}")
    for each in refused[:MOST_NAMED]:
        echo(str(each))
    rest: dict[str, list[int]] = {}
    for each in refused[MOST_NAMED:]:
        rest.setdefault(each.check.name, []).append(each.trial)
    for gate, trials in rest.items():
        echo(f"trials {', '.join(map(str, trials))} are refused by {gate}")
