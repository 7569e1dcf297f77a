"""A bundle on disk: verified file by file, then replayed to its score without any database."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pyarrow import ArrowException

from envs.types import FloatArray
from optimize.agents.agent import Agent, load_agent
from optimize.agents.archive import check_archive
from optimize.agents.files import MODEL, SPEC, WEIGHTS
from optimize.agents.threads import limit_threads
from optimize.data.features.registry import foreign_code
from optimize.data.scaling import load_scaler
from optimize.errors import BadInputError, DamagedReturnsError, WalkforgeError
from optimize.evaluate.windows import Window
from optimize.extensions import FOLDER as EXTENSIONS
from optimize.extensions import copies_in, load_extensions, refuse_unnamed, refuse_untrusted
from optimize.hashing import hash_arrays, hash_object
from optimize.study.export.described import check_described
from optimize.study.export.manifest import MANIFEST, Manifest, read_json, verify_bundle
from optimize.study.files import RETURNS, SCALER, TRADES, read_returns, window_folder
from optimize.study.spec import StudySpec, from_plain, to_plain
from optimize.study.trial import (
    Ground,
    Measured,
    Trained,
    conclude,
    evaluate_window,
    lay_ground,
    target_horizon,
)
from optimize.study.versions import CODE, comparable, differences

CONFIG, PICTURE = "config.json", "equity.png"
PROOF = (WEIGHTS, SPEC, SCALER, RETURNS, TRADES)  # of each window and repeat
DEPLOYED = (WEIGHTS, SPEC, SCALER, MODEL)  # of the last window, first repeat
MOST_SESSIONS = 1_000_000  # rows of one returns.parquet
TOLERANCE = 1e-9  # relative, where versions or the processor differ
Grounds = dict[str, Ground]  # built once and shared by bundles of the same market and windows


@dataclass(frozen=True)
class WindowReplay:
    """One window and repeat: the Sharpe ratio stored and the one replayed."""

    window: int
    repeat: int
    test_start: str
    test_end: str
    stored: float | None
    replayed: float | None
    bitwise: bool  # every session return is the same


@dataclass(frozen=True)
class Replay:
    """A bundle or trial that was run again and came to its score."""

    where: str
    study: str
    trial: int
    stored: float
    replayed: float
    bitwise: bool
    differences: tuple[str, ...]  # versions and processor, where it is not bitwise
    windows: tuple[WindowReplay, ...] = ()
    unproven: tuple[str, ...] = ()  # parts of a bundle that could not be compared
    restored: str | None = None  # of a trial without its models: whether those of the replay took their place

    @property
    def verdict(self) -> str:
        """Return what was shown, in a few words."""
        if self.bitwise:
            return "reproduced bit for bit"
        return f"reproduced within {TOLERANCE:g}; versions differ: {'; '.join(self.differences)}"


def replay_bundle(folder: Path, data_path: str | None = None, grounds: Grounds | None = None) -> Replay:
    """Verify every file, then evaluate every window again; raise WalkforgeError where the score differs."""
    manifest = verify_bundle(folder)
    limit_threads(_threads(manifest, folder))
    spec = read_config(folder, data_path)
    ground = lay_again(spec, manifest.data_fingerprint, str(folder), {} if grounds is None else grounds)
    check_deployed(folder, manifest, ground.windows[-1].index)
    stored: list[list[Measured]] = []
    for repeat in range(spec.score.repeats):
        places = [window_folder(folder, window.index, repeat) for window in ground.windows]
        stored.append([read_proof(place / RETURNS) for place in places])
    again = evaluate_again(spec, ground, folder)
    if returns_hash(stored) != manifest.returns_sha256:
        raise BadInputError(f"{folder}: the session returns are not those of {MANIFEST}: export it again")
    windows = tuple(
        _compare(window, repeat, stored[repeat][place], again[repeat][place])
        for place, window in enumerate(ground.windows)
        for repeat in range(spec.score.repeats)
    )
    value = conclude(spec, ground, again, pruned_at=None).score.value
    close = _all_close(stored, again)
    replay = judge(str(folder), manifest.study, manifest.trial, manifest.score, value, manifest.versions,
                   same=all(window.bitwise for window in windows), close=close)  # fmt: skip
    written = read_config(folder)  # the card names the data where they lay
    unproven = check_described(folder, manifest, written, ground, again)
    return dataclasses.replace(replay, windows=windows, unproven=unproven)


def judge(
    where: str,
    study: str,
    trial: int,
    stored: float,
    value: float | None,
    made_with: Mapping[str, str],
    *,
    same: bool,
    close: bool,
) -> Replay:
    """Return the verdict on a score that was computed again, or raise WalkforgeError."""
    bitwise = same and value == stored
    differing = () if bitwise else differences(dict(made_with), comparable(made_with))
    near = value is not None and close and math.isclose(value, stored, rel_tol=TOLERANCE)
    if value is None or not (bitwise or (near and differing)):
        known = "" if CODE in made_with else ", the code of that time was not recorded"
        cause = f"versions differ ({'; '.join(differing)})" if differing else f"versions are equal{known}"
        raise WalkforgeError(
            f"{where}: the score does not reproduce: stored {stored!r}, replayed {value!r}; {cause}, "
            f"so nothing else may be trusted of it: export or train it again"
        )
    return Replay(where, study, trial, stored, value, bitwise, differing)


def read_config(folder: Path, data_path: str | None = None) -> StudySpec:
    """Return the resolved spec of a bundle, with its data where they lie now."""
    path = folder / CONFIG
    plain = read_json(path)
    try:
        spec = from_plain(StudySpec, plain)
    except (BadInputError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BadInputError(f"{path} is no configuration of a study ({error}): export it again") from None
    copies = copies_in(folder, spec.extensions)
    refuse_untrusted(folder, copies)
    return moved(dataclasses.replace(spec, extensions=copies), data_path)


def trust_bundle(folder: Path) -> None:
    """Run the code that a bundle carries, once its files are verified."""
    verify_bundle(folder)
    load_extensions([str(path) for path in sorted((folder / EXTENSIONS).glob("*.py"))])


def read_proof(path: Path) -> Measured:
    """Return the stored results of one window and repeat; raise BadInputError for a file that is none."""
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
    """Refuse a deployable policy or scaler other than the proven one of the last window, first repeat."""
    proven = window_folder(Path(), last, 0)
    for name in (WEIGHTS, SPEC, SCALER):
        of_window = manifest.files.get((proven / name).as_posix(), {})
        if manifest.files.get(name, {}).get("sha256") != of_window.get("sha256", ""):
            raise BadInputError(
                f"{folder / name} is not {folder / proven / name}, the file that replays: "
                "the deployable policy of this bundle is unproven, so export it again"
            )
    check_archive(folder)


def _threads(manifest: Manifest, folder: Path) -> int:
    """Return the number of threads that the bundle was trained with."""
    text = manifest.trained_with.get("threads", "1")
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise BadInputError(f"{folder / MANIFEST}: trained_with.threads={text!r} is no number of threads")
    return int(text)


def moved(spec: StudySpec, data_path: str | None) -> StudySpec:
    """Return the spec with its data at another path, if one is given."""
    if data_path is None:
        return spec
    if spec.data.provider != "file":
        raise BadInputError(
            f"data.path={data_path!r} is not allowed: the data come from data.provider={spec.data.provider}, "
            "not from a file; leave it out"
        )
    return dataclasses.replace(spec, data=dataclasses.replace(spec.data, path=data_path))


def lay_again(spec: StudySpec, fingerprint: str, where: str, grounds: Grounds) -> Ground:
    """Build the ground anew, once for all that share it; refuse data other than those of the fingerprint."""
    refuse_unnamed(spec.extensions, where)
    hint = "give data.path=FILE if the data moved" if spec.data.provider == "file" else "restore its data"
    try:
        ground = _shared_ground(spec, grounds)
    except BadInputError as error:
        raise BadInputError(f"{where}: {error}; a replay needs the data of its trial: {hint}") from None
    if ground.market.fingerprint != fingerprint:
        raise BadInputError(
            f"{where}: the data of {spec.data.path or spec.data.provider} are not those of the trial "
            f"(fingerprint {fingerprint[:12]}, found {ground.market.fingerprint[:12]}): {hint}"
        )
    return ground


def returns_hash(measured: Sequence[Sequence[Measured]]) -> str:
    """Return the digest of all session returns [repeat][window], net and at zero cost."""
    return hash_arrays(part for row in measured for one in row for part in (one.returns, one.free_returns))


def _shared_ground(spec: StudySpec, grounds: Grounds) -> Ground:
    plain = to_plain(spec)
    parts = {key: plain[key] for key in ("data", "feature", "session", "window", "score")}
    load_extensions(spec.extensions)
    code = foreign_code(spec.feature.indicators)
    key = hash_object(parts | {"fill": spec.env.fill, "horizon": target_horizon(spec.agent), "code": code})
    if key not in grounds:
        grounds[key] = lay_ground(spec, None)
    return grounds[key]


def evaluate_again(spec: StudySpec, ground: Ground, folder: Path) -> list[list[Measured]]:
    """Evaluate the models of a bundle's windows; a row for each repeat."""
    return [
        [
            _evaluate(spec, ground, window, window_folder(folder, window.index, repeat))
            for window in ground.windows
        ]
        for repeat in range(spec.score.repeats)
    ]


def _evaluate(spec: StudySpec, ground: Ground, window: Window, place: Path) -> Measured:
    scaler = load_scaler(place / SCALER, ground.market.feature_names)
    return evaluate_window(spec, ground, window, Trained(load_on(place, spec.agent.device), scaler))[0]


def load_on(place: Path, device: str) -> Agent:
    """Load the agent where it was evaluated, or on the CPU of a machine that lacks such a device."""
    try:
        return load_agent(place, device)
    except (AssertionError, RuntimeError):  # what torch raises without CUDA, or without that GPU
        return load_agent(place)


def _compare(window: Window, repeat: int, stored: Measured, again: Measured) -> WindowReplay:
    return WindowReplay(
        window=window.index,
        repeat=repeat,
        test_start=str(window.dates.test_start),
        test_end=str(window.dates.test_end),
        stored=stored.metrics.sharpe,
        replayed=again.metrics.sharpe,
        bitwise=returns_hash([[stored]]) == returns_hash([[again]]),
    )


def _all_close(stored: Sequence[Sequence[Measured]], again: Sequence[Sequence[Measured]]) -> bool:
    """Say whether equity is the same within the tolerance at the end of every session."""
    pairs = zip((m for row in stored for m in row), (m for row in again for m in row), strict=True)
    return all(
        len(one.returns) == len(other.returns)
        and np.allclose(_growth(one.returns), _growth(other.returns), rtol=TOLERANCE, atol=0.0)
        for one, other in pairs
    )


def _growth(returns: FloatArray) -> FloatArray:
    growth: FloatArray = np.asarray(np.cumprod(1.0 + returns), dtype=np.float64)
    return growth
