"""`walkforge VERB key=value`: one verb is one primary yaml in conf/ and one function."""

import importlib.util
import os
import sys
from pathlib import Path

OURS = "vector.py"  # a file of our package envs


def main(argv: list[str] | None = None) -> int:
    """Run `walkforge` and return its exit code: 0 done, 1 the work failed, 2 bad input."""
    if (other := shadowing()) is not None:
        print(
            f"walkforge: the package envs of {other} hides the one that walkforge imports: rename it, or run "
            "from another directory and take it off PYTHONPATH",
            file=sys.stderr,
        )
        return 2
    try:
        os.getcwd()  # relative paths need it, and libraries end the process without it
    except FileNotFoundError:
        print("walkforge: the directory of invocation is gone: change to another one", file=sys.stderr)
        return 2
    from optimize.cli.dispatch import run_command

    return run_command(argv)


def shadowing() -> str | None:
    """Return the folder of another package called envs that Python finds first, None where ours is found."""
    spec = importlib.util.find_spec("envs")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    if any((Path(place) / OURS).is_file() for place in places):
        return None
    return places[0] if places else str(None if spec is None else spec.origin)


__all__ = ["main"]
