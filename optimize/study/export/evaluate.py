"""A bundle on spans it was not measured on: its holdout, new bars, listed windows, other costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from envs.types import Market
from optimize.data.dataset import build_market
from optimize.data.scaling import load_scaler
from optimize.errors import BadInputError, require
from optimize.evaluate.baselines import Baseline
from optimize.evaluate.windows import Window, WindowDates, WindowPlan, plan_windows
from optimize.study.export.bundle import load_on
from optimize.study.export.deployed import Bundle
from optimize.study.files import SCALER, window_folder
from optimize.study.spec import StudySpec, to_plain
from optimize.study.trial import (
    Ground,
    Measured,
    Trained,
    TrialResult,
    conclude,
    evaluate_window,
    seed_of,
    yardsticks,
)

HOLDOUT, NEW, WINDOWS = "holdout", "new", "windows"
SPANS = "windows, holdout, new, or two dates such as 2024-01-01..2024-07-01 (end exclusive)"


@dataclass(frozen=True)
class Opened:
    """A part of the study's holdout that an evaluation reads; the end is exclusive."""

    first: date
    end: date


@dataclass(frozen=True, eq=False)
class Plan:
    """Spans to evaluate, the model of each, and the part of the holdout that they open."""

    spec: StudySpec
    market: Market
    windows: tuple[Window, ...]
    models: tuple[int, ...]  # window of the bundle whose model plays each span
    opened: Opened | None
    notes: tuple[str, ...]


def differences_of(bundle: StudySpec, here: StudySpec) -> list[str]:
    """Return each key in which an evaluation differs from the bundle, as `key: theirs -> ours`."""
    lines = []
    before, after = to_plain(bundle), to_plain(here)
    for group in ("data", "cost", "window"):
        for key, value in after[group].items():
            if before[group][key] != value:
                lines.append(f"{group}.{key}: {before[group][key]!r} in the bundle, {value!r} here")
    return lines


def plan_evaluation(bundle: Bundle, spec: StudySpec, span: str) -> Plan:
    """Place the spans on the market of the spec and choose a model for each; nothing is evaluated yet."""
    market = build_market(spec.data, spec.feature, spec.session)
    bundle.scaler.check_names(market.feature_names, f"data.path={spec.data.path}")
    if span == WINDOWS:
        dates = plan_windows(spec.window, market.session_date).windows
        spans = [(each.test_start, each.test_end) for each in dates]
    else:
        spans = [_dates(bundle, market, span)]
    windows = tuple(_window(index, *each, market, spec) for index, each in enumerate(spans))
    own = span == WINDOWS and spec.window == bundle.spec.window
    models = tuple(each.index for each in windows) if own else _models(bundle, windows, span)
    notes = () if own else tuple(_notes(bundle, windows))
    opened = None if own else _opened(bundle, windows)
    return Plan(spec, market, windows, models, opened, notes)


def run_evaluation(
    bundle: Bundle, plan: Plan, span: str, seed: int | None = None
) -> tuple[Ground, TrialResult, tuple[Baseline, ...]]:
    """Evaluate the models on the planned spans, beside the baselines; a seed samples the actions.

    Windows are played by the models of every repeat, any other span by the deployable policy.
    """
    dates = tuple(window.dates for window in plan.windows)
    ground = Ground(plan.market, WindowPlan(dates, None), plan.windows)
    repeats = plan.spec.score.repeats if span == WINDOWS else 1
    measured = [
        [
            _evaluate(bundle, plan.spec, ground, window, model, repeat, seed)
            for window, model in zip(plan.windows, plan.models, strict=True)
        ]
        for repeat in range(repeats)
    ]
    result = conclude(plan.spec, ground, measured, pruned_at=None)
    return ground, result, yardsticks(plan.spec, ground)


def _evaluate(
    bundle: Bundle, spec: StudySpec, ground: Ground, window: Window, model: int, repeat: int, seed: int | None
) -> Measured:
    """Play one span with the policy and scaler of one window and repeat of the bundle."""
    place = window_folder(bundle.folder, model, repeat)
    agent = load_on(place, spec.agent.device)
    if seed is not None:
        agent = agent.stochastic(seed_of([seed], window.index, repeat))
    scaler = load_scaler(place / SCALER, ground.market.feature_names)
    return evaluate_window(spec, ground, window, Trained(agent, scaler))[0]


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
        raise BadInputError(f"span={span!r} is not allowed: give {SPANS}") from None
    require(first < end, "span", span, "two dates of which the first is the earlier")
    return first, end


def _window(index: int, first: date, end: date, market: Market, spec: StudySpec) -> Window:
    """Return a span as the test span of a window without training; refuse one outside the bars."""
    ordinals = [int(np.searchsorted(market.session_date, np.datetime64(edge))) for edge in (first, end)]
    bars = [int(bar) for bar in np.searchsorted(market.session, ordinals)]
    earliest = market.session_date[market.session[spec.feature.lookback]]
    latest = market.session_date[-1]
    if bars[1] - bars[0] < 2 or first < earliest.item() or ordinals[0] >= len(market.session_date):
        raise BadInputError(
            f"{first} to {end} (exclusive) is not covered by the bars, which can be evaluated from "
            f"{earliest} to {latest}: give other dates, or bars of that time by data.path=FILE"
        )
    dates = WindowDates(index, first, first, first, end, ordinals[1] - ordinals[0])
    return Window(index, 0, 0, bars[0], bars[1] - 1, 0, (ordinals[0], ordinals[1]), dates)


def _models(bundle: Bundle, windows: Sequence[Window], span: str) -> tuple[int, ...]:
    """Return the newest model whose training ended before each span; the deployable one but for windows."""
    ends = bundle.spans.train_ends
    chosen = []
    for window in windows:
        start = window.dates.test_start
        trained = [index for index, end in enumerate(ends) if end <= start]
        last = len(ends) - 1
        if not trained or (span != WINDOWS and trained[-1] != last):
            needed = min(ends) if span == WINDOWS else ends[last]
            raise BadInputError(
                f"the span from {start} on is not allowed: the training of the bundle's models ended on "
                f"{', '.join(map(str, ends))} (exclusive), so begin on {needed} or later"
            )
        chosen.append(trained[-1])
    return tuple(chosen)


def _opened(bundle: Bundle, windows: Sequence[Window]) -> Opened | None:
    """Return the part of the holdout that the spans read, from the first to the last session of it."""
    if bundle.spans.holdout is None:
        return None
    first, end = bundle.spans.holdout
    inside = [
        (max(first, window.dates.test_start), min(end, window.dates.test_end))
        for window in windows
        if window.dates.test_start < end and window.dates.test_end > first
    ]
    return Opened(min(a for a, _ in inside), max(b for _, b in inside)) if inside else None


def _notes(bundle: Bundle, windows: Sequence[Window]) -> list[str]:
    """Return how far each span is new to the study behind the bundle."""
    spans, notes = bundle.spans, []
    if any(window.dates.test_start < spans.windows_until for window in windows):
        notes.append(
            f"sessions before {spans.windows_until} were among the study's test windows: the bundle was "
            "chosen by them, so its result there is too good"
        )
    if spans.eligible_from is None and any(w.dates.test_end > spans.windows_until for w in windows):
        notes.append("this bundle does not state its study's holdout, so part of the span may be of it")
    return notes
