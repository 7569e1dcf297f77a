"""Open the holdout of a bundle: logged before a bar of it is read, then evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from envs.plain import to_plain
from optimize.bundles.evaluate import HOLDOUT, EvaluationPlan, plan_evaluation, run_evaluation
from optimize.bundles.load import Bundle, load_bundle
from optimize.database import Connection, Engine
from optimize.errors import BadInputError, WalkforgeError
from optimize.evaluate.captions import BUY_AND_HOLD
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import Window
from optimize.report.format import ordinal
from optimize.results.holdout import (
    HoldoutOpening,
    KeptHoldout,
    holdouts_of,
    log_opening,
    score_opening,
)
from optimize.results.instrument_names import instruments_of
from optimize.results.instruments import names_of_bars
from optimize.results.records import RunRecord
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.refit import refit_end


@dataclass(frozen=True)
class HoldoutResult:
    """The score of a bundle's deployable policy on its holdout; None: it has none there."""

    bundle: Path
    line: str  # how often the holdout was opened
    score: float | None
    reason: str | None
    buy_and_hold: float | None


def open_holdout(
    engine: Engine, bundle: Bundle, plan: EvaluationPlan, purpose: str
) -> tuple[HoldoutOpening, str]:
    """Log that the planned spans read the holdout; return the opening and a line with their number.

    It counts for the bundle's symbols under any name of the bars.
    """
    if plan.opened is None:
        raise BadInputError(f"{bundle.folder}: the planned spans read no session of its holdout")
    with engine.connect() as conn:
        names = _names(conn, bundle, plan)
    opening = _opening(bundle, names, purpose, plan.opened.first, plan.opened.end)
    return opening, _log(engine, opening)


def other_holdouts(conn: Connection, bundle: Bundle, plan: EvaluationPlan) -> list[KeptHoldout]:
    """Return the holdouts of other studies that the planned spans read and nobody has opened."""
    spans = [] if plan.is_own else [(each.dates.test_start, each.dates.test_end) for each in plan.windows]
    kept = holdouts_of(conn, _names(conn, bundle, plan), date.min, date.max) if spans else []
    return [each for each in kept if each.spent_at is None and any(each.overlaps(*span) for span in spans)]


def open_other_holdouts(engine: Engine, bundle: Bundle, plan: EvaluationPlan, purpose: str) -> list[str]:
    """Log that the planned spans read holdouts of other studies; return a line for each."""
    with engine.connect() as conn:
        found, names = other_holdouts(conn, bundle, plan), _names(conn, bundle, plan)
    first = min(each.dates.test_start for each in plan.windows)
    end = max(each.dates.test_end for each in plan.windows)
    parts = [(max(first, each.first), min(end, each.end)) for each in found]
    return [_log(engine, _opening(bundle, names, purpose, *part)) for part in parts]


def _names(conn: Connection, bundle: Bundle, plan: EvaluationPlan) -> list[str]:
    """Return the names of the bundle's instruments and of the bars that are read."""
    data = to_plain(bundle.spec)["data"]
    own = instruments_of(data, list(bundle.spec.data.symbols))
    return list(dict.fromkeys([*own, *names_of_bars(conn, data, plan.market)]))


def _opening(bundle: Bundle, names: Sequence[str], purpose: str, first: date, end: date) -> HoldoutOpening:
    return HoldoutOpening(
        symbols=list(names),
        first=first,
        end=end,
        study_name=bundle.manifest.study,
        run_uuid=bundle.manifest.run_uuid,
        bundle=str(bundle.folder.resolve()),
        purpose=purpose,
    )


def _log(engine: Engine, opening: HoldoutOpening) -> str:
    """Store an opening and return the line with its number."""
    with engine.begin() as conn:
        count = log_opening(conn, opening)
    span = f"the holdout of {', '.join(opening.symbols)}, {opening.first} to {opening.end} (exclusive)"
    return f"{span}, is opened for the {ordinal(count)} time; each time makes its result worth less"


def refuse_to_train_on_kept(engine: Engine, run: RunRecord, windowed: WindowedMarket) -> None:
    """Raise WalkforgeError where a refit of a run would train on a holdout that nobody has opened."""
    first, end = windowed.market.session_date[0].item(), refit_end(windowed)
    with engine.connect() as conn:
        names = names_of_bars(conn, run.spec["data"], windowed.market)
        found = holdouts_of(conn, names, first, end)
    kept = next((each for each in found if each.spent_at is None), None)
    if kept is not None:
        raise WalkforgeError(
            f"refit=true would train on the holdout of {', '.join(kept.instruments)}, {kept.first} to "
            f"{kept.end} (exclusive), kept since study {kept.study_name} cut it: export without it, or give "
            f"study {run.study_name} data that end before it"
        )


def too_short(span: tuple[date, date], windows: Sequence[Window], score: ScoreSpec) -> str | None:
    """Return why a holdout gives no score and stays closed, None where it is long enough."""
    sessions = sum(each.dates.test_sessions for each in windows)
    if sessions >= score.min_periods:
        return None
    return (
        f"the holdout {span[0]} to {span[1]} (exclusive) has {sessions} sessions, fewer than the "
        f"{score.min_periods} of a score (score.min_periods): it is not opened, and that of a later study "
        "grows with newer bars"
    )


def measure_holdout(engine: Engine, folder: Path) -> HoldoutResult:
    """Open the holdout of an exported bundle, evaluate its deployable policy there and store the score.

    One that is too short for a score, or that a study lacks, stays as it is.
    """
    bundle = load_bundle(folder, trust=True)  # its code was copied from the study
    if bundle.spans.holdout is None:
        return HoldoutResult(folder, "the study has no holdout: none is opened", None, "no holdout", None)
    plan = plan_evaluation(bundle, bundle.spec, HOLDOUT)
    if (short := too_short(bundle.spans.holdout, plan.windows, bundle.spec.score)) is not None:
        return HoldoutResult(folder, short, None, "too short, not opened", None)
    opening, line = open_holdout(engine, bundle, plan, "export")
    _, result, baselines = run_evaluation(bundle, plan, HOLDOUT)
    with engine.begin() as conn:
        score_opening(conn, opening, result.score.value)
    hold = next((each.score for each in baselines if each.name == BUY_AND_HOLD), None)
    return HoldoutResult(folder, line, result.score.value, result.score.reason, hold)
