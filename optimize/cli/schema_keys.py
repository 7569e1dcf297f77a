"""The keys of a verb by its schema: their types, in words too, and the one that was probably meant."""

import types
import typing
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from envs.fields import KIND_WORDS, open_field
from optimize.agents.registry import hyperparameters_of_extensions
from optimize.cli.comments import explain_file
from optimize.cli.yaml_files import conf_folder
from optimize.errors import nearest
from optimize.schemas.register import schema_of


def keys_of_verb(verb: str) -> list[str]:
    """Return the dotted keys of a verb: of its schema, the files of its open groups, and loaded agents."""
    groups = {"agent", "space"} & {field.name for field in fields(schema_of(verb))}
    prefixes = [{"agent": "agent.", "space": "space.agent."}[group] for group in groups]
    own = (f"{prefix}{key}" for prefix in prefixes for key in hyperparameters_of_extensions())
    return sorted({*dotted_keys(schema_of(verb)), *_of_files(verb), *own})


def hint_of(verb: str, key: str) -> str:
    """Return the key that was probably meant, as the end of a sentence; nothing where none is near."""
    keys = [known for known in keys_of_verb(verb) if known != key]
    depth = key.count(".")
    group, _, last = key.rpartition(".")
    beside = {known.rpartition(".")[2]: known for known in keys if known.rpartition(".")[0] == group}
    near = [beside[each] for each in nearest(last, beside)]
    same_depth = [known for known in keys if known.count(".") == depth]
    near = near or nearest(key, same_depth, cutoff=0.8)
    near = near or [known for known in keys if known.rpartition(".")[2] == last][:1]
    near = near or nearest(last, keys, cutoff=0.75)
    if not near:
        tails = {known.rpartition(".")[2]: known for known in reversed(keys)}
        near = [tails[each] for each in nearest(last, tails, cutoff=0.8)]
    return f"; did you mean {near[0]}?" if near else ""


def dotted_keys(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys of a dataclass and of those within it."""
    hints, opened = typing.get_type_hints(kind), open_field(kind)
    for field in fields(kind):
        if field is opened:
            continue
        yield f"{prefix}{field.name}"
        if is_dataclass(hints[field.name]):
            yield from dotted_keys(hints[field.name], f"{prefix}{field.name}.")


@cache
def _of_files(verb: str) -> tuple[str, ...]:
    """Return the keys that the files of a verb's groups write, which no schema lists for open groups."""
    groups = [field.name for field in fields(schema_of(verb)) if field.name in ("agent", "space")]
    keys: set[str] = set()
    for group in groups:
        for path in (conf_folder() / group).glob("*.yaml"):  # shared files included
            keys |= set(explain_file(path, group).paths)
    return tuple(sorted(keys))


def type_of(verb: str, key: str) -> Any:
    """Return the type of a dotted key in a verb's schema; None where the schema leaves it open."""
    kind: Any = schema_of(verb)
    for part in key.split("."):
        if not is_dataclass(kind):
            return None
        kind = typing.get_type_hints(kind).get(part)
    return kind


def allowed_words(verb: str, key: str) -> str:
    """Return in words which values a key of a verb may hold."""
    return words_of_type(type_of(verb, key), key) or "a value that the key can hold"


def words_of_type(kind: Any, key: str) -> str:
    """Return the type of a key in words; nothing where it is open."""
    words = []
    for option in kinds_in(kind):
        if typing.get_origin(option) is list:
            words.append(f"a list, such as {key}=[{_example(option)}]")
        elif option in KIND_WORDS:
            words.append(KIND_WORDS[option])
        elif is_dataclass(option) or typing.get_origin(option) is dict:
            words.append(f"a group of keys, set one by one: {key}.KEY=VALUE")
    return " or ".join(words)


def _example(kind: Any) -> str:
    inner = (typing.get_args(kind) or (str,))[0]
    return {int: "1,2", float: "0.1,0.2"}.get(inner, "a,b")


@cache
def booleans(verb: str) -> frozenset[str]:
    """Return the keys of a verb that are true or false."""
    return frozenset(key for key in dotted_keys(schema_of(verb)) if bool in kinds_in(type_of(verb, key)))


@cache
def texts(verb: str) -> frozenset[str]:
    """Return the keys of a verb that are text, or lists of text."""
    return frozenset(key for key in dotted_keys(schema_of(verb)) if _is_text(type_of(verb, key)))


@cache
def whole_numbers(verb: str) -> frozenset[str]:
    """Return the keys of a verb that are whole numbers."""
    return frozenset(key for key in dotted_keys(schema_of(verb)) if is_whole(kinds_in(type_of(verb, key))))


def is_whole(kinds: Collection[Any]) -> bool:
    """Return whether these types allow whole numbers and null alone."""
    return {*kinds} - {types.NoneType} == {int}


def _is_text(kind: Any) -> bool:
    return {*kinds_in(kind)} - {types.NoneType} in ({str}, {list[str]})


def kinds_in(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
