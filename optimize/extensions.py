"""Files of the user's own that register features, rewards and agents, loaded by path or module name.

The registries before and after a file ran are compared to find its entries, so that each needs nothing but
its decorator, and a name that is taken is refused.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar

from optimize.errors import BadInputError
from optimize.source_code import file_digest

MODULE = "walkforge_extension"  # start of the name under which an extension is imported
FOLDER = "extensions"  # of a bundle, for the copies that it carries
NAMED = ("named", "extensions.txt")  # folder and file in the user's cache: a SHA-256 a line

Entry = TypeVar("Entry")
Registered = list[tuple[dict[str, Any], str, Any]]  # registry, name, entry


@dataclass(frozen=True)
class Loaded:
    """A file that ran: its name, the digest of its code, and the entries that it registered."""

    name: str
    code: str
    entries: Registered


_REGISTRIES: list[dict[str, Any]] = []  # the rewards aside, which envs keeps
_LOADED: dict[str, Loaded] = {}  # by the SHA-256 of the file


def extendable(registry: dict[str, Entry]) -> dict[str, Entry]:
    """Let extensions add names to a registry, and return it."""
    _REGISTRIES.append(registry)
    return registry


def load_extensions(names: Sequence[str]) -> None:
    """Run the files or modules that are not in force yet; raise BadInputError for one that cannot be used."""
    paths = [find_extension(name) for name in names]
    repeated = {path.name for path in paths if [other.name for other in paths].count(path.name) > 1}
    if repeated:
        raise BadInputError(f"extensions={list(names)} name {', '.join(sorted(repeated))} twice: keep one")
    for path in paths:
        digest = _digest(path)
        if not _is_in_force(digest):
            _LOADED[digest] = _run(path, digest, [_digest(other) for other in paths])


def find_extension(name: str) -> Path:
    """Return the file of an extension: a path that ends in .py, or the dotted name of a module."""
    if name.endswith(".py") or "/" in name:
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise BadInputError(
                f"extensions: there is no file {path}: name where it lies now by extensions=[FILE.py]"
            )
        return path
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise BadInputError(f"extensions={name}: {error}: name a file FILE.py or a module") from None
    origin = Path(found.origin or "") if found is not None else Path()
    if origin.suffix != ".py" or origin.name == "__init__.py":
        raise BadInputError(f"extensions={name} is not a module in one file: name a file FILE.py or a module")
    return origin.absolute()


def absolute_names(names: Iterable[str]) -> list[str]:
    """Return the files of extensions by their absolute paths, as a study stores them."""
    return [str(find_extension(name)) for name in names]


def name_extensions(names: Iterable[str]) -> list[str]:
    """Load the extensions that a person names, remember their content, and return their absolute paths."""
    paths = absolute_names(names)
    load_extensions(paths)
    digests = [_digest(Path(path)) for path in paths]
    if unknown := [digest for digest in digests if digest not in _named()]:
        from envs.kernel_cache import is_private, user_cache  # loads numba, which declaring a key must not

        folder = user_cache() / NAMED[0]
        if is_private(folder):  # without a home every command names its extensions
            with suppress(OSError), (folder / NAMED[1]).open("a", encoding="utf-8") as stream:
                stream.writelines(f"{digest}\n" for digest in unknown)
    return paths


def load_stored(names: Sequence[str], where: str) -> None:
    """Load the extensions that a database names; BadInputError unless a command of this user named them.

    The author of the database chose that code.
    """
    known = _named() if names else frozenset[str]()
    paths = [find_extension(name) for name in names]
    found = [path for path in paths if not _is_in_force(digest := _digest(path)) and digest not in known]
    if found:
        raise BadInputError(
            f"{where} runs code that no command of yours has named as it is now "
            f"({', '.join(map(str, found))}): read it, then add extensions=[{','.join(map(str, paths))}]"
        )
    load_extensions(names)


def loaded_code(names: Iterable[str]) -> dict[str, str]:
    """Return the digests of the loaded extensions whose file is among these paths or names, by file name."""
    wanted = {Path(name).name.replace(" ", "_") for name in names}
    known = {each.name: each.code for digest, each in _LOADED.items() if _is_in_force(digest)}
    return {name: code for name, code in known.items() if name in wanted}


def names_in_code(parts: Iterable[str]) -> set[str]:
    """Return the registered names that these packages or files may compute.

    An extension computes the names that it registered; a package may compute any name.
    """
    from envs.rewards import REWARDS  # loads numba, which declaring a key must not

    own = {
        each.name: {key for _, key, _ in each.entries}
        for digest, each in _LOADED.items()
        if _is_in_force(digest)
    }
    wanted = set(parts)
    if wanted <= own.keys():
        return {key for name in wanted for key in own[name]}
    return {key for registry in (REWARDS, *_REGISTRIES) for key in registry}


def _named() -> frozenset[str]:
    """Return the digests of the extensions that this user named, from a folder of this user alone."""
    from envs.kernel_cache import is_private, user_cache  # loads numba, which declaring a key must not

    folder = user_cache() / NAMED[0]
    try:
        return frozenset(
            (folder / NAMED[1]).read_text(encoding="utf-8").split() if is_private(folder) else ()
        )
    except (OSError, UnicodeDecodeError):  # there is none yet
        return frozenset()


def copies_in(folder: Path, names: Iterable[str]) -> list[str]:
    """Return where a bundle holds the copies that its configuration names, none of them outside of it."""
    places = [folder / FOLDER / Path(name).name for name in names]
    return [str(place.absolute()) for place in places]


def refuse_untrusted(folder: Path, names: Sequence[str]) -> None:
    """Raise BadInputError where a bundle carries code that is not in force and was not trusted."""
    unknown = [name for name in names if not Path(name).is_file() or not _is_in_force(_digest(Path(name)))]
    if unknown:
        files = ", ".join(f"{FOLDER}/{Path(name).name}" for name in unknown)
        raise BadInputError(
            f"{folder} carries code of its author ({files}), which is not run unasked: read it, then add "
            "trust=true, or name your own copy of the same content by extensions=[FILE.py]"
        )


class _Uncached(SourceFileLoader):
    """Loader that neither reads nor writes bytecode, which would be a foreign file in a verified bundle."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _run(path: Path, digest: str, together: Sequence[str]) -> Loaded:
    """Run a file and return its entries, which replace those of an earlier version of it."""
    from envs.rewards import REWARDS, try_reward  # loads numba, which declaring a key must not

    registries = [REWARDS, *_REGISTRIES]
    before = [dict(registry) for registry in registries]
    name = f"{MODULE}_{path.stem}_{digest[:8]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Uncached(name, str(path)))
    assert spec is not None, "a path that ends in .py has a loader"
    assert spec.loader is not None, "a path that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        added = [
            (registry, key, entry)
            for registry, known in zip(registries, before, strict=True)
            for key, entry in registry.items()
            if known.get(key) is not entry
        ]
        if not added:
            raise BadInputError(
                "it registers nothing: decorate a function with @feature, @reward or @forecaster, or a "
                "class with @agent"
            )
        _refuse_taken(added, dict(zip(map(id, registries), before, strict=True)), together)
        for registry, key, _ in added:
            if registry is REWARDS:
                try_reward(key)
    except Exception as error:  # any error of the user's code is a fault of the extension
        for registry, known in zip(registries, before, strict=True):
            registry.clear()
            registry.update(known)
        del sys.modules[name]
        kind = "" if isinstance(error, BadInputError) else f"{type(error).__name__}: "
        raise BadInputError(f"extensions={path} cannot be used: {kind}{error}") from error
    return Loaded(path.name.replace(" ", "_"), file_digest(path), added)


def _refuse_taken(added: Registered, before: dict[int, dict[str, Any]], together: Sequence[str]) -> None:
    """Refuse names of Walkforge's own, and of the other extensions that are wanted at the same time."""
    replaceable = [
        entry for digest, each in _LOADED.items() if digest not in together for _, _, entry in each.entries
    ]
    for registry, key, _ in added:
        known = before[id(registry)]
        if key in known and not any(known[key] is entry for entry in replaceable):
            raise BadInputError(f"it registers {key!r}, a name that is taken: choose another")


def _is_in_force(digest: str) -> bool:
    """Return whether a file ran and all that it registered still stands."""
    found = _LOADED.get(digest)
    return found is not None and all(registry.get(key) is entry for registry, key, entry in found.entries)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInputError(f"extensions={path} cannot be read ({error.strerror})") from None
