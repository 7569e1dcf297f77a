"""Code that changed since a study was started must train a stored window to equal results."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from envs.types import FloatArray
from optimize.agents.threads import limit_threads
from optimize.errors import BadInputError, WalkforgeError
from optimize.results.codes import are_equal, equal_codes, follow_code, log_equal, quickest_windows
from optimize.results.records import RunRecord, StudyRecord, WindowRecord, load_study
from optimize.study.files import find_returns
from optimize.study.handle import Handle, indicators_of
from optimize.study.spec import StudySpec, from_plain
from optimize.study.trial import Measured, lay_ground, run_window, seed_of
from optimize.study.versions import CODE, COMMIT, changed_code, comparable, differences, source

TOLERANCE = 1e-9  # relative, of the growth of equity, where packages or the processor differ as well
MEASURES = ("sharpe_zero_cost", "total_return", "turnover", "trades", "exposure")  # where no file is left
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A stored window beside the same window computed by the code that is here."""

    run: RunRecord
    window: WindowRecord
    equal: bool
    seconds: float

    @property
    def place(self) -> str:
        """Return which window it is."""
        return f"trial {self.run.trial_number}, window {self.window.window}, repeat {self.window.repeat}"


def settle_code(handle: Handle, say: Say, *, launch: bool) -> None:
    """Let this code go on with a study, or raise BadInputError where it does not measure the same.

    Code that differs from the study's trains its quickest stored window again; equal results are recorded,
    so that they are compared once only. A launch of a study without a finished window takes its code over;
    another machine that joins has no right to.
    """
    here = source(indicators_of(handle.spec))
    with handle.engine.connect() as conn:
        record = load_study(conn, handle.spec.name)
        if record is None or record.versions.get(CODE) == here[CODE]:
            return
        known = are_equal(equal_codes(conn, handle.spec.name), record.versions.get(CODE), here[CODE])
    if not known:
        _compare(handle, record, here, say, launch=launch)
    if launch:
        with handle.engine.begin() as conn:
            follow_code(conn, handle.spec.name, here, (CODE, COMMIT))


def words_of_change(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Name the code that changed since a study was launched, with both commits."""
    if CODE not in then:
        return "the code of data, features, market and agents was not recorded when it was launched"
    changed = ", ".join(changed_code(then[CODE], now[CODE]))
    commits = (then.get(COMMIT, "unknown"), now.get(COMMIT, "unknown"))
    at = "" if commits[0] == commits[1] else f" (commit {commits[0]} then, {commits[1]} now)"
    return f"the code of {changed} changed since it was launched{at}"


def _compare(handle: Handle, record: StudyRecord, here: Mapping[str, str], say: Say, *, launch: bool) -> None:
    """Train a stored window again and record that it came out equal, or refuse this code."""
    name, change = handle.spec.name, words_of_change(record.versions, here)
    found = _stored_window(handle, record.versions.get(CODE))
    if found is None:
        if launch or CODE not in record.versions:
            return  # there is no result that could differ
        raise BadInputError(
            f"study {name!r}: {change}, and it has no finished window yet to compare: use the same code "
            "here, wait for its first window, or add versions=ignore"
        )
    trial, window = found[0].trial_number, found[1].window
    say(f"{name}: {change}; trial {trial}, window {window} is trained again to compare")
    try:
        result = compare_window(handle.spec, handle.cache_dir, *found)
    except WalkforgeError as error:
        raise _refusal(name, change, record, f"a stored window cannot be trained again ({error})") from None
    if not result.equal:
        other = _other_differences(result.run)
        beside = f"; other differences: {'; '.join(other)}" if other else ""
        raise _refusal(name, change, record, f"{result.place} differs when it is trained again{beside}")
    word = f"{name}: {result.place} came out equal ({result.seconds:.1f} s), so both codes count as one"
    say(word)
    detail = {"trial": trial, "window": window, "repeat": result.window.repeat}
    with handle.engine.begin() as conn:
        log_equal(conn, name, (record.versions.get(CODE), here[CODE]), f"{change}; {word}", detail)


def _refusal(name: str, change: str, record: StudyRecord, outcome: str) -> BadInputError:
    commit = f" (commit {record.versions[COMMIT]})" if COMMIT in record.versions else ""
    return BadInputError(
        f"study {name!r}: {change}, and {outcome}: use the code that it was launched with{commit}, "
        "or another study name"
    )


def compare_window(spec: StudySpec, cache_dir: Path, run: RunRecord, window: WindowRecord) -> Comparison:
    """Train and evaluate a stored window again, from its run's own parameters and seeds."""
    started = time.perf_counter()
    stored = from_plain(StudySpec, dict(run.spec))
    data = dataclasses.replace(stored.data, path=spec.data.path, folder=spec.data.folder)
    again = dataclasses.replace(stored, data=data, extensions=spec.extensions)
    limit_threads(int(run.versions.get("threads", 1)))
    ground = lay_ground(again, cache_dir)
    place = next((one for one in ground.windows if one.index == window.window), None)
    equal = False
    if place is not None and ground.market.fingerprint == run.data_fingerprint:
        seed = seed_of(list(run.entropy), window.window, window.repeat)
        measured = run_window(again, ground, place, seed)[1]
        equal = _same(spec.folder, window, measured, bitwise=not _other_differences(run))
    return Comparison(run, window, equal, time.perf_counter() - started)


def _stored_window(handle: Handle, code: str | None) -> tuple[RunRecord, WindowRecord] | None:
    """Return the quickest window of the study's own code, one whose returns are kept where there is one."""
    with handle.engine.connect() as conn:
        found = quickest_windows(conn, handle.spec.name)
    mine = [pair for pair in found if pair[0].versions.get(CODE) == code] or found
    kept = [pair for pair in mine if _stored_returns(handle.spec.folder, pair[1]) is not None]
    return next(iter(kept or mine), None)


def _stored_returns(folder: Path, window: WindowRecord) -> Measured | None:
    """Return what is on disk of a window, None where its file is missing or damaged."""
    found = find_returns(folder / window.returns_path) if window.returns_path else None
    return None if found is None else found[1]


def _other_differences(run: RunRecord) -> tuple[str, ...]:
    """Return the differences in packages, processor, threads and device, without the code."""
    stored = {key: value for key, value in run.versions.items() if key != CODE}
    return differences(stored, comparable(stored))


def _same(folder: Path, window: WindowRecord, measured: Measured, *, bitwise: bool) -> bool:
    """Return whether a window came out as stored: its session returns, or its row where no file is left."""
    stored = _stored_returns(folder, window)
    if stored is None:
        now = {name: getattr(measured.metrics, name) for name in MEASURES}
        return all(_near(getattr(window, name), now[name], bitwise=bitwise) for name in MEASURES)
    pairs = ((stored.returns, measured.returns), (stored.free_returns, measured.free_returns))
    return all(_equal(one, other, bitwise=bitwise) for one, other in pairs)


def _equal(one: FloatArray, other: FloatArray, *, bitwise: bool) -> bool:
    if bitwise or one.shape != other.shape:
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(np.allclose(np.cumprod(1.0 + one), np.cumprod(1.0 + other), rtol=TOLERANCE, atol=0.0))


def _near(one: float | None, other: float | None, *, bitwise: bool) -> bool:
    """Compare two measures; one that is undefined is stored as None."""
    if one is None or other is None or bitwise:
        return one == other or (one is None and other is not None and not np.isfinite(other))
    return bool(np.isclose(one, other, rtol=TOLERANCE, atol=0.0))
