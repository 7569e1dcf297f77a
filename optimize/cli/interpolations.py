"""Interpolations of a configuration, `${key}`: bounded, and blind to the secrets of the environment."""

import os
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from optimize.errors import BadInputError

REFERENCE = re.compile(r"\$\{([\w.]+)\}")  # a plain one, such as ${data.timeframe}
MOST_STEPS = 10_000  # of one value, written out
MOST_NESTED = 24  # interpolations within others in one configuration
READABLE = ("HOME", "USER", "LOGNAME", "HOSTNAME", "PWD", "TMPDIR", "SCRATCH", "WORK")
READABLE_PREFIX = "SLURM_"


def read_environment(name: str, *default: str | None) -> str | None:
    """Return a variable of the environment; the others may hold passwords and keys."""
    if name not in READABLE and not name.startswith(READABLE_PREFIX):
        raise BadInputError(
            f"oc.env:{name} is not allowed: a configuration may read {', '.join(READABLE)} and "
            f'{READABLE_PREFIX}*; give other values on the command line, such as key="${name}"'
        )
    found = os.environ.get(name)
    if found is None and not default:
        raise BadInputError(f"oc.env:{name}: the environment has no such variable: set it, or give a default")
    return default[0] if found is None else found


def check_interpolations(config: DictConfig) -> None:
    """Refuse interpolations that refer to themselves, or grow without bound when they are written out."""
    plain = OmegaConf.to_container(config, resolve=False)
    leaves: dict[str, str] = {}
    _collect(plain, "", leaves)
    nested = sum(text.count("${") - len(REFERENCE.findall(text)) for text in leaves.values())
    if nested > MOST_NESTED:
        raise BadInputError(f"{nested} nested interpolations: at most {MOST_NESTED} are allowed")
    steps: dict[str, int] = {}
    for key in leaves:
        _count(key, leaves, steps, [])


def _collect(node: Any, path: str, leaves: dict[str, str]) -> None:
    """Gather the leaves that hold an interpolation."""
    if isinstance(node, dict):
        for key, value in node.items():
            _collect(value, f"{path}.{key}" if path else str(key), leaves)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _collect(value, f"{path}.{index}", leaves)
    elif isinstance(node, str) and "${" in node:
        leaves[path] = node


def _count(key: str, leaves: dict[str, str], steps: dict[str, int], above: list[str]) -> int:
    """Return how many values one stands for when it is written out."""
    if key in steps:
        return steps[key]
    if key in above:
        raise BadInputError(f"{key} refers to itself: {' -> '.join([*above[above.index(key) :], key])}")
    if len(above) > 100:
        raise BadInputError(f"{above[0]}: a chain of more than 100 interpolations: write the value out")
    total = 1
    for reference in REFERENCE.findall(leaves[key]):
        target = _absolute(reference, key)
        within = [leaf for leaf in leaves if leaf == target or leaf.startswith(f"{target}.")]
        total += sum(_count(leaf, leaves, steps, [*above, key]) for leaf in within)
        if total > MOST_STEPS:
            raise BadInputError(f"{key}: its interpolations stand for more than {MOST_STEPS:,} values")
    steps[key] = total
    return total


def _absolute(reference: str, key: str) -> str:
    """Return the path that a reference stands for; each leading dot goes up one level."""
    up = len(reference) - len(reference.lstrip("."))
    if not up:
        return reference
    parts = key.split(".")
    return ".".join([*parts[: len(parts) - up], reference.lstrip(".")])
