"""Read the rows of a source once for all stages of a command that need them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from envs.fields import MARKET
from envs.plain import part_of
from optimize.data.bars import RawBars
from optimize.data.sources.providers import provider_of
from optimize.data.spec import DataSpec
from optimize.hashing import hash_object, settled_state

OF_FILES = ("timeframe", "symbols")  # settings whose effect on the rows shows in the names and paths of files
_KEPT: ContextVar[dict[str, list[RawBars]] | None] = ContextVar("rows of the last source", default=None)


def read_rows(spec: DataSpec) -> list[RawBars]:
    """Return the unchecked rows of each symbol; inside `reading_once` those of unchanged files are kept."""
    kept = _KEPT.get()
    key = None if kept is None else _key(spec)
    if kept is None or key is None:
        return provider_of(spec).read(spec)
    if key not in kept:
        kept.clear()
        kept[key] = provider_of(spec).read(spec)
    return list(kept[key])


@contextmanager
def reading_once() -> Iterator[None]:
    """Keep the rows of the last source in memory inside the block."""
    if _KEPT.get() is not None:  # inside another block, which keeps them longer
        yield
        return
    before = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(before)


def release_rows() -> None:
    """Free the rows that the surrounding `reading_once` keeps."""
    kept = _KEPT.get()
    if kept is not None:
        kept.clear()


def _key(spec: DataSpec) -> str | None:
    """Return a text that is equal where the rows are; None where they must be read again.

    data.timeframe chooses among files and is applied to the rows afterwards. Rows without a file are
    generated at each reading, and a file that was changed just now may change again unnoticed.
    """
    files = provider_of(spec).files(spec)
    states = [
        (name, str(path.resolve()), settled_state(path)) for name, path in files.items() if path.exists()
    ]
    if not files or len(states) < len(files) or any(state is None for _, _, state in states):
        return None
    settings = {key: value for key, value in part_of(spec, MARKET).items() if key not in OF_FILES}
    return hash_object([settings, states])
