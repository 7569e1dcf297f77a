"""Run or resume a study to its cap: check, preflight, supervise, conclude."""

import dataclasses
from collections.abc import Sequence
from itertools import product
from typing import Any

from rich.console import Console
from rich.markup import escape

from optimize.agents.registry import searchable_keys, unsearchable
from optimize.data.cache import cached_market
from optimize.data.quality_report import enforce, inspect
from optimize.errors import BadInputError, StudyStoppedError
from optimize.evaluate.baselines import Baseline
from optimize.results.records import BaselineRecord, load_baselines, save_baselines
from optimize.search.leaves import Choices, Range
from optimize.search.space import Scalar, SearchSpace, apply, grid, lint_space, parse_space
from optimize.study.caps import counts, tell_finished
from optimize.study.dashboard import decorate_study
from optimize.study.files import write_json
from optimize.study.handle import Handle, cache_dir, enroll, open_study
from optimize.study.phases import (
    LOOKBACK,
    TIMEFRAME,
    Evidence,
    judge,
    model_study,
    record_evidence,
    require_evidence,
    timeframe_study,
)
from optimize.study.preflight import preflight
from optimize.study.progress import progress
from optimize.study.spec import StudySpec, to_plain
from optimize.study.trial import Ground, at_timeframe, lay_ground, yardsticks
from optimize.study.workers import Supervisor

MODEL_NEUTRAL = {"keep_models", "max_failures", "preflight", "env.action", "agent.name"}


def run_study(spec: StudySpec, console: Console) -> str:
    """Run every phase to its cap and return the name of the last study."""
    lint_space(parse_space(spec.space), spec, lambda path: why_unsearchable(spec, path))
    enforce(inspect(spec.data, spec.session), lambda text: console.print(escape(text), soft_wrap=True))
    if spec.phase.kind == "single":
        run_phase(spec, console)
        return spec.name
    first = timeframe_study(spec)
    handle = run_phase(first, console)
    evidence = judge(handle, fingerprint(spec))
    record_evidence(handle, evidence)
    _say_evidence(evidence, console)
    decorate_study(handle)
    if spec.phase.kind == "timeframe_only":
        return first.name
    second = model_study(spec, evidence)
    run_phase(second, console, evidence_of=fingerprint(spec))
    return second.name


def run_phase(spec: StudySpec, console: Console, evidence_of: str | None = None) -> Handle:
    """Run one study to its cap; everything that can be refused is refused before the first trial.

    A model phase rests on a timeframe phase of the same data, whose fingerprint is `evidence_of`.
    """
    space = parse_space(spec.space)
    probe = apply(spec, _first_choices(space))
    lint_space(space, probe, lambda path: why_unsearchable(spec, path))
    grounds = lay_grounds(spec, space)
    base = next(iter(grounds.values()))
    make_folder(spec)
    handle = open_study(spec)
    enroll(handle, base)
    if evidence_of is not None:
        require_evidence(handle, evidence_of)
    write_json(spec.folder / "config.json", to_plain(spec))
    write_json(spec.folder / "windows.json", {"windows": [dataclasses.asdict(w) for w in base.windows]})
    _store_baselines(handle, grounds)
    tell_finished(handle)
    if _counted(handle) >= spec.n_trials and not counts(handle.study)["RUNNING"]:
        console.print(f"{spec.name}: {_counted(handle)} of {spec.n_trials} trials done, nothing to run")
        return handle
    if spec.preflight:
        preflight(probe, handle.cache_dir, console.print)
    with progress(handle, spec.n_trials, console) as shown:
        try:
            Supervisor(handle).run(shown.show)
        finally:
            shown.refresh()
    if _counted(handle) < spec.n_trials:
        raise StudyStoppedError(
            f"study {spec.name!r} ended with {_counted(handle)} of {spec.n_trials} trials: launch it again; "
            f"the workers' words are in {spec.folder / 'logs'}"
        )
    decorate_study(handle)
    return handle


def make_folder(spec: StudySpec) -> None:
    """Create the study's folder, or say why it cannot be."""
    try:
        spec.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"output_dir: cannot create the folder {spec.folder} ({error.strerror}): choose a writable path"
        ) from None


def fingerprint(spec: StudySpec) -> str:
    """Return the fingerprint of the data at the study's own timeframe, whatever a phase searches."""
    return cached_market(spec.data, spec.feature, spec.session, cache_dir(spec)).fingerprint


def why_unsearchable(spec: StudySpec, path: str) -> str | None:
    """Return why a key may not be searched although it is no part of the exam, or None."""
    if path in MODEL_NEUTRAL:
        return "cannot change the built model or market"
    group, _, key = path.partition(".")
    if group == "reward" and key != "name" and "name" not in (spec.space.get("reward") or {}):
        read = spec.reward.reward.parameters
        return None if key in read else f"reward={spec.reward.name} reads {', '.join(read) or 'no such key'}"
    if group != "agent":
        return None
    reason = unsearchable(key)
    known = searchable_keys(spec.agent.name)
    if reason is None and key not in known:
        reason = f"is no argument of {spec.agent.name}; it has {', '.join(sorted(known))}"
    return reason


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


def _reachable(space: SearchSpace, path: str, default: Scalar) -> Sequence[Any]:
    for parameter in space.parameters:
        if parameter.path == path:
            if isinstance(parameter.domain, Choices):
                return parameter.domain.values
            if isinstance(parameter.domain, Range):
                return (parameter.domain.low, parameter.domain.high)
    return (default,)


def _first_choices(space: SearchSpace) -> dict[str, Scalar]:
    """Return a timeframe and lookback of the space: phases state these, so no configured default can."""
    inside = [
        p for p in space.parameters if p.path in (TIMEFRAME, LOOKBACK) and isinstance(p.domain, Choices)
    ]
    return grid(SearchSpace(tuple(inside)))[0]


def _store_baselines(handle: Handle, grounds: dict[tuple[str, int], Ground]) -> None:
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
        },
    )


def _counted(handle: Handle) -> int:
    found = counts(handle.study)
    return found["COMPLETE"] + found["PRUNED"]


def _say_evidence(evidence: Evidence, console: Console) -> None:
    for each in evidence.combinations:
        mean = "no score" if each.mean is None else f"mean score {each.mean:+.2f}"
        error = "" if each.standard_error is None else f" +- {each.standard_error:.2f}"
        trials = f"{each.scores} of {each.trials} trials"
        console.print(f"  {each.timeframe:>4} x {each.lookback:<3} {mean}{error} ({trials})", highlight=False)
    console.print(
        f"kept for the model phase: timeframes {', '.join(evidence.timeframes)}, "
        f"lookbacks {', '.join(map(str, evidence.lookbacks))} ({evidence.rule})",
        highlight=False,
        soft_wrap=True,
    )
