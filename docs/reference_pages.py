"""Pages that are made from the package at each build: commands, configuration, registries."""

import html
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from envs.fields import UNSET, Key, keys_of
from envs.rewards import REWARDS
from optimize.agents.registry import ALGORITHMS, hyperparameters_of
from optimize.cli.comments import SHARED, explain_file, options_of
from optimize.cli.verbs import VERBS
from optimize.data.features import FEATURES, list_features
from optimize.study.spec import StudySpec

os.environ.setdefault("COLUMNS", "110")
CONF = Path(__file__).parents[1] / "conf"
Row = tuple[str, str, str]  # key, value, meaning


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of the folder."""
    pages = {"commands": commands(), "configuration": configuration(), "registries": registries()}
    for name, lines in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content="\n".join(lines) + "\n"))
    return files


def commands() -> Iterator[str]:
    """Yield the page of all verbs: purpose, examples, and the keys of each verb's own file."""
    yield "# Commands\n"
    yield "`walkforge VERB key=value ...`; `walkforge VERB --help` prints the same in a terminal.\n"
    yield from _table(
        ("verb", "purpose"), [(f"[{verb}](#{verb})", each.help) for verb, each in VERBS.items()]
    )
    for verb, each in VERBS.items():
        yield f"\n## {verb}\n\n{_sentence(each.help)}\n"
        if each.examples:
            words = [f"walkforge {verb} {typed}".rstrip() for typed, _ in each.examples]
            width = max(map(len, words))
            lines = [
                f"{line:<{width}}  # {does}" for line, (_, does) in zip(words, each.examples, strict=True)
            ]
            yield "\n".join(["```", *lines, "```\n"])
        groups = [f"[`{group}`](configuration.md#{group})" for group in _groups(CONF / f"{verb}.yaml")]
        if groups:
            yield f"Groups: {', '.join(groups)}.\n"
        yield from _table(("key", "default", "meaning"), _rows(CONF / f"{verb}.yaml", ""))


def configuration() -> Iterator[str]:
    """Yield the page of all groups: the options of each and the keys of a study under it."""
    yield "# Configuration\n"
    yield (
        "`GROUP=NAME` chooses a file of `conf/GROUP/`, `group.key=value` changes one key. Values are those "
        "of the files; `differs` stands where the files of a group set different ones. A key with a tick can "
        "be searched: it may stand in `space`.\n"
    )
    keys = keys_of(StudySpec)
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir()):
        group, files = folder.name, [folder / f"{name}.yaml" for name in options_of(folder)]
        if group in ("experiment", "debug", "local") or not files:
            continue
        yield f"\n## {group}\n"
        heads = [(f"`{group}={path.stem}`", explain_file(path, group).head) for path in files]
        yield from _table(("option", "meaning"), heads)
        rows: dict[str, Row] = {}
        for path in files:
            for key, value, meaning in _rows(path, group):
                _, before, earlier = rows.get(key, (key, value, ""))
                rows[key] = (key, value if before == value else "differs", earlier or meaning)
        for path in (path for path in keys if path.startswith(f"{group}.")):
            default = "" if keys[path].default is UNSET else f"`{_spell(keys[path].default)}`"
            rows.setdefault(f"`{path}`", (f"`{path}`", default, keys[path].setting.meaning))
        yield ""
        described = [_described(row, keys.get(row[0].strip("`"))) for row in rows.values()]
        yield from _table(("key", "value", "meaning", "range", "searched"), described)


def _described(row: Row, key: Key | None) -> tuple[str, ...]:
    """Return a row with the range of its key and a tick where it may be searched."""
    if key is None:
        return (*row, "", "")
    return (*row[:2], row[2] or key.setting.meaning, key.setting.range, "" if key.unsearchable else "\u2713")


def registries() -> Iterator[str]:
    """Yield the page of features, rewards and agents."""
    yield "# Features, rewards, agents\n\n## Features\n"
    yield (
        "Names for `feature.indicators`; the warm-up is the number of bars before the first value. "
        "`feature.groups` chooses columns by their group.\n"
    )
    meanings = {each.name: each.meaning for each in list_features()}
    yield from _table(
        ("feature", "group", "columns", "warm-up", "needs", "meaning"),
        [
            (
                f"`{name}`",
                each.group,
                _code(each.columns),
                str(each.warmup),
                ", ".join(each.needs),
                meanings[name],
            )
            for name, each in sorted(FEATURES.items())
        ],
    )
    yield "\n## Rewards\n\nNames for `reward.name`; each has a file `reward=NAME`.\n"
    yield from _table(
        ("reward", "keys", "state", "meaning", "source"),
        [
            (f"`{name}`", _code(each.parameters), _code(each.state), _first(each.step.__doc__), each.source)
            for name, each in sorted(REWARDS.items())
        ],
    )
    yield "\n## Agents\n\nNames for `agent`. The keys are arguments of stable-baselines3's constructor.\n"
    yield from _table(
        ("agent", "actions", "trains on", "keys"),
        [
            (
                f"`{name}`",
                ", ".join(sorted(each.actions)),
                "its own rollouts" if each.on_policy else "a replay buffer",
                _code(hyperparameters_of(name)),
            )
            for name, each in ALGORITHMS.items()
        ],
    )


def _rows(path: Path, group: str) -> list[Row]:
    """Return the keys of a file, and of the files that it starts from, with values and explanations."""
    explained = explain_file(path, group)
    package = "space." if path.parent.name == "space" else f"{group}." if group else ""
    return [
        (f"`{key}`", f"`{_spell(value)}`", explained.keys.get(key, ""))
        for key, value in _leaves(_plain(path), package)
    ]


def _plain(path: Path) -> dict[str, Any]:
    """Return the content of a file over that of the files that it starts from."""
    own: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    listed = [each for each in own.pop("defaults", []) if _is_shared(each)]
    merged: dict[str, Any] = {}
    for name in listed:
        merged |= _plain(path.with_name(f"{name}.yaml"))
    return merged | own


def _leaves(plain: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a nested mapping; a range of a space is one value."""
    for key, value in plain.items():
        is_range = (
            prefix.startswith("space.") and isinstance(value, dict) and {"low", "choices"} & value.keys()
        )
        if isinstance(value, dict) and value and not is_range:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_shared(entry: Any) -> bool:
    """Return whether an entry of a defaults list is a file of shared keys."""
    return isinstance(entry, str) and entry.startswith(SHARED) and entry != "_self_"


def _groups(path: Path) -> list[str]:
    """Return the groups that the defaults list of a verb names, with those of the files it starts from."""
    plain = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    names: list[str] = []
    for each in plain.get("defaults", []):
        if _is_shared(each):
            names += _groups(path.with_name(f"{each}.yaml"))
        elif isinstance(each, dict):
            names.append(next(iter(each)).removeprefix("optional ").removeprefix("/").partition("@")[0])
    return [name for name in dict.fromkeys(names) if name not in ("experiment", "debug", "local")]


def _spell(value: Any) -> str:
    """Return a value as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_spell, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_spell(each)}' for key, each in value.items())}}}"
    return '""' if value == "" else str(value)


def _code(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _first(text: str | None) -> str:
    """Return the first line of a docstring, without its verb."""
    line = (text or "").strip().partition("\n")[0]
    return line.removeprefix("Return ").removeprefix("Write ")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _table(heads: tuple[str, ...], rows: Any) -> Iterator[str]:
    """Yield a Markdown table."""
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"


def _cell(text: str) -> str:
    """Return text for a cell, with its bars and angle brackets escaped outside of code."""
    parts = text.split("`")
    for place in range(0, len(parts), 2):
        parts[place] = html.escape(parts[place], quote=False)
    return "`".join(parts).replace("|", "&#124;")
