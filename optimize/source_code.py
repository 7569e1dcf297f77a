"""Digests of Python code that ignore its layout: comments, docstrings and line breaks may change freely."""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

DIGITS = 12  # of a digest that is stored and shown
# Set by the grammar or by some versions of Python alone; the behaviour of a program never depends on them.
UNREAD = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def code_digest(text: str) -> str:
    """Return the digest of a module's syntax tree, without docstrings and other bare texts.

    Empty fields are left out, so that a field which a later Python adds to a node changes nothing.
    """
    parts: list[str] = []
    _describe(ast.parse(text), parts)
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:DIGITS]


def file_digest(path: Path) -> str:
    """Return the digest of a Python file, read again only where inode, size or time of change differ."""
    status = path.stat()
    return _file_digest(path, (status.st_ino, status.st_mtime_ns, status.st_size))


def package_digest(folder: Path) -> str:
    """Return the digest of the modules of one package, without those of packages inside it."""
    modules = [(path.name, file_digest(path)) for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(repr(modules).encode()).hexdigest()[:DIGITS]


def packages_in(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield (dotted name, folder) of a package and of every package inside it."""
    yield name, folder
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").is_file():
            yield from packages_in(inner, f"{name}.{inner.name}")


@functools.lru_cache(maxsize=1024)
def _file_digest(path: Path, _state: tuple[int, int, int]) -> str:
    return code_digest(path.read_text(encoding="utf-8"))


def _describe(node: object, parts: list[str]) -> None:
    """Append the parts of a syntax tree in order; a plain list, for this runs over all modules of a study."""
    if isinstance(node, ast.AST):
        parts.append(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and name not in UNREAD:
                parts.append(name)
                _describe(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        parts.append("[")
        for each in node:
            if not _is_bare_text(each):
                _describe(each, parts)
        parts.append("]")
    else:
        parts.append(f"{type(node).__name__}:{node!r},")


def _is_bare_text(node: object) -> bool:
    """Return whether a statement is nothing but a text, such as a docstring."""
    text = node.value if isinstance(node, ast.Expr) else None
    return isinstance(text, ast.Constant) and isinstance(text.value, str)
