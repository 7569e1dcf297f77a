"""Two phases as two studies: timeframe x lookback first, then the model within the kept combinations."""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np

from envs.types import FloatArray
from optimize.data.cache import cached_market
from optimize.database.address import in_words
from optimize.errors import StudyStoppedError
from optimize.evaluate.confidence_set import ConfidenceSet, model_confidence_set, scale_to_unit_variance
from optimize.evaluate.score import ScoreSpec
from optimize.report.timeframe_phase import launch_line
from optimize.results.records import RunRecord, load_study
from optimize.results.runs import finished_runs, windows_of
from optimize.results.states import COUNTED
from optimize.results.timeframe_verdict import RULE, Combination, Verdict, stored_evidence
from optimize.search.space import parse_space
from optimize.search.spec import (
    LOOKBACK,
    MODEL_PHASE,
    TIMEFRAME,
    TIMEFRAME_PHASE,
    PrunerSpec,
    SamplerSpec,
    StartSpec,
    model_space,
)
from optimize.study.context import StudyContext, cap_of
from optimize.study.spec import StudySpec
from optimize.walkforward.files import find_returns
from optimize.walkforward.markets import WindowedMarket

MIN_SCORES = 2  # a spread over seeds needs two trials
BY_WINDOW = ("mean_window", "median_window", "lower_bound")  # scores compared by the mean of windows
Series = dict[np.datetime64, float]


@dataclasses.dataclass(frozen=True, eq=False)
class PhaseReturns:
    """Excess returns of every scored run on the sessions that all runs share."""

    by_run: dict[str, FloatArray]  # (repeats, sessions)
    borders: tuple[int, ...]  # first sessions of all windows but the first, where windows are scored apart


def timeframe_study(spec: StudySpec) -> StudySpec:
    """Return phase 1: a balanced grid, one configuration of the model, common seeds, never pruned."""
    grid = spec.phase.timeframe
    return dataclasses.replace(
        spec,
        name=f"{spec.name}.{TIMEFRAME_PHASE}",
        n_trials=grid.n_trials,
        space={"data": {"timeframe": list(grid.timeframes)}, "feature": {"lookback": list(grid.lookbacks)}},
        sampler=SamplerSpec(name="grid"),
        pruner=PrunerSpec(name="none"),
        search=StartSpec(),  # they are sets of the model's space
    )


def model_study(spec: StudySpec, evidence: Verdict) -> StudySpec:
    """Return phase 2: the model's space, restricted to the timeframes and lookbacks that phase 1 kept."""
    space = model_space(spec.space, evidence.timeframes, evidence.lookbacks)
    return dataclasses.replace(spec, name=f"{spec.name}.{MODEL_PHASE}", space=space)


def phase_budget(spec: StudySpec, windowed: WindowedMarket) -> str | None:
    """Return the launch line about the resolution of a timeframe phase; None for another study."""
    if not spec.name.endswith(f".{TIMEFRAME_PHASE}"):
        return None
    grid = spec.phase.timeframe
    combinations = len(grid.timeframes) * len(grid.lookbacks)
    return launch_line(
        combinations=combinations,
        trials=spec.n_trials // combinations,
        sessions=windowed.plan.test_sessions,
        sessions_per_year=windowed.market.sessions_per_year,
        confidence=grid.confidence,
    )


def compare_combinations(context: StudyContext, data_fingerprint: str) -> Verdict:
    """Compare the combinations of a finished phase 1; keep those not separable from the best."""
    spec, grid = context.spec, context.spec.phase.timeframe
    runs = _finished(context)
    years = cached_market(spec.data, spec.feature, spec.session, context.cache_dir).sessions_per_year
    returns = excess_returns(context, [run for of_pair in runs.values() for run in of_pair], years)
    combinations = [_combine(*pair, of_pair, returns, years) for pair, of_pair in runs.items()]
    compared = [each for each in combinations if each.reason is None]
    if not compared:
        seen = f"`walkforge query sql=study_progress name={spec.name}{in_words(spec.database.url)}`"
        raise StudyStoppedError(
            f"study {spec.name!r}: no combination of timeframe and lookback has a score in half its trials; "
            f"see {seen}, then raise agent.total_timesteps or lower score.min_trades"
        )
    scored = [
        [run for run in runs[each.timeframe, each.lookback] if run.score is not None] for each in compared
    ]
    stacked = [np.concatenate([returns.by_run[run.run_uuid] for run in of_pair]) for of_pair in scored]
    verdict = model_confidence_set(
        stacked,
        level=grid.confidence,
        bootstraps=grid.bootstraps,
        seed=spec.seed,
        borders=returns.borders,
    )
    return _evidence(spec, data_fingerprint, _judged(combinations, verdict), verdict, years)


def valid_evidence(context: StudyContext, data_fingerprint: str) -> Verdict | None:
    """Return the stored evidence of phase 1 if it is still valid, without reading any file, else None.

    It is valid if the same comparison would give it again, or if a model phase already rests on it by the
    rule of an older version.
    """
    grid = context.spec.phase.timeframe
    runs = _finished(context)
    with context.engine.connect() as conn:
        found = stored_evidence(conn, context.spec.name)
        base = context.spec.name.removesuffix(f".{TIMEFRAME_PHASE}")
        rested_on = load_study(conn, f"{base}.{MODEL_PHASE}") is not None
    if found is None:
        return None
    rule = RULE if rested_on else found.rule
    by = (rule, found.confidence, found.bootstraps, found.data_fingerprint)
    judged = {(each.timeframe, each.lookback): each.trials for each in found.combinations}
    same = by == (RULE, grid.confidence, grid.bootstraps, data_fingerprint)
    return found if same and judged == {pair: len(of_pair) for pair, of_pair in runs.items()} else None


def _finished(context: StudyContext) -> dict[tuple[str, int], list[RunRecord]]:
    """Return the counted runs of every timeframe and lookback; raise StudyStoppedError below the cap."""
    spec = context.spec
    with context.engine.connect() as conn:
        runs = [run for run in finished_runs(conn, spec.name) if run.state in COUNTED]
    if len(runs) < (cap := cap_of(context)):
        raise StudyStoppedError(
            f"study {spec.name!r} has {len(runs)} of {cap} trials, so the model phase cannot "
            "start: launch it again to finish it"
        )
    pairs = product(spec.space["data"]["timeframe"], spec.space["feature"]["lookback"])
    return {pair: [run for run in runs if _pair(run) == pair] for pair in pairs}


def _evidence(
    spec: StudySpec, fingerprint: str, judged: tuple[Combination, ...], verdict: ConfidenceSet, years: float
) -> Verdict:
    timeframes = {each.timeframe for each in judged if each.kept}
    lookbacks = {each.lookback for each in judged if each.kept}
    annual, seeds = math.sqrt(years), verdict.seeds
    return Verdict(
        study_name=spec.name,
        data_fingerprint=fingerprint,
        rule=RULE,
        confidence=spec.phase.timeframe.confidence,
        bootstraps=spec.phase.timeframe.bootstraps,
        block=verdict.block,
        sessions=verdict.sessions,
        seed_deviation=0.0 if seeds is None else seeds.estimate * annual,
        combinations=judged,
        timeframes=tuple(each for each in spec.space["data"]["timeframe"] if each in timeframes),
        lookbacks=tuple(sorted(lookbacks)),
        compared=_compared(spec.score),
        seed_low=None if seeds is None else seeds.low * annual,
        seed_high=None if seeds is None else seeds.high * annual,
        sessions_per_year=years,
        precision=verdict.precision,
    )


def _compared(score: ScoreSpec) -> str:
    """Return the statistic that the test compares, or an empty text if it is the score."""
    repeats = ", mean over repeats (the score: median over repeats)" if score.repeats > 1 else ""
    if score.kind in ("joined", "mean_window"):
        return repeats and f"the same Sharpe ratio as the score{repeats}"
    reason = f"as score.kind={score.kind} is not a mean over sessions"
    return f"the mean of the windows' Sharpe ratios, {reason}{repeats}"


def _pair(run: RunRecord) -> tuple[str, int]:
    return run.parameters[TIMEFRAME], run.parameters[LOOKBACK]


def excess_returns(context: StudyContext, runs: Sequence[RunRecord], years: float) -> PhaseReturns:
    """Return the session returns of every scored run beyond the risk-free rate."""
    stored = {run.run_uuid: _stored_returns(context, run) for run in runs if run.score is not None}
    every = [set(repeat) for _, repeats in stored.values() for repeat in repeats]
    # All runs have the same sessions unless the data ended between two runs.
    common = sorted(set.intersection(*every)) if every else []
    score = context.spec.score
    rate = score.risk_free / years
    by_run = {
        uuid: np.array([[repeat[session] for session in common] for repeat in repeats]) - rate
        for uuid, (_, repeats) in stored.items()
    }
    starts = next(iter(stored.values()))[0][1:] if stored and score.kind in BY_WINDOW else []
    return PhaseReturns(by_run, tuple(int(np.searchsorted(common, start)) for start in starts))


def _stored_returns(context: StudyContext, run: RunRecord) -> tuple[list[np.datetime64], list[Series]]:
    """Return the first session of each window, and the session returns of each repeat over all windows."""
    joined: dict[int, Series] = {}
    starts: dict[int, np.datetime64] = {}
    with context.engine.connect() as conn:
        windows = windows_of(conn, run.run_uuid)
    for window in windows:
        path = context.spec.folder / (window.returns_path or "")
        if (found := find_returns(path)) is None:
            raise StudyStoppedError(
                f"study {context.spec.name!r}: the returns of trial {run.trial_number} at {path} are missing "
                "or damaged: bring the file back, or run the study under another name"
            )
        sessions, measured = found
        joined.setdefault(window.repeat, {}).update(zip(sessions, measured.returns, strict=True))
        starts[window.window] = sessions[0]
    return [starts[index] for index in sorted(starts)], [joined[repeat] for repeat in sorted(joined)]


def _combine(
    timeframe: str, lookback: int, runs: Sequence[RunRecord], returns: PhaseReturns, years: float
) -> Combination:
    """Summarise one combination; if fewer than half its trials have a score, those are lucky survivors."""
    scored = [run for run in runs if run.score is not None]
    units = [scale_to_unit_variance(returns.by_run[run.run_uuid], returns.borders) for run in scored]
    sharpes = [float(unit.mean()) * math.sqrt(years) for unit in units]
    needed = max(MIN_SCORES, math.ceil(len(runs) / 2))
    reason = None
    if len(scored) < needed:
        whys = Counter(run.reason for run in runs if run.score is None)
        told = ", ".join(f"{why} {count}" for why, count in sorted(whys.items(), key=str))
        reason = f"{len(scored)} of {len(runs)} trials have a score, {needed} are needed ({told})"
    return Combination(
        timeframe=timeframe,
        lookback=lookback,
        trials=len(runs),
        scores=len(scored),
        sharpes=tuple(sharpes),
        mean=statistics.fmean(sharpes) if sharpes else None,
        standard_error=statistics.stdev(sharpes) / math.sqrt(len(sharpes)) if len(sharpes) > 1 else None,
        reason=reason,
    )


def _judged(combinations: Sequence[Combination], verdict: ConfidenceSet) -> tuple[Combination, ...]:
    """Return the combinations with p-value and decision for those that were compared."""
    found = iter(zip(verdict.p_values, verdict.kept, strict=True))
    judged = []
    for each in combinations:
        if each.reason is None:
            p_value, kept = next(found)
            each = dataclasses.replace(each, p_value=p_value, kept=kept)
        judged.append(each)
    return tuple(judged)


def require_evidence(context: StudyContext, data_fingerprint: str) -> Verdict:
    """Return the stored evidence of phase 1; refuse to start phase 2 without valid evidence."""
    name = context.spec.name.removesuffix(f".{MODEL_PHASE}") + f".{TIMEFRAME_PHASE}"
    with context.engine.connect() as conn:
        evidence = stored_evidence(conn, name)
    if evidence is None:
        raise StudyStoppedError(
            f"study {context.spec.name!r} has no stored result of its timeframe phase: run it with phase=two "
            "from the start"
        )
    if evidence.data_fingerprint != data_fingerprint:
        raise StudyStoppedError(
            f"study {context.spec.name!r}: the timeframe phase was run on other data; choose another name"
        )
    space = {parameter.path: parameter.domain for parameter in parse_space(context.spec.space).parameters}
    for path, kept in ((TIMEFRAME, evidence.timeframes), (LOOKBACK, evidence.lookbacks)):
        if tuple(getattr(space[path], "values", ())) != kept:
            raise StudyStoppedError(
                f"study {context.spec.name!r}: {path} is not what the timeframe phase kept"
            )
    return evidence
