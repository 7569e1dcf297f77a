"""Checks of settings that Hydra leaves out: unknown keys, numbers for booleans, nested lists."""

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any

from envs.fields import groups_of, open_field
from optimize.cli.comments import options_of
from optimize.cli.schema_keys import booleans, dotted_keys, hint_of, kinds_in, type_of
from optimize.cli.yaml_files import conf_folder
from optimize.data.spec import CHECKS
from optimize.errors import BadInputError
from optimize.schemas.register import schema_of

SPACE_WORDS = "'~space' '+space={feature: {lookback: [1,8]}}'"  # an example of a tree on the command line


def check_keys(verb: str, plain: Any) -> None:
    """Refuse a key that was added and that no schema has."""
    extended = bool(plain.get("extensions"))  # then an open group is checked when they are loaded
    for key in _outside(schema_of(verb), plain, "", extended):
        raise BadInputError(unknown_key(verb, key))


def _outside(kind: Any, plain: Any, prefix: str, extended: bool) -> Iterator[str]:
    hints, opened = typing.get_type_hints(kind), open_field(kind)
    for key, value in plain.items():
        if key not in hints or (opened is not None and key == opened.name):
            if opened is None or not extended:
                yield f"{prefix}{key}"
        elif is_dataclass(hints[key]) and isinstance(value, dict):
            yield from _outside(hints[key], value, f"{prefix}{key}.", extended)


def check_value(verb: str, key: str, value: Any, typed: str, *, added: bool = False) -> None:
    """Refuse values that Hydra would convert in silence: numbers for true and false, lists for a file.

    The text as it was typed stands in the message.
    """
    folder = conf_folder() / key
    if key.isidentifier() and folder.is_dir() and not isinstance(value, (str, types.NoneType, dict)):
        options = options_of(folder)
        raise BadInputError(f"{key}={typed} is not allowed: the choices are {', '.join(options)}")
    if key == "space" and added and isinstance(value, str):
        raise BadInputError(
            f"+space={value!r} adds text and no tree: write space=FILE for a file, and a tree without quotes "
            f"of its own, as in {SPACE_WORDS}"
        )
    if key in booleans(verb) and not isinstance(value, (bool, types.NoneType)) and "${" not in str(value):
        raise BadInputError(f"{key}={typed!r} is not allowed: {key} must be true or false")


def check_lists(verb: str, tree: Any) -> None:
    """Refuse a list or a mapping as an entry of a list of plain values, which OmegaConf lets pass."""
    for key, words in _lists(verb).items():
        value: Any = tree
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, list) and any(isinstance(each, (list, dict)) for each in value):
            raise BadInputError(f"{key}={value} is not allowed: {key} must be a flat list of {words}")


@cache
def _lists(verb: str) -> dict[str, str]:
    """Return the keys of a verb that are lists of plain values, with the word for their entries."""
    words = {list[str]: "texts", list[int]: "whole numbers", list[float]: "numbers"}
    kinds = {key: kinds_in(type_of(verb, key)) for key in dotted_keys(schema_of(verb))}
    return {key: words[kind] for key, each in kinds.items() for kind in each if kind in words}


def unknown_key(verb: str, key: str) -> str:
    """Return the refusal of an unknown key, with the one that was probably meant."""
    hint = hint_of(verb, key)
    if key.startswith("data.severity."):
        hint = f"; the checks are {', '.join(CHECKS)}"
    group = key.partition(".")[0]
    searched = key.removeprefix("space.")
    if searched != key and searched in dotted_keys(schema_of(verb)):
        return f"{key} is searched only when it is added with a plus: +{key}=..., for the space leaves it out"
    if not hint and group in ("agent", "space"):
        hint = f"; one that conf/{group} leaves out is added with a plus: +{key}=..."
    return f"there is no key {key!r}: `walkforge {verb} --help` lists the keys{hint}"


def offers_files(path: str, leaf: Any) -> bool:
    """Return whether a leaf of a space offers files of a config group that may be searched."""
    from optimize.study.spec import StudySpec  # loads the engine

    found = groups_of(StudySpec).get(path)
    listed = isinstance(leaf, list) or (isinstance(leaf, Mapping) and "choices" in leaf)
    return listed and "options" not in leaf and found is not None and found.fixed is None
