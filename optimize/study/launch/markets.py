"""Build the markets and windows that the trials of a study may use, and store the baselines on them."""

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

from envs.fields import MARKET, keys_of
from optimize.agents.budget import budget_lines
from optimize.agents.engines import choose_engine
from optimize.agents.kernels.compile_first import must_compile_first
from optimize.data.cache import cached_market
from optimize.database import Connection
from optimize.errors import BadInputError
from optimize.evaluate.baselines import Baseline
from optimize.evaluate.random_policies import HIGH_SHARE, LOW_SHARE, RANDOM_NAME, random_quantile
from optimize.results.records import BaselineRecord, load_baselines, random_levels, save_baselines
from optimize.results.runs import finished_runs, set_random_quantile
from optimize.search.parse import Choices, Range, invalid
from optimize.search.rules import FORECAST
from optimize.search.space import SearchSpace, Value, apply, configured_value, expand
from optimize.search.spec import LOOKBACK, TIMEFRAME
from optimize.study.context import StudyContext, cache_dir
from optimize.study.spec import StudySpec
from optimize.study.workers.gpus import devices_of
from optimize.walkforward.markets import WindowedMarket, build_windowed_market, check_fit
from optimize.walkforward.run import evaluate_baselines
from optimize.walkforward.spec import at_timeframe

OF_WINDOWS = (LOOKBACK, FORECAST)  # keys that choose among columns, and yet move the first bar of a window
OF_TRAINING = ("train.validation", "train.passes")  # a window may be too short for a searched value
MarketKey = tuple[str, int, str]  # timeframe, lookback, and the other searched keys of the market as text


def build_markets(spec: StudySpec, space: SearchSpace) -> dict[MarketKey, WindowedMarket]:
    """Build the market and windows of every combination of market keys that a trial may use."""
    markets = {}
    for chosen in combinations(spec, space):
        resolved = at_timeframe(apply(spec, expand(space, chosen)), spec.data.target)
        others = {path: value for path, value in chosen.items() if path not in (TIMEFRAME, LOOKBACK)}
        key = (resolved.data.target, resolved.feature.lookback, json.dumps(others, sort_keys=True))
        markets[key] = build_windowed_market(resolved, cache_dir(spec))
        _check_lengths(resolved, space, markets[key])
    return markets


def _check_lengths(spec: StudySpec, space: SearchSpace, windowed: WindowedMarket) -> None:
    """Refuse a searched length of the training, or validation tail, that a window is too short for."""
    searched = [each.path for each in space.parameters if each.path in OF_TRAINING]
    offered = [_reachable(space, path, configured_value(spec, path)) for path in searched]
    for values in product(*offered) if searched else ():
        chosen = dict(zip(searched, values, strict=True))
        try:
            check_fit(apply(spec, chosen), windowed)
        except BadInputError as error:
            words = " with ".join(f"{path}={value!r}" for path, value in chosen.items())
            raise invalid(searched[-1], f"offers {words}: {error}") from None


def combinations(spec: StudySpec, space: SearchSpace) -> list[dict[str, Value]]:
    """Return every combination of timeframe, lookback and the other searched keys that decide a market."""
    keys = keys_of(type(spec))
    searched = [
        each.path
        for each in space.parameters
        if each.path.partition(".")[0] in ("data", "feature")
        and (each.path in OF_WINDOWS or each.path not in keys or keys[each.path].setting.role == MARKET)
    ]
    grouped = {each.path for each in space.parameters if each.options}
    paths = [TIMEFRAME, LOOKBACK, *(path for path in searched if path not in (TIMEFRAME, LOOKBACK))]
    if LOOKBACK not in searched and LOOKBACK.partition(".")[0] in grouped:
        paths.remove(LOOKBACK)  # each file has its own
    defaults = (None if path in grouped else configured_value(spec, path) for path in paths)
    choices = [_reachable(space, path, default) for path, default in zip(paths, defaults, strict=True)]
    found = (dict(zip(paths, values, strict=True)) for values in product(*choices))
    return [
        {path: each[path] for path in each if each[path] is not None or path not in grouped} for each in found
    ]


def work_ahead(spec: StudySpec, space: SearchSpace) -> list[str]:
    """Return the line that a launch prints before its first trial: the work ahead."""
    timeframes = _reachable(space, TIMEFRAME, spec.data.target)
    lookbacks = _reachable(space, LOOKBACK, spec.feature.lookback)
    counted = [(len(timeframes), "timeframe"), (len(lookbacks), "lookback")]
    others = len(combinations(spec, space)) // (len(timeframes) * len(lookbacks))
    counted += [(others, "feature set")] if others > 1 else []
    many = [f"{count} {word}{'s' if count > 1 else ''}" for count, word in counted]
    lines = [f"{spec.name}: building the market and windows of {' x '.join(many)}"]
    return [*lines, *training_engine(spec)]


def training_engine(spec: StudySpec) -> list[str]:
    """Return the training engine, the reason for it, and whether its kernels must be compiled first."""
    # On a cluster agent.device decides, because the workers run on other machines.
    engine = choose_engine(spec.agent, "cuda" if devices_of(spec) else None)
    lines = [
        f"{spec.agent.name} trains on the {engine.name} engine: {engine.reason}",
        *(budget_lines(spec.agent) if spec.train.passes is None else ()),
    ]
    if must_compile_first(spec.agent, engine.name, spec.reward.reward.step.__name__):
        lines.append("compiling kernels for this machine, once: this takes up to a minute")
    return lines


def _reachable(space: SearchSpace, path: str, default: Value) -> Sequence[Any]:
    """Return the values of a key for which markets are built; of a range its two ends."""
    for parameter in space.parameters:
        if parameter.path == path:
            if isinstance(parameter.domain, Choices):
                values = parameter.domain.values  # an inactive parameter has the default
                return (*values, default) if parameter.when and default not in values else values
            if isinstance(parameter.domain, Range):
                return (parameter.domain.low, parameter.domain.high)
    return (default,)


def fingerprint(spec: StudySpec) -> str:
    """Return the fingerprint of the data at the study's own timeframe, independent of the searched ones."""
    return cached_market(spec.data, spec.feature, spec.session, cache_dir(spec)).fingerprint


def store_baselines(context: StudyContext, markets: dict[MarketKey, WindowedMarket]) -> None:
    """Evaluate and store the flat, buy-and-hold and random policies once for each timeframe of the study.

    Those of an older version, whose random policies are single ones, are measured again.
    """
    spec = context.spec
    with context.engine.connect() as conn:
        known = load_baselines(conn, spec.name)
    single = {each.timeframe for each in known if each.name.startswith(RANDOM_NAME) and each.seeds is None}
    stored = {each.timeframe for each in known} - single
    for (timeframe, lookback, _), windowed in markets.items():
        if timeframe in stored:
            continue
        stored.add(timeframe)
        found = evaluate_baselines(apply(spec, {LOOKBACK: lookback}), windowed, spec.seed)
        with context.engine.begin() as conn:
            save_baselines(conn, [baseline_record(spec.name, timeframe, windowed, each) for each in found])
            _fill_quantiles(conn, spec.name, timeframe)


def _fill_quantiles(conn: Connection, study: str, timeframe: str) -> None:
    """Store the quantile of trials that ended before the random policies of their timeframe were measured."""
    levels = random_levels(load_baselines(conn, study), timeframe)
    for run in finished_runs(conn, study):
        if (
            run.score is not None
            and run.random_quantile is None
            and run.spec["data"]["timeframe"] == timeframe
        ):
            turnover = (run.metrics or {}).get("turnover")
            set_random_quantile(conn, run.run_uuid, random_quantile(levels, turnover, run.score))


def traded_by(baseline: Baseline) -> float:
    """Return the turnover of a baseline over all windows; of random policies the mean."""
    if baseline.random is not None:
        return baseline.random.turnover
    return sum(window.turnover for window in baseline.windows)


def baseline_record(
    study: str, timeframe: str, windowed: WindowedMarket, baseline: Baseline
) -> BaselineRecord:
    """Return the row of one baseline, its session returns included."""
    dates = [windowed.market.session_date[slice(*window.test_sessions)] for window in windowed.windows]
    random = baseline.random
    return BaselineRecord(
        study_name=study,
        timeframe=timeframe,
        name=baseline.name if baseline.turnover is None else f"{baseline.name}_{baseline.turnover:g}",
        score=baseline.score,
        sharpe_zero_cost=baseline.sharpe_zero_cost,
        total_return=baseline.total_return,
        cost=baseline.cost,
        turnover=traded_by(baseline),
        seeds=None if random is None else len(random.scores),
        score_low=None if random is None else random.quantile(LOW_SHARE),
        score_high=None if random is None else random.quantile(HIGH_SHARE),
        scores=None if random is None else list(random.scores),
        windows={
            "sessions": [[str(day) for day in window] for window in dates],
            "returns": [window.tolist() for window in baseline.returns],
            "bought_anew": baseline.bought_anew,
        },
    )
