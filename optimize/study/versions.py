"""What the numbers of a trial depend on besides its spec: packages, interpreter, processor, source."""

import functools
import hashlib
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from optimize.agents.compiled.qualify import choose_engine
from optimize.agents.devices import device_name
from optimize.agents.spec import AgentSpec
from optimize.agents.threads import used_threads
from optimize.errors import BadInputError

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
CPU_INFO = Path("/proc/cpuinfo")  # Linux; elsewhere the platform's own word is taken
GIT_TIMEOUT_S = 10


def versions() -> dict[str, str]:
    """Return the versions of the packages that matter, of Python, and the processor."""
    return dict(_versions())


def conditions(agent: AgentSpec) -> dict[str, str]:
    """Return what else the last bits of a training depend on in this process: threads, device and engine."""
    device = device_name(agent.device)
    try:
        engine = choose_engine(agent, "cpu" if device == "cpu" else "cuda")
    except BadInputError:  # the training is refused for the same reason
        return _place(agent.device)
    return _place(agent.device) | {"engine": f"{engine.name}, for {engine.why}"}


def comparable(made_with: Mapping[str, str]) -> dict[str, str]:
    """Return what `versions` says here, with the conditions too where the other side has them."""
    if "threads" not in made_with:
        return versions()
    engine = {key: made_with[key] for key in ("engine",) if key in made_with}  # the spec's and the device's
    return versions() | _place("cpu" if made_with.get("device") == "cpu" else "auto") | engine


def differences(
    stored: Mapping[str, str], now: Mapping[str, str], places: tuple[str, str] = ("there", "here")
) -> tuple[str, ...]:
    """Return what differs between two answers of `versions`, one text a difference."""
    keys = sorted(stored.keys() | now.keys())
    return tuple(
        f"{key} {stored.get(key, 'none')} {places[0]}, {now.get(key, 'none')} {places[1]}"
        for key in keys
        if stored.get(key) != now.get(key)
    )


def package_differences(stored: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return what differs in packages and the minor version of Python; processors may differ."""

    def chosen(found: Mapping[str, str]) -> dict[str, str]:
        python = ".".join(found.get("python", "none").split(".")[:2])
        return {name: found.get(name, "none") for name in PACKAGES} | {"python": python}

    return differences(chosen(stored), chosen(now))


def _place(device: str) -> dict[str, str]:
    return {"threads": str(used_threads()), "device": device_name(device)}


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
