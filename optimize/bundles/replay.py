"""Replay a bundle: verify its files, then evaluate it again to its score, without a database."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pyarrow import ArrowException

from envs.types import FloatArray
from optimize.agents.agent import Agent
from optimize.agents.artifacts import MODEL, SPEC, WEIGHTS
from optimize.agents.ensemble import ENSEMBLE, load_member_or_ensemble
from optimize.agents.sb3.archive import check_archive
from optimize.agents.threads import limit_threads
from optimize.bundles.consistency import check_consistency
from optimize.bundles.manifest import MANIFEST_FILE, Manifest, read_json, verify_bundle
from optimize.bundles.spans import SPANS_FILE, read_spans
from optimize.errors import BadInputError, DamagedReturnsError, WalkforgeError
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import Window
from optimize.extensions import FOLDER as EXTENSIONS
from optimize.extensions import copies_in, load_extensions, load_stored, refuse_untrusted
from optimize.hashing import hash_arrays
from optimize.walkforward.files import RETURNS, SCALER, TRADES, read_returns, window_folder
from optimize.walkforward.markets import WindowedMarket, shared_market
from optimize.walkforward.representation import load_representation
from optimize.walkforward.run import WindowModel, conclude, evaluate_window
from optimize.walkforward.spec import RunSpec, read_run
from optimize.walkforward.versions import CODE, comparable, differences

CONFIG, PICTURE_FILE = "config.json", "equity.png"
WINDOW_FILES = (WEIGHTS, SPEC, SCALER, RETURNS, TRADES)  # files of each window and repeat
POLICY_FILES = (WEIGHTS, SPEC, SCALER, MODEL)  # files of the last window, first repeat
MOST_SESSIONS = 1_000_000  # rows allowed in one returns.parquet
EQUITY_TOLERANCE = 1e-9  # relative, if versions or the processor differ
WindowedMarkets = dict[str, WindowedMarket]  # shared by bundles of the same market and windows


@dataclass(frozen=True)
class WindowReplay:
    """One window and repeat: the Sharpe ratio stored and the one replayed."""

    window: int
    repeat: int
    test_start: str
    test_end: str
    stored: float | None
    replayed: float | None
    bitwise: bool  # whether every session return is equal


@dataclass(frozen=True)
class Replay:
    """A replayed bundle or trial with its stored and its replayed score."""

    where: str
    study: str
    title: str  # the trial, or the members of an ensemble
    stored: float
    replayed: float
    bitwise: bool
    differences: tuple[str, ...]  # in versions and processor, if it is not bitwise
    windows: tuple[WindowReplay, ...] = ()
    unproven: tuple[str, ...] = ()  # parts of a bundle that could not be compared
    restored: str | None = None  # outcome of restoring deleted models of a trial

    @property
    def verdict(self) -> str:
        """Return the verdict as text."""
        if self.bitwise:
            return "reproduced bit for bit"
        return f"reproduced within {EQUITY_TOLERANCE:g}; versions differ: {'; '.join(self.differences)}"


def replay_bundle(
    folder: Path, data_path: str | None = None, markets: WindowedMarkets | None = None
) -> Replay:
    """Verify every file, then evaluate every window again; raise WalkforgeError if the score differs."""
    manifest = verify_bundle(folder)
    limit_threads(_threads(manifest, folder))
    spec = read_config(folder, data_path)
    windowed = rebuild_checked(
        spec, manifest.data_fingerprint, str(folder), {} if markets is None else markets
    )
    check_deployed(folder, manifest, windowed.windows[-1].index)
    stored: list[list[WindowResult]] = []
    for repeat in range(spec.score.repeats):
        places = [window_folder(folder, window.index, repeat) for window in windowed.windows]
        stored.append([read_window_result(place / RETURNS) for place in places])
    again = evaluate_again(spec, windowed, folder)
    if returns_hash(stored) != manifest.returns_sha256:
        raise BadInputError(
            f"{folder}: the session returns are not those of {MANIFEST_FILE}: export it again"
        )
    windows = tuple(
        _compare(window, repeat, stored[repeat][place], again[repeat][place])
        for place, window in enumerate(windowed.windows)
        for repeat in range(spec.score.repeats)
    )
    value = conclude(spec, windowed, again, pruned_at=None).score.value
    close = _all_close(stored, again)
    replay = replay_verdict(
        str(folder),
        manifest.study,
        manifest.title,
        manifest.score,
        value,
        manifest.versions,
        same=all(window.bitwise for window in windows),
        close=close,
    )
    written = read_config(folder)  # the card has the original path of the data
    unproven = check_consistency(folder, manifest, written, windowed, again)
    if (until := read_spans(folder).refit_until) is not None:
        unproven = (
            *unproven,
            f"the deployable policy is a refit up to {until}, which no window has measured",
        )
    return dataclasses.replace(replay, windows=windows, unproven=unproven)


def replay_verdict(
    where: str,
    study: str,
    title: str,
    stored: float,
    value: float | None,
    made_with: Mapping[str, str],
    *,
    same: bool,
    close: bool,
) -> Replay:
    """Return the verdict on a recomputed score, or raise WalkforgeError."""
    bitwise = same and value == stored
    differing = () if bitwise else differences(dict(made_with), comparable(made_with))
    near = value is not None and close and math.isclose(value, stored, rel_tol=EQUITY_TOLERANCE)
    if value is None or not (bitwise or (near and differing)):
        known = "" if CODE in made_with else ", the code of that time was not recorded"
        cause = f"versions differ ({'; '.join(differing)})" if differing else f"versions are equal{known}"
        raise WalkforgeError(
            f"{where}: the score does not reproduce: stored {stored!r}, replayed {value!r}; {cause}, "
            f"so nothing else may be trusted of it: export or train it again"
        )
    return Replay(where, study, title, stored, value, bitwise, differing)


def read_config(folder: Path, data_path: str | None = None) -> RunSpec:
    """Return the resolved spec of a bundle, with the current path of its data."""
    path = folder / CONFIG
    plain = read_json(path)
    try:
        spec = read_run(plain)
    except (BadInputError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BadInputError(
            f"{path} is not the configuration of a study ({error}): export it again"
        ) from None
    copies = copies_in(folder, spec.extensions)
    refuse_untrusted(folder, copies)
    return with_data_path(dataclasses.replace(spec, extensions=copies), data_path)


def trust_bundle(folder: Path) -> None:
    """Verify a bundle's files and load its extensions, which runs their code."""
    verify_bundle(folder)
    load_extensions([str(path) for path in sorted((folder / EXTENSIONS).glob("*.py"))])


def read_window_result(path: Path) -> WindowResult:
    """Return the stored results of one window and repeat; raise BadInputError for an invalid file."""
    try:
        rows = pq.read_metadata(path).num_rows
        if rows > MOST_SESSIONS:
            raise ValueError(f"it has {rows} rows")
        return read_returns(path)[1]
    except (OSError, ValueError, ArrowException, DamagedReturnsError) as error:
        raise BadInputError(
            f"{path} holds no session returns ({str(error).splitlines()[0]}): export it again"
        ) from None


def check_deployed(folder: Path, manifest: Manifest, last: int) -> None:
    """Refuse a deployable policy or scaler that differs from those of the last window, first repeat.

    That of a refit was measured nowhere: its label and its dates are checked alone.
    """
    proven = window_folder(Path(), last, 0)
    refitted = (folder / SPANS_FILE).is_file() and read_spans(folder).refit_until is not None
    for name in () if refitted else (WEIGHTS, SPEC, SCALER):
        of_window = manifest.files.get((proven / name).as_posix(), {})
        if manifest.files.get(name, {}).get("sha256") != of_window.get("sha256", ""):
            raise BadInputError(
                f"{folder / name} is not {folder / proven / name}, the file that replays: "
                "the deployable policy of this bundle is unproven, so export it again"
            )
    if MODEL in manifest.files or ENSEMBLE not in read_json(folder / SPEC):
        check_archive(folder)  # an ensemble has no model.zip


def _threads(manifest: Manifest, folder: Path) -> int:
    """Return the number of threads that the bundle was trained with."""
    text = manifest.trained_with.get("threads", "1")
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise BadInputError(
            f"{folder / MANIFEST_FILE}: trained_with.threads={text!r} is not a number of threads"
        )
    return int(text)


def with_data_path(spec: RunSpec, data_path: str | None) -> RunSpec:
    """Return the spec with its data at another path, if one is given."""
    if data_path is None:
        return spec
    if spec.data.provider != "file":
        raise BadInputError(
            f"data.path={data_path!r} is not allowed: the data come from data.provider={spec.data.provider}, "
            "not from a file; leave it out"
        )
    return dataclasses.replace(spec, data=dataclasses.replace(spec.data, path=data_path))


def rebuild_checked(spec: RunSpec, fingerprint: str, where: str, markets: WindowedMarkets) -> WindowedMarket:
    """Return a market and its windows, built once for all bundles that share it; check its fingerprint."""
    load_stored(spec.extensions, where)
    hint = "give data.path=FILE if the data moved" if spec.data.provider == "file" else "restore its data"
    try:
        windowed = shared_market(spec, markets, None)
    except BadInputError as error:
        raise BadInputError(f"{where}: {error}; a replay needs the data of its trial: {hint}") from None
    if windowed.market.fingerprint != fingerprint:
        raise BadInputError(
            f"{where}: the data of {spec.data.path or spec.data.provider} are not those of the trial "
            f"(fingerprint {fingerprint[:12]}, found {windowed.market.fingerprint[:12]}): {hint}"
        )
    return windowed


def returns_hash(measured: Sequence[Sequence[WindowResult]]) -> str:
    """Return the digest of all session returns [repeat][window], net and at zero cost."""
    return hash_arrays(part for row in measured for one in row for part in (one.returns, one.free_returns))


def evaluate_again(spec: RunSpec, windowed: WindowedMarket, folder: Path) -> list[list[WindowResult]]:
    """Evaluate the models of a bundle's windows; a row for each repeat."""
    return [
        [
            _evaluate(spec, windowed, window, window_folder(folder, window.index, repeat))
            for window in windowed.windows
        ]
        for repeat in range(spec.score.repeats)
    ]


def _evaluate(spec: RunSpec, windowed: WindowedMarket, window: Window, place: Path) -> WindowResult:
    model = load_window_model(spec, windowed, place)
    return evaluate_window(spec, windowed, window, model, in_sample=True)[0]


def load_window_model(spec: RunSpec, windowed: WindowedMarket, place: Path) -> WindowModel:
    """Load the agent and the representation in the folder of a window; refuse a market of other columns."""
    representation = load_representation(place / SCALER, spec.feature, windowed.market.feature_names)
    return WindowModel(load_on_device(place, spec.agent.device), representation)


def load_on_device(place: Path, device: str) -> Agent:
    """Load the agent on the device of its evaluation, or on the CPU if that device is missing."""
    try:
        return load_member_or_ensemble(place, device)
    except (AssertionError, RuntimeError):  # raised by torch without CUDA, or without that GPU
        return load_member_or_ensemble(place)


def _compare(window: Window, repeat: int, stored: WindowResult, again: WindowResult) -> WindowReplay:
    return WindowReplay(
        window=window.index,
        repeat=repeat,
        test_start=str(window.dates.test_start),
        test_end=str(window.dates.test_end),
        stored=stored.metrics.sharpe,
        replayed=again.metrics.sharpe,
        bitwise=returns_hash([[stored]]) == returns_hash([[again]]),
    )


def _all_close(stored: Sequence[Sequence[WindowResult]], again: Sequence[Sequence[WindowResult]]) -> bool:
    """Return whether equity is equal within the tolerance at the end of every session."""
    pairs = zip((m for row in stored for m in row), (m for row in again for m in row), strict=True)
    return all(
        len(one.returns) == len(other.returns)
        and np.allclose(_growth(one.returns), _growth(other.returns), rtol=EQUITY_TOLERANCE, atol=0.0)
        for one, other in pairs
    )


def _growth(returns: FloatArray) -> FloatArray:
    growth: FloatArray = np.asarray(np.cumprod(1.0 + returns), dtype=np.float64)
    return growth
