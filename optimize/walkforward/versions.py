"""Versions of packages, interpreter, processor and code, on which the numbers of a trial depend."""

import functools
import hashlib
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from optimize.agents.devices import device_name
from optimize.agents.engines import FUSED, LOCK_STEP, Engine, local_engine
from optimize.agents.spec import AgentSpec
from optimize.agents.threads import thread_count
from optimize.data.features.registry import FEATURES, foreign_code
from optimize.extensions import loaded_code
from optimize.source_code import package_digest, packages_in

PACKAGES = (
    "walkforge",
    "exchange_calendars",
    "gymnasium",
    "numba",
    "numpy",
    "optuna",
    "pandas",
    "pyarrow",
    "safetensors",
    "scipy",
    "stable_baselines3",
    "TA-Lib",
    "torch",
)
SOURCE = Path(__file__).resolve().parents[2]
# Every package in these makes data, features, market, agent or score; downloads count by their content.
MEASURING = ("envs", "optimize.data", "optimize.agents", "optimize.evaluate", "optimize.walkforward")
FETCHING = "optimize.data.sources.clients"
CODE, COMMIT, CARD = "code", "commit", "card"  # keys beside the packages; a bundle has the last
CPU_INFO = Path("/proc/cpuinfo")  # Linux; elsewhere the platform's own word is taken
GIT_TIMEOUT_S = 10


def versions() -> dict[str, str]:
    """Return the versions of the packages that matter, of Python, and the processor."""
    return dict(_versions())


def conditions(agent: AgentSpec, engine: Engine | None) -> dict[str, str]:
    """Return the threads, the device and the engine of a training in this process."""
    chosen = {} if engine is None else {"engine": str(engine), "evaluation": engine.evaluation}
    return _place(agent.device) | chosen


def engine_again(agent: AgentSpec, made_with: Mapping[str, str]) -> Engine:
    """Return the engine of this process that evaluates an agent as a stored run did.

    Version 0.1 asked stock-trained agents bar by bar, and stored no evaluation.
    """
    former = LOCK_STEP if made_with.get("engine", "").startswith("stock") else FUSED
    return local_engine(agent)._replace(evaluation=made_with.get("evaluation", former))


def source(indicators: Iterable[str], extensions: Iterable[str] = ()) -> dict[str, str]:
    """Return digests of the code that computes a trial with these indicators, and the commit where known.

    The digests are one text, `package:digest` for each package, for each of the extensions by their paths or
    file names, and for each file of features that were registered otherwise.
    """
    parts = _packages() | foreign_code(indicators) | loaded_code(extensions)
    found = {CODE: " ".join(f"{name}:{digest}" for name, digest in sorted(parts.items()))}
    return found if (known := commit()) is None else found | {COMMIT: known}


def changed_code(stored: str, now: str) -> tuple[str, ...]:
    """Return the packages and files whose digests differ between two texts of `source`."""
    then, here = _digests(stored), _digests(now)
    return tuple(sorted(name for name in then.keys() | here.keys() if then.get(name) != here.get(name)))


def comparable(made_with: Mapping[str, str]) -> dict[str, str]:
    """Return the versions here, with the conditions and the code too where the other side has them."""
    found = versions()
    if "threads" in made_with:
        engine = {key: made_with[key] for key in ("engine", "evaluation") if key in made_with}
        found |= _place("cpu" if made_with.get("device") == "cpu" else "auto") | engine
    if CODE in made_with:
        known = _digests(made_with[CODE])
        own = [name for name in FEATURES if foreign_code([name]).keys() & known.keys()]
        found |= source(own, known)
    return found


def differences(
    stored: Mapping[str, str], now: Mapping[str, str], places: tuple[str, str] = ("there", "here")
) -> tuple[str, ...]:
    """Return the differences between two answers of `versions`, one text a difference.

    The commit alone is no difference, nor the code of a card; other code counts where both sides have it.
    """
    keys = sorted((stored.keys() | now.keys()) - {CODE, COMMIT, CARD})
    found = tuple(
        f"{key} {stored.get(key, 'none')} {places[0]}, {now.get(key, 'none')} {places[1]}"
        for key in keys
        if stored.get(key) != now.get(key)
    )
    return (*found, *code_differences(stored, now, places))


def code_differences(
    stored: Mapping[str, str], now: Mapping[str, str], places: tuple[str, str] = ("there", "here")
) -> tuple[str, ...]:
    """Return one text that names the code that differs, with both commits; none where a side is unknown."""
    if CODE not in stored or CODE not in now or not (changed := changed_code(stored[CODE], now[CODE])):
        return ()
    sides = zip((stored, now), places, strict=True)
    commits = ", ".join(f"{side[COMMIT]} {place}" for side, place in sides if COMMIT in side)
    at = f" (commit {commits})" if commits else ""
    return (f"code of {', '.join(changed)}{at}",)


def package_differences(stored: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return the differences in packages and the minor version of Python; processors may differ."""

    def chosen(found: Mapping[str, str]) -> dict[str, str]:
        python = ".".join(found.get("python", "none").split(".")[:2])
        return {name: found.get(name, "none") for name in PACKAGES} | {"python": python}

    return differences(chosen(stored), chosen(now))


def _digests(text: str) -> dict[str, str]:
    pairs = (part.rpartition(":") for part in text.split())
    return {name: digest for name, _, digest in pairs}


@functools.cache
def _packages() -> dict[str, str]:
    """Return the digest of every package that measures; of the files as they are at the first call."""
    return {
        name: package_digest(folder)
        for root in MEASURING
        for name, folder in packages_in(SOURCE.joinpath(*root.split(".")), root)
        if name != FETCHING
    }


def _place(device: str) -> dict[str, str]:
    return {"threads": str(thread_count()), "device": device_name(device)}


@functools.cache
def commit() -> str | None:
    """Return the git commit of the source tree, marked -dirty if it is changed; None for a package."""
    if not (SOURCE / ".git").exists():
        return None
    command = ["git", "-C", str(SOURCE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


@functools.cache
def _versions() -> dict[str, str]:
    packages = {name: _version(name) for name in PACKAGES}
    model, features = _processor()
    machine = {"platform": f"{platform.system()} {platform.machine()}", "cpu": model}
    return packages | {"python": platform.python_version()} | machine | {"cpu_features": features}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _processor() -> tuple[str, str]:
    """Return the processor's name and a digest of its instruction sets, which decide how numbers round."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    model = facts.get("model name") or platform.processor() or "unknown"
    flags = sorted((facts.get("flags") or facts.get("Features") or "").split())
    return model, hashlib.sha256(" ".join(flags).encode()).hexdigest()[:8] if flags else "unknown"
