"""Find trading agents: compose a configuration, search it, walk it forward, load the exported agent.

Four functions are public here and imported when they are first used, so that `import optimize` stays light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimize.bundles.load import load_bundle
    from optimize.cli.composition import compose
    from optimize.study.launch.run import run_study
    from optimize.walkforward.run import walk_forward

__all__ = ["compose", "load_bundle", "run_study", "walk_forward"]

_HOMES = {
    "compose": "optimize.cli.composition",
    "load_bundle": "optimize.bundles.load",
    "run_study": "optimize.study.launch.run",
    "walk_forward": "optimize.walkforward.run",
}


def __getattr__(name: str) -> Any:
    """Import a public function when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'optimize' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public functions, for completion in a notebook."""
    return sorted({*globals(), *__all__})
