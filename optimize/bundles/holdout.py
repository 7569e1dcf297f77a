"""Open the holdout of a bundle: logged before a bar of it is read, then evaluated."""

from dataclasses import dataclass
from pathlib import Path

from envs.plain import to_plain
from optimize.bundles.evaluate import HOLDOUT, EvaluationPlan, plan_evaluation, run_evaluation
from optimize.bundles.load import Bundle, load_bundle
from optimize.database import Engine
from optimize.errors import BadInputError
from optimize.evaluate.captions import BUY_AND_HOLD
from optimize.report.format import ordinal
from optimize.results.holdout import HoldoutOpening, log_opening, score_opening
from optimize.results.tries import instruments_of


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

    It counts for the bundle's symbols under whatever name the bars are read.
    """
    if plan.opened is None:
        raise BadInputError(f"{bundle.folder}: the planned spans read no session of its holdout")
    symbols = dict.fromkeys([*bundle.spec.data.symbols, *plan.market.symbols])
    opening = HoldoutOpening(
        symbols=instruments_of(to_plain(bundle.spec)["data"], list(symbols)),
        first=plan.opened.first,
        end=plan.opened.end,
        study_name=bundle.manifest.study,
        run_uuid=bundle.manifest.run_uuid,
        bundle=str(bundle.folder.resolve()),
        purpose=purpose,
    )
    with engine.begin() as conn:
        count = log_opening(conn, opening)
    span = f"the holdout of {', '.join(symbols)}, {opening.first} to {opening.end} (exclusive)"
    worth = "each time makes its result worth less"
    return opening, f"{span}, is opened for the {ordinal(count)} time; {worth}"


def measure_holdout(engine: Engine, folder: Path) -> HoldoutResult:
    """Open the holdout of an exported bundle, evaluate its deployable policy there and store the score."""
    bundle = load_bundle(folder, trust=True)  # its code was copied from the study
    plan = plan_evaluation(bundle, bundle.spec, HOLDOUT)
    opening, line = open_holdout(engine, bundle, plan, "export")
    _, result, baselines = run_evaluation(bundle, plan, HOLDOUT)
    with engine.begin() as conn:
        score_opening(conn, opening, result.score.value)
    hold = next((each.score for each in baselines if each.name == BUY_AND_HOLD), None)
    return HoldoutResult(folder, line, result.score.value, result.score.reason, hold)
