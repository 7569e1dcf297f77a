"""Two phases as two studies: timeframe x lookback first, then the model within what was not ruled out."""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from envs.types import FloatArray
from optimize.data.cache import cached_market
from optimize.database.address import in_words
from optimize.errors import StudyStoppedError
from optimize.evaluate.confidence import ConfidenceSet, confidence_set, scale
from optimize.evaluate.score import ScoreSpec
from optimize.results.records import RunRecord, events, load_study
from optimize.results.runs import complete_but_untold, windows_of
from optimize.search.pruners import PrunerSpec
from optimize.search.samplers import SamplerSpec
from optimize.search.space import parse_space
from optimize.study.budget import launch_line
from optimize.study.evidence import EVIDENCE, RULE, Combination, Evidence, stored_evidence
from optimize.study.files import find_returns
from optimize.study.handle import Handle, cap_of
from optimize.study.spec import LOOKBACK, MODEL_PHASE, TIMEFRAME, TIMEFRAME_PHASE, StudySpec
from optimize.study.trial import Ground

MIN_SCORES = 2  # the effect of seeds shows between two trials
BY_WINDOW = ("mean_window", "median_window", "lower_bound")  # scores of which the mean of windows is compared
Series = dict[np.datetime64, float]


@dataclasses.dataclass(frozen=True, eq=False)
class PhaseReturns:
    """Excess returns of every scored run on the sessions that all of them have."""

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
    )


def model_study(spec: StudySpec, evidence: Evidence) -> StudySpec:
    """Return phase 2: the model's space, restricted to the timeframes and lookbacks that phase 1 kept.

    Two lists know no pairs: they hold the kept combinations, and pairings of them that were not kept.
    """
    space: dict[str, Any] = {
        key: value for key, value in spec.space.items() if key not in ("data", "feature")
    }
    data = dict(spec.space.get("data") or {})
    feature = dict(spec.space.get("feature") or {})
    space["data"] = data | {"timeframe": list(evidence.timeframes)}
    space["feature"] = feature | {"lookback": list(evidence.lookbacks)}
    return dataclasses.replace(spec, name=f"{spec.name}.{MODEL_PHASE}", space=space)


def phase_budget(spec: StudySpec, ground: Ground) -> str | None:
    """Return how finely a timeframe phase resolves with its windows and trials; None for another study."""
    if not spec.name.endswith(f".{TIMEFRAME_PHASE}"):
        return None
    grid = spec.phase.timeframe
    combinations = len(grid.timeframes) * len(grid.lookbacks)
    return launch_line(
        combinations=combinations,
        trials=spec.n_trials // combinations,
        sessions=ground.plan.test_sessions,
        sessions_per_year=ground.market.sessions_per_year,
        confidence=grid.confidence,
    )


def judge(handle: Handle, data_fingerprint: str) -> Evidence:
    """Compare the combinations of a finished phase 1 and keep what cannot be told from the best."""
    spec, grid = handle.spec, handle.spec.phase.timeframe
    runs = _finished(handle)
    years = cached_market(spec.data, spec.feature, spec.session, handle.cache_dir).sessions_per_year
    returns = excess_returns(handle, [run for of_pair in runs.values() for run in of_pair], years)
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
    verdict = confidence_set(
        stacked,
        level=grid.confidence,
        bootstraps=grid.bootstraps,
        seed=spec.seed,
        borders=returns.borders,
    )
    return _evidence(spec, data_fingerprint, _judged(combinations, verdict), verdict, years)


def standing_evidence(handle: Handle, data_fingerprint: str) -> Evidence | None:
    """Return the stored verdict, without a look at any file, where it stands.

    It stands where judging again could not change it, and where a model phase already rests on the rule of an
    older version.
    """
    grid = handle.spec.phase.timeframe
    runs = _finished(handle)
    with handle.engine.connect() as conn:
        found = stored_evidence(conn, handle.spec.name)
        base = handle.spec.name.removesuffix(f".{TIMEFRAME_PHASE}")
        rested_on = load_study(conn, f"{base}.{MODEL_PHASE}") is not None
    if found is None:
        return None
    rule = RULE if rested_on else found.rule
    by = (rule, found.confidence, found.bootstraps, found.data_fingerprint)
    judged = {(each.timeframe, each.lookback): each.trials for each in found.combinations}
    same = by == (RULE, grid.confidence, grid.bootstraps, data_fingerprint)
    return found if same and judged == {pair: len(of_pair) for pair, of_pair in runs.items()} else None


def _finished(handle: Handle) -> dict[tuple[str, int], list[RunRecord]]:
    """Return the counted runs of every timeframe and lookback; raise StudyStoppedError below the cap."""
    spec = handle.spec
    with handle.engine.connect() as conn:
        runs = [run for run in complete_but_untold(conn, spec.name) if run.state in ("COMPLETE", "PRUNED")]
    if len(runs) < (cap := cap_of(handle)):
        raise StudyStoppedError(
            f"study {spec.name!r} has {len(runs)} of {cap} trials, so the model phase cannot "
            "start: launch it again to finish it"
        )
    pairs = product(spec.space["data"]["timeframe"], spec.space["feature"]["lookback"])
    return {pair: [run for run in runs if _pair(run) == pair] for pair in pairs}


def _evidence(
    spec: StudySpec, fingerprint: str, judged: tuple[Combination, ...], verdict: ConfidenceSet, years: float
) -> Evidence:
    timeframes = {each.timeframe for each in judged if each.kept}
    lookbacks = {each.lookback for each in judged if each.kept}
    annual, seeds = math.sqrt(years), verdict.seeds
    return Evidence(
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
    """Return the statistic that the test compares, where it is not the score itself."""
    repeats = ", mean over repeats (the score: median over repeats)" if score.repeats > 1 else ""
    if score.kind in ("joined", "mean_window"):
        return repeats and f"the same Sharpe ratio as the score{repeats}"
    return (
        f"the mean of the windows' Sharpe ratios, as score.kind={score.kind} is no mean of sessions{repeats}"
    )


def _pair(run: RunRecord) -> tuple[str, int]:
    return run.parameters[TIMEFRAME], run.parameters[LOOKBACK]


def excess_returns(handle: Handle, runs: Sequence[RunRecord], years: float) -> PhaseReturns:
    """Return the session returns of every scored run beyond the risk-free rate."""
    stored = {run.run_uuid: _stored_returns(handle, run) for run in runs if run.score is not None}
    every = [set(repeat) for _, repeats in stored.values() for repeat in repeats]
    # The windows are planned on the calendar: all have the same sessions, unless the data ends between two.
    common = sorted(set.intersection(*every)) if every else []
    score = handle.spec.score
    rate = score.risk_free / years
    by_run = {
        uuid: np.array([[repeat[session] for session in common] for repeat in repeats]) - rate
        for uuid, (_, repeats) in stored.items()
    }
    starts = next(iter(stored.values()))[0][1:] if stored and score.kind in BY_WINDOW else []
    return PhaseReturns(by_run, tuple(int(np.searchsorted(common, start)) for start in starts))


def _stored_returns(handle: Handle, run: RunRecord) -> tuple[list[np.datetime64], list[Series]]:
    """Return the first session of each window, and the session returns of each repeat over all windows."""
    joined: dict[int, Series] = {}
    starts: dict[int, np.datetime64] = {}
    with handle.engine.connect() as conn:
        windows = windows_of(conn, run.run_uuid)
    for window in windows:
        path = handle.spec.folder / (window.returns_path or "")
        if (found := find_returns(path)) is None:
            raise StudyStoppedError(
                f"study {handle.spec.name!r}: the returns of trial {run.trial_number} at {path} are missing "
                "or damaged: bring the file back, or run the study under another name"
            )
        sessions, measured = found
        joined.setdefault(window.repeat, {}).update(zip(sessions, measured.returns, strict=True))
        starts[window.window] = sessions[0]
    return [starts[index] for index in sorted(starts)], [joined[repeat] for repeat in sorted(joined)]


def _combine(
    timeframe: str, lookback: int, runs: Sequence[RunRecord], returns: PhaseReturns, years: float
) -> Combination:
    """Summarise one combination; one with a score in less than half its trials would be lucky survivors."""
    scored = [run for run in runs if run.score is not None]
    units = [scale(returns.by_run[run.run_uuid], returns.borders) for run in scored]
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
    """Return the combinations with the verdict on those that were compared."""
    found = iter(zip(verdict.p_values, verdict.kept, strict=True))
    judged = []
    for each in combinations:
        if each.reason is None:
            p_value, kept = next(found)
            each = dataclasses.replace(each, p_value=p_value, kept=kept)
        judged.append(each)
    return tuple(judged)


def require_evidence(handle: Handle, data_fingerprint: str) -> dict[str, Any]:
    """Return the stored verdict of phase 1, or refuse to start phase 2 without a valid one."""
    name = handle.spec.name.removesuffix(f".{MODEL_PHASE}") + f".{TIMEFRAME_PHASE}"
    with handle.engine.connect() as conn:
        stored = events(conn, name, EVIDENCE)
    if not stored:
        raise StudyStoppedError(f"study {handle.spec.name!r} has no evidence of a timeframe phase to rest on")
    detail: dict[str, Any] = stored[-1].detail
    if detail["data_fingerprint"] != data_fingerprint:
        raise StudyStoppedError(
            f"study {handle.spec.name!r}: the timeframe phase was run on other data; choose another name"
        )
    space = {parameter.path: parameter.domain for parameter in parse_space(handle.spec.space).parameters}
    for path, kept in ((TIMEFRAME, detail["timeframes"]), (LOOKBACK, detail["lookbacks"])):
        if list(getattr(space[path], "values", ())) != kept:
            raise StudyStoppedError(
                f"study {handle.spec.name!r}: {path} is not what the timeframe phase kept"
            )
    return detail
