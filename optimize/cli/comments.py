"""The comments of YAML files: the explanation of every key, as `--help` shows it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SHARED = "_"  # start of the name of a file that holds shared keys and is no choice of its group
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Explained:
    """The explanations of a file: its head, and its keys by their dotted path in the whole configuration."""

    head: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()  # of all its keys, those of its `_base` files included, explained or not
    lines: dict[str, int] = field(default_factory=dict)  # on which its own keys stand


def explain_file(path: Path, group: str) -> Explained:
    """Return the explanations of a file of a group; the group is empty for the file of a verb."""
    if not path.is_file():
        return Explained()
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    head, package = _head(lines, group)
    node = yaml.compose(text, Loader=LOADER)
    keys: dict[str, str] = {}
    shared: list[str] = []
    for name in _bases(node):
        base = explain_file(path.with_name(f"{name}.yaml"), group)
        keys |= base.keys
        shared += base.paths if name.startswith(SHARED) else ()
    prefix = f"{package}." if package else ""
    found = dict(_walk(node, "", prefix, lines, keys))
    own = {f"{prefix}{key}": line for key, line in found.items() if key != "defaults"}
    return Explained(head, keys, tuple(dict.fromkeys([*shared, *own])), own)


def _head(lines: list[str], group: str) -> tuple[str, str]:
    """Return the comment at the top of a file, and the package that it names or its group."""
    package, words = group, []
    for line in lines:
        if not line.startswith("#"):
            break
        comment = line.lstrip("# ").strip()
        if comment.startswith("@package"):
            package = comment.removeprefix("@package").strip()
        else:
            words.append(comment)
    return " ".join(words), "" if package == "_global_" else package


def options_of(folder: Path) -> list[str]:
    """Return the names of the files in a group's folder that may be chosen."""
    return sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.startswith(SHARED))


def _bases(node: Any) -> list[str]:
    """Return the files of the same group on which a file rests."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    listed = next((value for name, value in pairs if name.value == "defaults"), None)
    entries = listed.value if isinstance(listed, yaml.SequenceNode) else []
    return [each.value for each in entries if isinstance(each, yaml.ScalarNode) and each.value != "_self_"]


def _walk(
    node: Any, above: str, prefix: str, lines: list[str], keys: dict[str, str]
) -> Iterator[tuple[str, int]]:
    """Yield every path of a file with its line, and gather the explanations."""
    if not isinstance(node, yaml.MappingNode):
        return
    for name, value in node.value:
        path = f"{above}{name.value}"
        if comment := _comment(name, value, lines):
            keys[f"{prefix}{path}"] = comment
        yield path, name.start_mark.line + 1
        yield from _walk(value, f"{path}.", prefix, lines, keys)


def _comment(name: Any, value: Any, lines: list[str]) -> str:
    """Return the comment above a key, behind its value, and on the lines below that go on with it."""
    row, column = name.start_mark.line, name.start_mark.column
    words: list[str] = []
    above = row - 1
    top = 0 if column else next((n for n, line in enumerate(lines) if not line.startswith("#")), 0)
    while above >= top and _alone(lines[above]) and _indent(lines[above]) == column:
        words.insert(0, lines[above].lstrip(" #"))
        above -= 1
    flat = value.start_mark.line == row and (value.end_mark.line == row or isinstance(value, yaml.ScalarNode))
    end = value.end_mark.column if flat and value.end_mark.line == row else name.end_mark.column
    _, mark, behind = lines[row][end:].partition(" #")
    if mark:
        words.append(behind.strip())
        below = row + 1
        while below < len(lines) and _alone(lines[below]) and _indent(lines[below]) > column:
            words.append(lines[below].lstrip(" #"))
            below += 1
    return " ".join(words).strip()


def _alone(line: str) -> bool:
    return line.lstrip().startswith("#")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
