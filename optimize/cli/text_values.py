"""Values as they were typed: Hydra and YAML read 2024_01 as a number, ON as true, and 1e2 as 100.0."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from envs.plain import read

READ_AS = (bool, int, float)  # in place of the text
PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float"))
CLOSING = {"[": "]", "{": "}", "(": ")"}


def as_typed(word: str, override: Override) -> str:
    """Return the word of a text key with its value quoted where it would be read as a number or a boolean."""
    key, _, given = word.partition("=")
    if override.is_delete() or override.is_sweep_override():
        return word
    value, text = override.value(), given.strip()
    if isinstance(value, READ_AS):
        return f"{key}={hydra_quoted(text)}"
    if isinstance(value, list) and any(isinstance(each, READ_AS) for each in value):
        texts = entries(text[1:-1])
        if len(texts) == len(value):
            pairs = zip(value, texts, strict=True)
            return f"{key}=[{','.join(hydra_quoted(t) if isinstance(v, READ_AS) else t for v, t in pairs)}]"
    return word


def as_whole(word: str, override: Override) -> str:
    """Return the word of a key of whole numbers with 1e2 written as 100."""
    if override.is_delete() or override.is_sweep_override():
        return word
    value = override.value()
    whole = read(value, int)
    return word if whole is value else f"{word.partition('=')[0]}={whole}"


def swept_as_typed(word: str, override: Override) -> list[str]:
    """Return the points of a list of values of a text key, each as it was typed."""
    key, _, given = word.partition("=")
    values = list(override.sweep_iterator())
    texts = entries(given)
    if len(texts) != len(values) or given.lstrip().startswith(("choice(", "range(", "glob(")):
        return [f"{key}={text}" for text in override.sweep_string_iterator()]
    return [
        f"{key}={hydra_quoted(text) if isinstance(value, READ_AS) else text}"
        for value, text in zip(values, texts, strict=True)
    ]


def hydra_quoted(text: str) -> str:
    """Return a text between quotes, as Hydra reads it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def entries(text: str) -> list[str]:
    """Split a list at its own commas, not at those within quotes or brackets."""
    parts, open_, quote = [""], list[str](), ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in CLOSING:
            open_.append(CLOSING[sign])
        elif open_ and sign == open_[-1]:
            open_.pop()
        if sign == "," and not quote and not open_:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def restore_texts(config: Any, text: str, above: str, keys: frozenset[str], loader: Any) -> None:
    """Restore the written text of text keys that YAML read as numbers or booleans."""
    if not isinstance(config, DictConfig):
        return
    for path, node in _scalars(yaml.compose(text, Loader=loader), ()):
        name = ".".join(part for part in path if isinstance(part, str))
        if (f"{above}.{name}" if above else name) in keys and not node.style and node.tag in PLAIN_TAGS:
            _put(config, path, node.value)


def _scalars(node: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the scalars of a YAML file with their paths, which hold names and places in lists."""
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.SequenceNode):
        for place, inner in enumerate(node.value):
            yield from _scalars(inner, (*path, place))
    elif isinstance(node, yaml.MappingNode):
        for name, inner in node.value:
            yield from _scalars(inner, (*path, str(name.value)))


def _put(config: DictConfig, path: Sequence[str | int], value: str) -> None:
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    if OmegaConf.select(config, at, default=None) is not None:
        OmegaConf.update(config, at, value)
