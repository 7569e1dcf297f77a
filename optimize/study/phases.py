"""Two phases as two studies: timeframe x lookback first, then the model within what was not ruled out."""

import dataclasses
import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any

from optimize.errors import StudyStoppedError
from optimize.results.records import EventRecord, events, log_event
from optimize.results.runs import complete_but_untold
from optimize.search.pruners import PrunerSpec
from optimize.search.samplers import SamplerSpec
from optimize.search.space import parse_space
from optimize.study.handle import Handle
from optimize.study.spec import MODEL_PHASE, TIMEFRAME_PHASE, StudySpec

EVIDENCE = "phase_evidence"
TIMEFRAME, LOOKBACK = "data.timeframe", "feature.lookback"
MIN_SCORES = 2  # a standard error needs two
RULE = "timeframes whose best mean score lies within one standard error of the best combination's mean"


@dataclass(frozen=True)
class Combination:
    """One timeframe and lookback, over trials that differ only in their seeds."""

    timeframe: str
    lookback: int
    trials: int  # counted, those without a score included
    scores: int
    mean: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Evidence:
    """What phase 2 rests on."""

    study_name: str
    data_fingerprint: str
    rule: str
    combinations: tuple[Combination, ...]
    timeframes: tuple[str, ...]  # kept
    lookbacks: tuple[int, ...]  # kept


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
    """Return phase 2: the model's space, restricted to the timeframes and lookbacks that phase 1 kept."""
    space: dict[str, Any] = {
        key: value for key, value in spec.space.items() if key not in ("data", "feature")
    }
    data = dict(spec.space.get("data") or {})
    feature = dict(spec.space.get("feature") or {})
    space["data"] = data | {"timeframe": list(evidence.timeframes)}
    space["feature"] = feature | {"lookback": list(evidence.lookbacks)}
    return dataclasses.replace(spec, name=f"{spec.name}.{MODEL_PHASE}", space=space)


def judge(handle: Handle, data_fingerprint: str) -> Evidence:
    """Compare the combinations of a finished phase 1 and keep what cannot be told from the best."""
    name = handle.spec.name
    with handle.engine.connect() as conn:
        runs = [run for run in complete_but_untold(conn, name) if run.state in ("COMPLETE", "PRUNED")]
    if len(runs) < handle.spec.n_trials:
        raise StudyStoppedError(
            f"study {name!r} has {len(runs)} of {handle.spec.n_trials} trials, so the model phase cannot "
            "start: launch it again to finish it"
        )
    combinations = tuple(
        _combine(
            timeframe,
            lookback,
            [r.score for r in runs if r.parameters == {TIMEFRAME: timeframe, LOOKBACK: lookback}],
        )
        for timeframe in handle.spec.space["data"]["timeframe"]
        for lookback in handle.spec.space["feature"]["lookback"]
    )
    timeframes, lookbacks = keep(combinations, name)
    return Evidence(name, data_fingerprint, RULE, combinations, timeframes, lookbacks)


def keep(combinations: tuple[Combination, ...], name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the timeframes and lookbacks within one standard error of the best mean.

    Where fewer than half the trials (or two) have a score, the mean is that of lucky survivors: left out.
    """
    scored = [each for each in combinations if each.scores >= max(MIN_SCORES, each.trials / 2)]
    if not scored:
        raise StudyStoppedError(
            f"study {name!r}: no combination of timeframe and lookback has a score in half its trials; see "
            f"`walkforge query sql=study_progress name={name}`, then raise agent.total_timesteps or lower "
            "score.min_trades"
        )
    best = max(scored, key=lambda each: -math.inf if each.mean is None else each.mean)  # 0.0 is a mean too
    threshold = (best.mean or 0.0) - (best.standard_error or 0.0)
    kept = [each for each in scored if each.mean is not None and each.mean >= threshold]
    timeframes = {each.timeframe for each in kept}
    lookbacks = {each.lookback for each in kept}
    in_order = dict.fromkeys(each.timeframe for each in combinations)
    return (
        tuple(timeframe for timeframe in in_order if timeframe in timeframes),
        tuple(sorted(lookbacks)),
    )


def _combine(timeframe: str, lookback: int, scores: list[float | None]) -> Combination:
    """Summarise one combination; its standard error needs two scores."""
    defined = [score for score in scores if score is not None]
    error = statistics.stdev(defined) / math.sqrt(len(defined)) if len(defined) >= 2 else None
    mean = statistics.fmean(defined) if defined else None
    return Combination(timeframe, lookback, len(scores), len(defined), mean, error)


def record_evidence(handle: Handle, evidence: Evidence) -> None:
    """Store the evidence with phase 1, once for each verdict."""
    detail = asdict(evidence)
    with handle.engine.begin() as conn:
        stored = events(conn, handle.spec.name, EVIDENCE)
        if not stored or stored[-1].detail != _as_stored(detail):
            message = f"kept timeframes {', '.join(evidence.timeframes)} and lookbacks {evidence.lookbacks}"
            log_event(conn, EventRecord(handle.spec.name, EVIDENCE, message, detail))


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


def _as_stored(detail: Any) -> Any:
    """Return plain data as JSON brings it back: tuples become lists."""
    if isinstance(detail, dict):
        return {key: _as_stored(value) for key, value in detail.items()}
    return [_as_stored(value) for value in detail] if isinstance(detail, (list, tuple)) else detail
