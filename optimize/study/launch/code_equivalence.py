"""Check that code which changed since a study was launched still trains a stored window to equal results."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from envs.plain import from_plain
from envs.types import FloatArray
from optimize.agents.threads import limit_threads
from optimize.bundles.replay import load_window_model
from optimize.errors import BadInputError, WalkforgeError
from optimize.evaluate.summary import WindowResult
from optimize.extensions import names_in_code
from optimize.results.code_of_runs import are_equal, equal_codes, follow_code, quickest_windows, used_names
from optimize.results.event_log import log_event
from optimize.results.events import CodesEqual
from optimize.results.records import RunRecord, StudyRecord, WindowRecord, load_study
from optimize.study.context import StudyContext, indicators_of
from optimize.study.spec import StudySpec
from optimize.walkforward.files import find_returns, holds_agent
from optimize.walkforward.markets import WindowedMarket, build_windowed_market
from optimize.walkforward.run import evaluate_window, run_window, seed_of
from optimize.walkforward.versions import (
    CODE,
    COMMIT,
    changed_code,
    comparable,
    differences,
    engine_again,
    source,
)

AGENTS = "optimize.agents"  # the packages that train
GROWTH_TOLERANCE = 1e-9  # relative, of the equity curve, where packages or the processor differ as well
# Compared where no file with the returns is left.
MEASURES = ("sharpe_zero_cost", "total_return", "turnover", "trades", "exposure")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A stored window beside the same window computed by the installed code."""

    run: RunRecord
    window: WindowRecord
    equal: bool
    seconds: float

    @property
    def label(self) -> str:
        """Return trial, window and repeat in words."""
        return f"trial {self.run.trial_number}, window {self.window.window}, repeat {self.window.repeat}"


def check_code(context: StudyContext, echo: Callable[[str], None], *, launch: bool) -> None:
    """Accept the installed code for a study, or raise BadInputError where it computes other results.

    Code that differs from the study's trains stored windows again: the quickest that use the features,
    rewards and agents that the code may have changed. Equal results are recorded, so that the comparison
    runs only once. A launch of a study without a finished window adopts the code; a machine that joins does
    not.
    """
    here = source(indicators_of(context.spec), context.spec.extensions)
    with context.engine.connect() as conn:
        record = load_study(conn, context.spec.name)
        if record is None or record.versions.get(CODE) == here[CODE]:
            return
        known = are_equal(equal_codes(conn, context.spec.name), record.versions.get(CODE), here[CODE])
    if not known:
        _compare(context, record, here, echo, launch=launch)
    if launch:
        with context.engine.begin() as conn:
            follow_code(conn, context.spec.name, here, (CODE, COMMIT))


def code_changes(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return the parts of the code that changed since a study was launched, with both commits."""
    if CODE not in then:
        return "the code of data, features, market and agents was not recorded when it was launched"
    changed = ", ".join(changed_code(then[CODE], now[CODE]))
    commits = (then.get(COMMIT, "unknown"), now.get(COMMIT, "unknown"))
    at = "" if commits[0] == commits[1] else f" (commit {commits[0]} then, {commits[1]} now)"
    return f"the code of {changed} changed since it was launched{at}"


def _compare(
    context: StudyContext,
    record: StudyRecord,
    here: Mapping[str, str],
    echo: Callable[[str], None],
    *,
    launch: bool,
) -> None:
    """Train stored windows again; record equal results, or refuse this code."""
    name, change = context.spec.name, code_changes(record.versions, here)
    found = _stored_windows(context, record.versions.get(CODE), here[CODE])
    if not found:
        if launch or CODE not in record.versions:
            return  # no finished window: no result can differ
        raise BadInputError(
            f"study {name!r}: {change}, and it has no finished window yet to compare: use the same code "
            "here, wait for its first window, or add versions=ignore"
        )
    proofs = [_prove_equal(context, record, here, pair, echo) for pair in found]
    with context.engine.begin() as conn:
        for word, proven in proofs:
            log_event(conn, name, f"{change}; {word}", proven)


def _prove_equal(
    context: StudyContext,
    record: StudyRecord,
    here: Mapping[str, str],
    found: tuple[RunRecord, WindowRecord],
    echo: Callable[[str], None],
) -> tuple[str, CodesEqual]:
    """Train a stored window again and return the line on its equal result; raise BadInputError otherwise."""
    name, change = context.spec.name, code_changes(record.versions, here)
    trial, window = found[0].trial_number, found[1].window
    echo(f"{name}: {change}; trial {trial}, window {window} is trained again to compare")
    try:
        result = compare_window(context.spec, context.cache_dir, *found)
    except WalkforgeError as error:
        raise _refusal(name, change, record, f"a stored window cannot be trained again ({error})") from None
    if result.equal:
        word = f"{name}: {result.label} came out equal ({result.seconds:.1f} s), so both codes count as one"
    else:
        other = _other_differences(result.run)
        beside = f"; other differences: {'; '.join(other)}" if other else ""
        if not other or not _evaluates_equal(context, record, here, result.run):
            raise _refusal(name, change, record, f"{result.label} differs when it is trained again{beside}")
        word = (
            f"{name}: {result.label} differs when it is trained again, as training does on another processor "
            f"or with other packages ({'; '.join(other)}), but a stored agent earns equal returns, so both "
            "codes count as one"
        )
    echo(word)
    return word, CodesEqual(record.versions.get(CODE), here[CODE], trial, window, result.window.repeat)


def _refusal(name: str, change: str, record: StudyRecord, outcome: str) -> BadInputError:
    commit = f" (commit {record.versions[COMMIT]})" if COMMIT in record.versions else ""
    return BadInputError(
        f"study {name!r}: {change}, and {outcome}: use the code that it was launched with{commit}, "
        "or another study name"
    )


def compare_window(spec: StudySpec, cache_dir: Path, run: RunRecord, window: WindowRecord) -> Comparison:
    """Train and evaluate a stored window again with the parameters and seeds of its run."""
    started = time.perf_counter()
    windowed, again = _stored_market(spec, cache_dir, run)
    split = next((one for one in windowed.windows if one.index == window.window), None)
    equal = False
    if split is not None and windowed.market.fingerprint == run.data_fingerprint:
        seed = seed_of(list(run.entropy), window.window, window.repeat)
        measured = run_window(again, windowed, split, seed, engine_again(again.agent, run.versions))[1]
        equal = _same(spec.folder, window, measured, bitwise=not _other_differences(run))
    return Comparison(run, window, equal, time.perf_counter() - started)


def _evaluates_equal(
    context: StudyContext, record: StudyRecord, here: Mapping[str, str], like: RunRecord
) -> bool:
    """Return whether a stored agent earns its stored returns again; False where the training code changed.

    An agent that uses the same features, reward and algorithm as the run `like` is taken first. Training
    amplifies the last digits in which processors and packages differ; an evaluation does not.
    """
    spec, then = context.spec, record.versions.get(CODE)
    if then is not None and any(name.startswith(AGENTS) for name in changed_code(then, here[CODE])):
        return False
    names = used_names(like.spec) & names_in_code(changed_code(then or "", here[CODE]))
    with context.engine.connect() as conn:
        found = quickest_windows(conn, spec.name, names)
    for run, window in found:
        if window.returns_path is None or not holds_agent(
            place := (spec.folder / window.returns_path).parent
        ):
            continue
        windowed, again = _stored_market(spec, context.cache_dir, run)
        split = next((one for one in windowed.windows if one.index == window.window), None)
        if split is None or windowed.market.fingerprint != run.data_fingerprint:
            return False
        model = load_window_model(again, windowed, place)
        return _same(spec.folder, window, evaluate_window(again, windowed, split, model)[0], bitwise=False)
    return False


def _stored_market(spec: StudySpec, cache_dir: Path, run: RunRecord) -> tuple[WindowedMarket, StudySpec]:
    """Return the market of a run, and its settings with the paths of this machine."""
    stored = from_plain(StudySpec, dict(run.spec))
    data = dataclasses.replace(stored.data, path=spec.data.path, folder=spec.data.folder)
    again = dataclasses.replace(stored, data=data, extensions=spec.extensions)
    limit_threads(int(run.versions.get("threads", 1)))
    return build_windowed_market(again, cache_dir), again


def _stored_windows(
    context: StudyContext, then: str | None, now: str
) -> list[tuple[RunRecord, WindowRecord]]:
    """Return the quickest windows that together use every name that the changed code may compute."""
    names = names_in_code(changed_code(then or "", now))
    found: list[tuple[RunRecord, WindowRecord]] = []
    while (pair := _stored_window(context, then, names)) is not None:
        used = used_names(pair[0].spec) & names
        if found and not used:
            break
        found.append(pair)
        names -= used
        if not names:
            break
    return found


def _stored_window(
    context: StudyContext, code: str | None, names: set[str]
) -> tuple[RunRecord, WindowRecord] | None:
    """Return a window that uses the most names, if possible of the study's own code and with returns."""
    with context.engine.connect() as conn:
        found = quickest_windows(conn, context.spec.name, names)
    used = [used_names(run.spec) & names for run, _ in found]
    most = [pair for pair, own in zip(found, used, strict=True) if own == used[0]]
    mine = [pair for pair in most if pair[0].versions.get(CODE) == code] or most
    kept = [pair for pair in mine if _stored_returns(context.spec.folder, pair[1]) is not None]
    return next(iter(kept or mine), None)


def _stored_returns(folder: Path, window: WindowRecord) -> WindowResult | None:
    """Return the stored returns of a window, None where their file is missing or damaged."""
    found = find_returns(folder / window.returns_path) if window.returns_path else None
    return None if found is None else found[1]


def _other_differences(run: RunRecord) -> tuple[str, ...]:
    """Return the differences in packages, processor, threads and device, without the code."""
    stored = {key: value for key, value in run.versions.items() if key != CODE}
    return differences(stored, comparable(stored))


def _same(folder: Path, window: WindowRecord, measured: WindowResult, *, bitwise: bool) -> bool:
    """Return whether a window equals the stored one by its session returns, or by its row without a file."""
    stored = _stored_returns(folder, window)
    if stored is None:
        now = {name: getattr(measured.metrics, name) for name in MEASURES}
        return all(_near(getattr(window, name), now[name], bitwise=bitwise) for name in MEASURES)
    pairs = ((stored.returns, measured.returns), (stored.free_returns, measured.free_returns))
    return all(_equal(one, other, bitwise=bitwise) for one, other in pairs)


def _equal(one: FloatArray, other: FloatArray, *, bitwise: bool) -> bool:
    if bitwise or one.shape != other.shape:
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(np.allclose(np.cumprod(1.0 + one), np.cumprod(1.0 + other), rtol=GROWTH_TOLERANCE, atol=0.0))


def _near(one: float | None, other: float | None, *, bitwise: bool) -> bool:
    """Compare two measures; one that is undefined is stored as None."""
    if one is None or other is None or bitwise:
        return one == other or (one is None and other is not None and not np.isfinite(other))
    return bool(np.isclose(one, other, rtol=GROWTH_TOLERANCE, atol=0.0))
