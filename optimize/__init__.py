"""The search: data -> agents -> evaluation -> study -> results -> export.

`from optimize import load_bundle` loads an exported agent; nothing heavy is imported before it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimize.study.export.deployed import load_bundle

__all__ = ["load_bundle"]


def __getattr__(name: str) -> Any:
    """Import a public function when it is asked for."""
    if name == "load_bundle":
        from optimize.study.export.deployed import load_bundle

        return load_bundle
    raise AttributeError(f"module 'optimize' has no attribute {name!r}")
