"""Markets kept on disk and memory-mapped, so that all workers of a machine share one copy."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from envs.fields import MARKET
from envs.plain import part_of
from envs.types import Market, array_specs, scalar_types
from optimize.atomic import replacing_folder
from optimize.clock import now
from optimize.data.bars import utc_text
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.registry import foreign_code, keys_in_use
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market
from optimize.data.sources.providers import provider_of
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from optimize.hashing import hash_file, hash_file_once, hash_object
from optimize.source_code import package_digest, packages_in

MARKET_MANIFEST = "manifest.json"
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

    The files' content counts and not their path; of the specs, the keys of role market count.
    """
    files = {symbol: hash_file_once(path) for symbol, path in provider_of(data).files(data).items()}
    own = packages_in(Path(__file__).parent, "data")
    code = {name: package_digest(folder) for name, folder in own if name != "data.sources.clients"}
    return hash_object(
        {
            "files": files,
            "order": list(files),
            "data": part_of(data, MARKET),
            "feature": part_of(feature, MARKET) | {"parameters": keys_in_use(feature)},
            "session": part_of(session, MARKET),
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
        manifest = json.loads((folder / MARKET_MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        intact = set(files) == set(array_specs(Market)) and manifest["market_sha256"] == hash_object(
            manifest["market"]
        )
        if not (
            intact and all(hash_file_once(_path(folder, name)) == files[name]["sha256"] for name in files)
        ):
            return None
        arrays: dict[str, Any] = {
            name: np.asarray(np.load(_path(folder, name), mmap_mode="r")) for name in array_specs(Market)
        }
        scalars: dict[str, Any] = {
            name: kind(manifest["market"][name]) for name, kind in scalar_types(Market).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Market(**scalars, **arrays)


def _write(market: Market, folder: Path, data: DataSpec, feature: FeatureSpec) -> None:
    """Replace the folder of a market, whose lock the caller holds."""
    with replacing_folder(folder, alone=True) as partial:
        files = {name: _store(market, name, partial) for name in array_specs(Market)}
        scalars = {name: getattr(market, name) for name in scalar_types(Market)}
        manifest = {
            "market": scalars,
            "market_sha256": hash_object(scalars),
            "files": files,
            "rows": market.n_bars,
            "first": utc_text(market.timestamp[0]),
            "last": utc_text(market.timestamp[-1]),
            "provider": data.provider,
            "indicators": list(feature.indicators),
            "versions": _versions(),
            "written_at": now().isoformat(timespec="seconds"),
        }
        (partial / MARKET_MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _store(market: Market, name: str, folder: Path) -> dict[str, Any]:
    """Write one array and return its size and digest."""
    path = _path(folder, name)
    np.save(path, getattr(market, name), allow_pickle=False)
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def _path(folder: Path, name: str) -> Path:
    """Return the file of an array."""
    return folder / f"{name}.npy"
