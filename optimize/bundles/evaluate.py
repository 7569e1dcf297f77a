"""Evaluate a bundle on other spans or costs: its holdout, new bars, given dates or windows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from envs.plain import to_plain
from envs.types import Market
from optimize.bundles.closes import check_same_assets, read_closes
from optimize.bundles.load import Bundle
from optimize.bundles.replay import load_window_model
from optimize.data.market import build_market
from optimize.data.session_closes import closes_of
from optimize.errors import BadInputError, near_hint, require
from optimize.evaluate.baselines import Baseline
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import Window, WindowDates, WindowPlan, plan_windows
from optimize.walkforward.files import window_folder
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import (
    TrialResult,
    conclude,
    evaluate_baselines,
    evaluate_window,
    seed_of,
)
from optimize.walkforward.spec import RunSpec

REFIT = -1  # in place of a window: the deployable policy, which is that of no window
HOLDOUT, NEW, EVERY_WINDOW = "holdout", "new", "windows"
SPAN_CHOICES = "windows, holdout, new, or two dates such as 2024-01-01..2024-07-01 (end exclusive)"


@dataclass(frozen=True)
class HoldoutPart:
    """The part of the study's holdout that an evaluation reads; the end is exclusive."""

    first: date
    end: date


@dataclass(frozen=True, eq=False)
class EvaluationPlan:
    """Spans to evaluate, the model of each, and the part of the holdout that they read."""

    spec: RunSpec
    market: Market
    windows: tuple[Window, ...]
    models: tuple[int, ...]  # window of the bundle whose model is evaluated on each span
    opened: HoldoutPart | None
    notes: tuple[str, ...]
    is_own: bool  # the spans are the bundle's own test windows


def differences_of(bundle: RunSpec, here: RunSpec) -> list[str]:
    """Return a line for each key in which an evaluation differs from the bundle, with both values."""
    lines = []
    before, after = to_plain(bundle), to_plain(here)
    for group in ("data", "cost", "window"):
        for key, value in after[group].items():
            if before[group][key] != value:
                lines.append(f"{group}.{key}: {before[group][key]!r} in the bundle, {value!r} here")
    return lines


def plan_evaluation(
    bundle: Bundle, spec: RunSpec, span: str, *, other_assets: bool = False
) -> EvaluationPlan:
    """Locate the spans in the market of the spec and choose a model for each, without evaluating.

    Prices that are not those of the bundle's assets are refused, unless `other_assets` allows them.
    """
    market = build_market(spec.data, spec.feature, spec.session)
    bundle.representation.check_columns(spec.feature, market.feature_names, f"data.path={spec.data.path}")
    about: tuple[str, ...] = ()
    if not other_assets and spec.data != bundle.spec.data:
        about = check_same_assets(read_closes(bundle.folder), closes_of(market))
    if span == EVERY_WINDOW:
        dates = plan_windows(spec.window, market.session_date).windows
        spans = [(each.test_start, each.test_end) for each in dates]
    else:
        spans = [_dates(bundle, market, span)]
    windows = tuple(span_window(index, *each, market, spec) for index, each in enumerate(spans))
    own = span == EVERY_WINDOW and spec.window == bundle.spec.window and _are_own(bundle, windows)
    models = tuple(each.index for each in windows) if own else _models(bundle, windows, span)
    notes = about if own else (*about, *_notes(bundle, windows))
    opened = None if own else _opened(bundle, windows)
    return EvaluationPlan(spec, market, windows, models, opened, notes, own)


def run_evaluation(
    bundle: Bundle, plan: EvaluationPlan, span: str, seed: int | None = None
) -> tuple[WindowedMarket, TrialResult, tuple[Baseline, ...]]:
    """Evaluate the models and the baselines on the planned spans; with a seed actions are sampled.

    On windows the models of every repeat are evaluated, on any other span the deployable policy.
    """
    dates = tuple(window.dates for window in plan.windows)
    windowed = WindowedMarket(plan.market, WindowPlan(dates, None), plan.windows)
    repeats = plan.spec.score.repeats if span == EVERY_WINDOW else 1
    measured = [
        [
            _evaluate(bundle, plan.spec, windowed, window, model, repeat, seed)
            for window, model in zip(plan.windows, plan.models, strict=True)
        ]
        for repeat in range(repeats)
    ]
    result = conclude(plan.spec, windowed, measured, pruned_at=None)
    return windowed, result, evaluate_baselines(plan.spec, windowed, bundle.seed)


def _evaluate(
    bundle: Bundle,
    spec: RunSpec,
    windowed: WindowedMarket,
    window: Window,
    model: int,
    repeat: int,
    seed: int | None,
) -> WindowResult:
    """Evaluate the policy and scaler of one window and repeat of the bundle on one span."""
    place = bundle.folder if model == REFIT else window_folder(bundle.folder, model, repeat)
    loaded = load_window_model(spec, windowed, place)
    if seed is not None:
        sampled = loaded.agent.stochastic(seed_of([seed], window.index, repeat))
        loaded = replace(loaded, agent=sampled)
    return evaluate_window(spec, windowed, window, loaded)[0]


def _dates(bundle: Bundle, market: Market, span: str) -> tuple[date, date]:
    """Return the first session of a span and the day after its last."""
    end: date = market.session_date[-1].item() + timedelta(days=1)
    if span == HOLDOUT:
        if bundle.spans.holdout is None:
            held = "window.holdout_share=0" if bundle.spans.eligible_from else "its version did not store one"
            raise BadInputError(f"span=holdout: {bundle.folder} has no holdout ({held}): give two dates")
        return bundle.spans.holdout
    if span == NEW:
        first = bundle.spans.eligible_from
        if first is None:
            raise BadInputError(
                f"span=new: {bundle.folder} is of a version that did not store where its data ended: "
                f"give two dates, such as span={bundle.spans.windows_until}..{end}"
            )
        if first >= end:
            raise BadInputError(
                f"span=new: the bars end on {market.session_date[-1]}, but only those from {first} on are "
                "new to the bundle: give newer bars by data.path=FILE"
            )
        return first, end
    try:
        first, end = (date.fromisoformat(text) for text in span.split(".."))
    except ValueError:
        hint = near_hint(span, (EVERY_WINDOW, HOLDOUT, NEW))
        raise BadInputError(f"span={span!r} is not allowed: give {SPAN_CHOICES}{hint}") from None
    require(first < end, "span", span, "two dates of which the first is the earlier")
    return first, end


def span_window(index: int, first: date, end: date, market: Market, spec: RunSpec) -> Window:
    """Return a span as the test span of a window without training; refuse a span outside the bars."""
    ordinals = [int(np.searchsorted(market.session_date, np.datetime64(edge))) for edge in (first, end)]
    bars = [int(bar) for bar in np.searchsorted(market.session, ordinals)]
    earliest = market.session_date[market.session[spec.feature.history]]
    latest = market.session_date[-1]
    if bars[1] - bars[0] < 2 or first < earliest.item() or ordinals[0] >= len(market.session_date):
        raise BadInputError(
            f"{first} to {end} (exclusive) is not covered by the bars, which can be evaluated from "
            f"{earliest} to {latest}: give other dates, or bars of that time by data.path=FILE"
        )
    dates = WindowDates(index, first, first, first, end, ordinals[1] - ordinals[0])
    return Window(index, 0, 0, bars[0], bars[1] - 1, 0, (ordinals[0], ordinals[1]), dates)


def _are_own(bundle: Bundle, windows: Sequence[Window]) -> bool:
    """Return whether windows are those of the bundle by their dates: other bars may be of other years."""
    ends, until = bundle.spans.train_ends, bundle.spans.windows_until
    before = (end <= each.dates.test_start for end, each in zip(ends, windows, strict=False))
    return len(ends) == len(windows) and windows[-1].dates.test_end == until and all(before)


def _models(bundle: Bundle, windows: Sequence[Window], span: str) -> tuple[int, ...]:
    """Return the newest model trained before each window; for any other span the deployable model."""
    ends, until = bundle.spans.train_ends, bundle.spans.refit_until
    chosen = []
    for window in windows:
        start = window.dates.test_start
        if until is not None and span != EVERY_WINDOW:
            words = f"on {until} or later, where the training of the bundle's refit had ended"
            require(start >= until, "span", span, f"a span that begins {words}")
            chosen.append(REFIT)
            continue
        trained = [index for index, end in enumerate(ends) if end <= start]
        last = len(ends) - 1
        if not trained or (span != EVERY_WINDOW and trained[-1] != last):
            needed = min(ends) if span == EVERY_WINDOW else ends[last]
            raise BadInputError(
                f"the span from {start} on is not allowed: the training of the bundle's models ended on "
                f"{', '.join(map(str, ends))} (exclusive), so begin on {needed} or later"
            )
        chosen.append(trained[-1])
    return tuple(chosen)


def _opened(bundle: Bundle, windows: Sequence[Window]) -> HoldoutPart | None:
    """Return the part of the holdout from the first to the last session that the spans read."""
    if bundle.spans.holdout is None:
        return None
    first, end = bundle.spans.holdout
    inside = [
        (max(first, window.dates.test_start), min(end, window.dates.test_end))
        for window in windows
        if window.dates.test_start < end and window.dates.test_end > first
    ]
    return HoldoutPart(min(a for a, _ in inside), max(b for _, b in inside)) if inside else None


def _notes(bundle: Bundle, windows: Sequence[Window]) -> list[str]:
    """Return notes on spans that the study behind the bundle may have used."""
    spans, notes = bundle.spans, []
    if any(window.dates.test_start < spans.windows_until for window in windows):
        notes.append(
            f"sessions before {spans.windows_until} were among the study's test windows: the bundle was "
            "chosen by them, so its result there is too good"
        )
    if spans.eligible_from is None and any(w.dates.test_end > spans.windows_until for w in windows):
        notes.append("this bundle does not state its study's holdout, so part of the span may be of it")
    return notes
