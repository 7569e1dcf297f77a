"""The markets and windows that the trials of a study can have, and the baselines on them."""

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

from optimize.agents.budget import budget_lines
from optimize.agents.compiled.qualify import choose_engine
from optimize.agents.compiled.warm_up import compiles_first
from optimize.data.cache import cached_market
from optimize.evaluate.baselines import Baseline
from optimize.results.records import BaselineRecord, load_baselines, save_baselines
from optimize.search.leaves import Choices, Range
from optimize.search.space import SearchSpace, Value, apply
from optimize.study.devices import devices_of
from optimize.study.handle import Handle, cache_dir
from optimize.study.spec import LOOKBACK, TIMEFRAME, StudySpec
from optimize.study.trial import Ground, at_timeframe, lay_ground, yardsticks

GroundKey = tuple[str, int, str]  # timeframe, lookback, and the other searched keys of the market as text


def lay_grounds(spec: StudySpec, space: SearchSpace) -> dict[GroundKey, Ground]:
    """Build the market and windows of every combination of market keys that a trial can have."""
    grounds = {}
    for chosen in combinations(spec, space):
        resolved = at_timeframe(apply(spec, chosen), spec.data.target)
        others = {path: value for path, value in chosen.items() if path not in (TIMEFRAME, LOOKBACK)}
        key = (resolved.data.target, resolved.feature.lookback, json.dumps(others, sort_keys=True))
        grounds[key] = lay_ground(resolved, cache_dir(spec))
    return grounds


def combinations(spec: StudySpec, space: SearchSpace) -> list[dict[str, Value]]:
    """Return every combination of timeframe, lookback and other searched keys of data and features."""
    searched = [p.path for p in space.parameters if p.path.partition(".")[0] in ("data", "feature")]
    paths = [TIMEFRAME, LOOKBACK, *(path for path in searched if path not in (TIMEFRAME, LOOKBACK))]
    choices = [_reachable(space, path, _configured(spec, path)) for path in paths]
    return [dict(zip(paths, values, strict=True)) for values in product(*choices)]


def opening(spec: StudySpec, space: SearchSpace) -> list[str]:
    """Return what a launch does before its first trial, for whoever waits for it."""
    timeframes = _reachable(space, TIMEFRAME, spec.data.target)
    lookbacks = _reachable(space, LOOKBACK, spec.feature.lookback)
    counted = [(len(timeframes), "timeframe"), (len(lookbacks), "lookback")]
    others = len(combinations(spec, space)) // (len(timeframes) * len(lookbacks))
    counted += [(others, "feature set")] if others > 1 else []
    many = [f"{count} {word}{'s' if count > 1 else ''}" for count, word in counted]
    lines = [f"{spec.name}: building the market and windows of {' x '.join(many)}"]
    return [*lines, *training_words(spec)]


def training_words(spec: StudySpec) -> list[str]:
    """Say which engine trains the agents, why, and whether its kernels must be compiled first."""
    # Without a GPU here agent.device decides: workers on a cluster have machines of their own.
    engine = choose_engine(spec.agent, "cuda" if devices_of(spec) else None)
    lines = [f"{spec.agent.name} trains on the {engine.name} engine: {engine.why}", *budget_lines(spec.agent)]
    if compiles_first(spec.agent, engine.name, spec.reward.name):
        lines.append("compiling kernels for this machine, once: this takes up to a minute")
    return lines


def _configured(spec: StudySpec, path: str) -> Any:
    group, _, key = path.partition(".")
    return getattr(getattr(spec, group), key)


def _reachable(space: SearchSpace, path: str, default: Value) -> Sequence[Any]:
    """Return the values of a key that a market can be built for; of a range its ends alone."""
    for parameter in space.parameters:
        if parameter.path == path:
            if isinstance(parameter.domain, Choices):
                values = parameter.domain.values  # a parameter that is not always active leaves the default
                return (*values, default) if parameter.when and default not in values else values
            if isinstance(parameter.domain, Range):
                return (parameter.domain.low, parameter.domain.high)
    return (default,)


def fingerprint(spec: StudySpec) -> str:
    """Return the fingerprint of the data at the study's own timeframe, whatever a phase searches."""
    return cached_market(spec.data, spec.feature, spec.session, cache_dir(spec)).fingerprint


def store_baselines(handle: Handle, grounds: dict[GroundKey, Ground]) -> None:
    """Evaluate flat, buy-and-hold and random policies once for each timeframe of the study."""
    spec = handle.spec
    with handle.engine.connect() as conn:
        stored = {baseline.timeframe for baseline in load_baselines(conn, spec.name)}
    for (timeframe, lookback, _), ground in grounds.items():
        if timeframe in stored:
            continue
        stored.add(timeframe)
        found = yardsticks(apply(spec, {LOOKBACK: lookback}), ground)
        with handle.engine.begin() as conn:
            save_baselines(conn, [baseline_record(spec.name, timeframe, ground, each) for each in found])


def baseline_record(study: str, timeframe: str, ground: Ground, baseline: Baseline) -> BaselineRecord:
    """Return the row of one baseline, its session returns included."""
    dates = [ground.market.session_date[slice(*window.test_sessions)] for window in ground.windows]
    return BaselineRecord(
        study_name=study,
        timeframe=timeframe,
        name=baseline.name if baseline.turnover is None else f"{baseline.name}_{baseline.turnover:g}",
        score=baseline.score,
        sharpe_zero_cost=baseline.sharpe_zero_cost,
        total_return=baseline.total_return,
        cost=baseline.cost,
        turnover=sum(window.turnover for window in baseline.windows),
        windows={
            "sessions": [[str(day) for day in window] for window in dates],
            "returns": [window.tolist() for window in baseline.returns],
            "bought_anew": baseline.bought_anew,
        },
    )
