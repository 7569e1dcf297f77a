"""Drop combinations of the timeframe phase that a linear probe finds hopeless, before any training."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

from optimize.data.sources.read_once import reading_once
from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.report.format import format_score
from optimize.results.timeframe_screen import ScreenedPair, TimeframeScreen, stored_screen
from optimize.search.spec import LOOKBACK, TIMEFRAME
from optimize.study.context import cache_dir
from optimize.study.holdout import with_kept_holdout
from optimize.study.phases.run import timeframe_study
from optimize.study.spec import StudySpec
from optimize.walkforward.inner_probe import InnerProbe, Inputs, probe_inputs, with_inputs
from optimize.walkforward.markets import build_windowed_market


def screened(
    spec: StudySpec, echo: Callable[[str], None], *, keep: bool = True
) -> tuple[StudySpec, TimeframeScreen | None]:
    """Return the study with the grid that its screen leaves, and the screen; without one the study as it is.

    A stored screen is taken as it is, so that a launch that goes on has the grid of the first one. keep: the
    study keeps its holdout, as in the launch.
    """
    if spec.phase.timeframe.screen == "none":
        return spec, None
    first = timeframe_study(spec)
    found = _stored(first)
    if found is None:
        found = _measure(first, keep)
        for line in screen_lines(found):
            echo(f"{first.name}: {line}")
    grid = spec.phase.timeframe
    each = grid.n_trials // (len(grid.timeframes) * len(grid.lookbacks))
    left = replace(
        grid,
        timeframes=list(found.timeframes),
        lookbacks=list(found.lookbacks),
        n_trials=each * len(found.timeframes) * len(found.lookbacks),
    )
    return replace(spec, phase=replace(spec.phase, timeframe=left)), found


def _stored(first: StudySpec) -> TimeframeScreen | None:
    try:
        engine = open_engine(first.database.url, read_only=True)
    except BadInputError:  # there is no database yet
        return None
    try:
        with engine.connect() as conn:
            return stored_screen(conn, first.name)
    finally:
        engine.dispose()


@reading_once()
def _measure(first: StudySpec, keep: bool) -> TimeframeScreen:
    pairs = list(product(first.space["data"]["timeframe"], first.space["feature"]["lookback"]))
    base = with_inputs(first, Inputs(*pairs[0]))
    windowed = build_windowed_market(base, cache_dir(first))
    held = with_kept_holdout(first, windowed, keep=keep)
    return judge_screen(list(probe_inputs(held, [Inputs(*pair) for pair in pairs], cache_dir(first))))


def judge_screen(found: Sequence[InnerProbe]) -> TimeframeScreen:
    """Keep timeframes and lookbacks of combinations that are not hopeless, and of the best one at least."""
    pairs = tuple(
        ScreenedPair(
            each.inputs.timeframe, each.inputs.lookback, each.sharpe, each.high, each.hopeless, each.reason
        )
        for each in found
    )
    kept = [each for each in pairs if not each.hopeless] or [max(pairs, key=lambda each: each.sharpe or 0.0)]
    timeframes, lookbacks = {each.timeframe for each in kept}, {each.lookback for each in kept}
    return TimeframeScreen(
        pairs=pairs,
        timeframes=tuple(dict.fromkeys(each.timeframe for each in pairs if each.timeframe in timeframes)),
        lookbacks=tuple(dict.fromkeys(each.lookback for each in pairs if each.lookback in lookbacks)),
    )


def screen_lines(screen: TimeframeScreen) -> list[str]:
    """Return the line of the screen and one for each combination."""
    dropped = sum(_is_dropped(screen, each) for each in screen.pairs)
    lines = [
        f"the linear probe drops {dropped} of {len(screen.pairs)} combinations of {TIMEFRAME} and {LOOKBACK} "
        "before any agent is trained"
    ]
    for each in screen.pairs:
        bound = "" if each.high is None else f", at most {format_score(each.high)}"
        measured = each.reason or f"net Sharpe {format_score(each.sharpe)}{bound}"
        fate = "dropped" if _is_dropped(screen, each) else "hopeless" if each.hopeless else "kept"
        paired = ", kept for its pairing" if fate == "hopeless" else ""
        lines.append(f"  {each.timeframe:>4} x {each.lookback:<3} {measured}: {fate}{paired}")
    return lines


def _is_dropped(screen: TimeframeScreen, each: ScreenedPair) -> bool:
    return each.timeframe not in screen.timeframes or each.lookback not in screen.lookbacks
