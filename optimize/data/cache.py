"""Markets kept on disk and memory-mapped, so that all workers of a machine share one copy."""

import json
import os
import shutil
import uuid
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from envs.types import Market
from optimize.clock import now
from optimize.data.bars import utc_text
from optimize.data.dataset import ARRAYS, build_market
from optimize.data.durable import sync
from optimize.data.features.registry import foreign_code
from optimize.data.providers import provider_of
from optimize.data.spec import DataSpec, FeatureSpec, SessionSpec
from optimize.errors import BadInputError
from optimize.hashing import hash_file, hash_object
from optimize.source_code import package_digest, packages_in

PLAIN = ("symbols", "timeframe", "feature_names", "sessions_per_year", "fingerprint")
MANIFEST = "manifest.json"
# Where bars lie and how they are judged; the market of the bars is the same.
NO_PART_OF_MARKET = ("path", "folder", "refresh", "check", "max_age", "max_gap_days", "severity")
BUILDS = 3  # of a market whose files change while they are read
BUILT_WITH = ("TA-Lib", "numpy", "pandas", "exchange_calendars", "tzdata")


def cached_market(data: DataSpec, feature: FeatureSpec, session: SessionSpec, cache_dir: Path) -> Market:
    """Return the market from the cache, building it there first if need be; its arrays are read-only."""
    for _ in range(BUILDS):
        market = _cached(data, feature, session, cache_dir)
        if market is not None:
            return market
    names = ", ".join(str(path) for path in provider_of(data).files(data).values())
    raise BadInputError(
        f"the bars change while they are read ({names}): wait until they are written, and try again"
    )


def _cached(data: DataSpec, feature: FeatureSpec, session: SessionSpec, cache_dir: Path) -> Market | None:
    """Return the market from the cache, built if need be; None where a file was changed in mid-build."""
    key = cache_key(data, feature, session)
    folder = cache_dir / key
    market = _read(folder)
    if market is not None:
        return market
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"cannot create the folder {cache_dir} for markets ({error.strerror}): choose another cache_dir, "
            "or database.url in a study"
        ) from None
    with FileLock(cache_dir / f"{key}.lock"):
        market = _read(folder)
        if market is not None:
            return market
        built = build_market(data, feature, session)
        if cache_key(data, feature, session) != key:  # the market may be of other bars than the key
            return None
        _write(built, folder, data, feature)
        return _read(folder) or built


def cache_key(data: DataSpec, feature: FeatureSpec, session: SessionSpec) -> str:
    """Return the digest of all that decides a market: source files, specs, versions and this code.

    The files' content counts and not their path; feature.lookback does not change the market.
    """
    files = {symbol: hash_file(path) for symbol, path in provider_of(data).files(data).items()}
    own = packages_in(Path(__file__).parent, "data")
    code = {name: package_digest(folder) for name, folder in own if name != "data.clients"}
    wanted = {name: value for name, value in asdict(data).items() if name not in NO_PART_OF_MARKET}
    return hash_object(
        {
            "files": files,
            "order": list(files),
            "data": wanted,
            "feature": asdict(replace(feature, lookback=1)),
            "session": asdict(session),
            "versions": _versions(),
            "code": code | foreign_code(feature.indicators),
        }
    )


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that a market's numbers come from."""
    return {name: version(name) for name in BUILT_WITH}


def _read(folder: Path) -> Market | None:
    """Return the market memory-mapped, or None where the folder is absent, torn or changed since written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        intact = set(files) == set(ARRAYS) and manifest["market_sha256"] == hash_object(manifest["market"])
        if not (intact and all(_digest(_path(folder, name)) == files[name]["sha256"] for name in files)):
            return None
        arrays: dict[str, Any] = {
            name: np.asarray(np.load(_path(folder, name), mmap_mode="r")) for name in ARRAYS
        }
        plain: dict[str, Any] = {name: manifest["market"][name] for name in PLAIN}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    plain |= {name: tuple(plain[name]) for name in ("symbols", "feature_names")}
    return Market(**plain, **arrays)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, read once a process for each state that the file system shows of it."""
    seen = path.stat()
    return _hash_once(path, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


@lru_cache(maxsize=1024)
def _hash_once(path: Path, *_state: int) -> str:
    """Return the SHA-256 of a file in one state: number, size and times of change."""
    return hash_file(path)


def _write(market: Market, folder: Path, data: DataSpec, feature: FeatureSpec) -> None:
    """Write the folder aside, flush it to disk, then move it in place of a broken one or of none."""
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    aside.mkdir()
    try:
        files = {name: _store(market, name, aside) for name in ARRAYS}
        plain = {name: getattr(market, name) for name in PLAIN}
        manifest = {
            "market": plain,
            "market_sha256": hash_object(plain),
            "files": files,
            "rows": market.n_bars,
            "first": utc_text(market.timestamp[0]),
            "last": utc_text(market.timestamp[-1]),
            "provider": data.provider,
            "indicators": list(feature.indicators),
            "versions": _versions(),
            "written_at": now().isoformat(timespec="seconds"),
        }
        with (aside / MANIFEST).open("w", encoding="utf-8") as stream:
            json.dump(manifest, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        sync(aside)
        if folder.exists():
            broken = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
            folder.rename(broken)
            shutil.rmtree(broken)
        aside.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _store(market: Market, name: str, folder: Path) -> dict[str, Any]:
    """Write one array and return its size and digest."""
    path = _path(folder, name)
    with path.open("wb") as stream:
        np.save(stream, getattr(market, name), allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def _path(folder: Path, name: str) -> Path:
    """Return the file of an array."""
    return folder / f"{name}.npy"
