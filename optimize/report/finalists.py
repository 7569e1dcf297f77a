"""Finalists as rows, and their shrinkage: the part of the search score that fresh seeds do not repeat."""

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optimize.report.format import format_score
from optimize.results.finalists import Finalist, FinalistHoldout, FinalistRun, StressRecord

MEANING = (
    "search: the score that chose the parameter set; fresh: the lower median of its fresh seeds on the same "
    "windows; low and high: 5 % and 95 % of that median when sessions and seeds are drawn again; mean, "
    "deviation, lowest and highest: of the scores of its seeds"
)
SAME_WINDOWS = (
    "fresh seeds take away the luck of the seed, not that of the windows: the search chose the parameters on "
    "these very windows, so a fresh score is still too good; only a holdout is unseen"
)


@dataclass(frozen=True)
class Shrinkage:
    """Mean search score and mean fresh score of the finalists that have both."""

    search: float
    fresh: float
    finalists: int

    @property
    def difference(self) -> float:
        """Return by how much the search scores were too high."""
        return self.search - self.fresh


def shrinkage_of(finalists: Sequence[Finalist]) -> Shrinkage | None:
    """Return the shrinkage of finalists, None where none has a fresh score."""
    both = [(each.search_score, each.fresh_score) for each in finalists if each.fresh_score is not None]
    if not both:
        return None
    search, fresh = (statistics.fmean(values) for values in zip(*both, strict=True))
    return Shrinkage(search, fresh, len(both))


def shrinkage_line(finalists: Sequence[Finalist]) -> str:
    """Return the winner's curse of a study in one line."""
    found = shrinkage_of(finalists)
    if found is None:
        return "no finalist has a feasible fresh score"
    line = (
        f"winner's curse: search scores of {format_score(found.search)} on average became "
        f"{format_score(found.fresh)} on fresh seeds, a change of {format_score(-found.difference)}"
    )
    lost = len(finalists) - found.finalists
    return f"{line}; {lost} more without a feasible fresh score are left out of both means" if lost else line


def finalist_rows(
    finalists: Sequence[Finalist],
    runs: Sequence[FinalistRun],
    stress: Sequence[StressRecord],
    holdout: Sequence[FinalistHoldout] = (),
) -> list[dict[str, Any]]:
    """Return a plain row for each finalist, with the score of its median seed under each stress test.

    On the holdout it has the score of its median seed, which an export takes, and the range of its seeds.
    """
    of_run = {run.run_uuid: run.parameter_set for run in runs}
    scenarios = dict.fromkeys(each.scenario for each in stress)
    tested = {(each.run_uuid, each.scenario): each.score for each in stress}
    rows = []
    for finalist in finalists:
        scores = {name: tested.get((finalist.run_uuid or "", name)) for name in scenarios}
        row = {key: value for key, value in dataclasses.asdict(finalist).items() if key != "measured_at"}
        row |= {"measured_at": finalist.measured_at.isoformat(), "stress": scores}
        uuids = {uuid for uuid, of_set in of_run.items() if of_set == finalist.parameter_set}
        rows.append(row | holdout_figures(finalist, [each for each in holdout if each.run_uuid in uuids]))
    return rows


def holdout_figures(finalist: Finalist, results: Sequence[FinalistHoldout]) -> dict[str, float | None]:
    """Return the scores of a finalist on the holdout, from the results of its own runs there."""
    median = next((each for each in results if each.run_uuid == finalist.run_uuid), None)
    scores = [each.score for each in results if each.score is not None]
    return {
        "score_holdout": None if median is None else median.score,
        "score_holdout_min": min(scores, default=None),
        "score_holdout_max": max(scores, default=None),
        "buy_and_hold_holdout": None if median is None else median.buy_and_hold,
    }


def stress_reasons(stress: Sequence[StressRecord]) -> list[str]:
    """Return a line for each stress test without a score, once for each reason."""
    found = dict.fromkeys(
        f"{each.scenario} has runs without a score: {each.reason}"
        for each in stress
        if each.score is None and each.reason is not None
    )
    return list(found)
