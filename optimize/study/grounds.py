"""The markets and windows that the trials of a study can have, and the baselines on them."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from optimize.agents.compiled.qualify import choose_engine
from optimize.agents.compiled.warm_up import compiles_first
from optimize.data.cache import cached_market
from optimize.evaluate.baselines import Baseline
from optimize.results.records import BaselineRecord, load_baselines, save_baselines
from optimize.search.leaves import Choices, Range
from optimize.search.space import Scalar, SearchSpace, apply
from optimize.study.devices import devices_of
from optimize.study.handle import Handle, cache_dir
from optimize.study.spec import LOOKBACK, TIMEFRAME, StudySpec
from optimize.study.trial import Ground, at_timeframe, lay_ground, yardsticks


def lay_grounds(spec: StudySpec, space: SearchSpace) -> dict[tuple[str, int], Ground]:
    """Build the market and windows of every timeframe and lookback that a trial can have."""
    timeframes = _reachable(space, TIMEFRAME, spec.data.timeframe)
    lookbacks = _reachable(space, LOOKBACK, spec.feature.lookback)
    grounds = {}
    for timeframe, lookback in product(timeframes, lookbacks):
        chosen = apply(spec, {TIMEFRAME: timeframe, LOOKBACK: lookback})
        ground = lay_ground(at_timeframe(chosen, spec.data.timeframe), cache_dir(spec))
        grounds[str(timeframe), int(lookback)] = ground
    return grounds


def opening(spec: StudySpec, space: SearchSpace) -> list[str]:
    """Return what a launch does before its first trial, for whoever waits for it."""
    timeframes = _reachable(space, TIMEFRAME, spec.data.timeframe)
    lookbacks = _reachable(space, LOOKBACK, spec.feature.lookback)
    many = [
        f"{len(values)} {word}{'s' if len(values) > 1 else ''}"
        for values, word in ((timeframes, "timeframe"), (lookbacks, "lookback"))
    ]
    lines = [f"{spec.name}: building the market and windows of {' x '.join(many)}"]
    return [*lines, *training_words(spec)]


def training_words(spec: StudySpec) -> list[str]:
    """Say which engine trains the agents, why, and whether its kernels must be compiled first."""
    # Without a GPU here agent.device decides: workers on a cluster have machines of their own.
    engine = choose_engine(spec.agent, "cuda" if devices_of(spec) else None)
    lines = [f"{spec.agent.name} trains on the {engine.name} engine: {engine.why}"]
    if compiles_first(spec.agent, engine.name, spec.reward.name):
        lines.append("compiling kernels for this machine, once: this takes up to a minute")
    return lines


def _reachable(space: SearchSpace, path: str, default: Scalar) -> Sequence[Any]:
    for parameter in space.parameters:
        if parameter.path == path:
            if isinstance(parameter.domain, Choices):
                return parameter.domain.values
            if isinstance(parameter.domain, Range):
                return (parameter.domain.low, parameter.domain.high)
    return (default,)


def fingerprint(spec: StudySpec) -> str:
    """Return the fingerprint of the data at the study's own timeframe, whatever a phase searches."""
    return cached_market(spec.data, spec.feature, spec.session, cache_dir(spec)).fingerprint


def store_baselines(handle: Handle, grounds: dict[tuple[str, int], Ground]) -> None:
    """Evaluate flat, buy-and-hold and random policies once for each timeframe of the study."""
    spec = handle.spec
    with handle.engine.connect() as conn:
        stored = {baseline.timeframe for baseline in load_baselines(conn, spec.name)}
    for (timeframe, lookback), ground in grounds.items():
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
