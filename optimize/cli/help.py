"""`walkforge VERB --help`: examples, groups and keys of a verb, with the comments of the YAML files."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

from optimize.cli.comments import Explained, explain_file
from optimize.cli.composition import Tree, compose_tree, composing
from optimize.cli.verbs import VERBS
from optimize.cli.yaml_files import conf_folder
from optimize.secrets import hide_secrets

WIDEST = 110  # characters of a line where nobody looks at a terminal
FLAGS = (
    "-m                    one job for each of several values: seed=0,1,2",
    "-cd FOLDER            a folder of your own files: FOLDER/experiment/mine.yaml is experiment=mine",
    "--cfg job             the composed configuration",
    "debug.traceback=true  the traceback of an error",
)


def verb_help(verb: str, words: Sequence[str]) -> str:
    """Return the help of a verb; the values shown are those of the command."""
    with composing(verb, words) as hydra:
        tree = compose_tree(verb, words, hydra)
        parts = [*_top(verb), *_groups(tree, hydra), *_keys(verb, tree, words)]
    return "\n".join(parts)


def _top(verb: str) -> Iterator[str]:
    yield f"walkforge {verb}: {VERBS[verb].help}"
    yield f"\nusage: walkforge {verb} key=value ...\n"
    yield from (f"  {flag}" for flag in FLAGS)
    if examples := VERBS[verb].examples:
        commands = [f"walkforge {verb} {typed}".rstrip() for typed, _ in examples]
        width = max(map(len, commands))
        yield "\nexamples"
        for command, (_, does) in zip(commands, examples, strict=True):
            yield f"  {command:<{width}}   {does}"


def _groups(tree: Tree, hydra: Hydra) -> Iterator[str]:
    """Yield one line for each group: what is chosen and what can be."""
    groups = {group: chosen for group, chosen in tree.choices.items() if not group.startswith("hydra/")}
    if not groups:
        return
    yield "\ngroups: GROUP=NAME chooses a file of settings"
    width = max(map(len, groups))
    for group, chosen in sorted(groups.items()):
        options = hydra.config_loader.get_group_options(group)
        others = ", ".join(options) or "(none; a folder of your own, -cd FOLDER, may have it)"
        yield from _wrapped(f"  {group:<{width}}  ", f"{chosen or 'none'}; of {others}")


def _keys(verb: str, tree: Tree, words: Sequence[str]) -> Iterator[str]:
    """Yield every key with its value and its explanation, those of the verb itself first."""
    folder = conf_folder()
    own = explain_file(folder / f"{verb}.yaml", "")
    files: dict[str, Explained] = {}
    for group, chosen in tree.choices.items():
        if chosen is not None and not group.startswith("hydra/"):
            files[group] = explain_file(folder / group / f"{chosen}.yaml", group)
    comments = dict(own.keys)
    for explained in files.values():
        comments |= {key: told for key, told in explained.keys.items() if key not in own.keys}
    rooms: dict[str, list[str]] = {}
    for key, value in _leaves(OmegaConf.to_container(tree.config, resolve=False)):
        room = key.partition(".")[0] if "." in key and key.partition(".")[0] in tree.choices else ""
        shown = hide_secrets(f"  {key}={_spell(value)}", words)
        rooms.setdefault(room, []).extend(_explained(shown, comments.get(key, "")))
    yield "\nkeys"
    yield from rooms.pop("", [])
    for room, lines in rooms.items():
        yield ""
        head = files[room].head if room in files else ""
        yield from _wrapped("", f"{room}={tree.choices[room]}: {head}".rstrip(": "))
        yield from lines


def _leaves(plain: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _spell(value: Any) -> str:
    """Return a value as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_spell, value))}]"
    return "{}" if value == {} else str(value)


def _explained(shown: str, comment: str) -> Iterator[str]:
    if not comment:
        yield shown
        return
    start = f"{shown:<34}  # "
    yield from _wrapped(start, comment, " " * 36 + "# ")


def _wrapped(start: str, text: str, further: str | None = None) -> Iterator[str]:
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 40)).columns)
    indent = " " * len(start) if further is None else further
    room = max(width, len(indent) + 30)
    yield from textwrap.wrap(
        text, room, initial_indent=start, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    ) or [start.rstrip()]  # fmt: skip
