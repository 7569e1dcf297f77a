"""The keys that a command sets, those of the files it chooses included."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from optimize.cli.arguments import read_command
from optimize.cli.comments import explain_file
from optimize.cli.layout import spell_value
from optimize.cli.yaml_files import conf_folder
from optimize.search.spec import LOOKBACK, TIMEFRAME, TimeframePhaseSpec

BY_PHASE = {TIMEFRAME: "timeframes", LOOKBACK: "lookbacks"}  # keys of phase.timeframe
WRITTEN = ("experiment", "debug")  # groups whose files state differences only, no defaults


def typed_keys(words: Sequence[str], before: Sequence[str] = ()) -> list[str]:
    """Return the dotted keys that the words of `walkforge study` set, in order.

    A file of ours that the last launch chose by the same word sets none: its defaults may have changed since.
    """
    command = read_command("study", words)
    own = _own_folders(command.words)
    keys: list[str] = []
    for word in command.words:
        key, _, value = word.partition("=")
        name = key.lstrip("+~")
        if name.startswith("hydra."):
            continue
        if "." not in name and (conf_folder() / name).is_dir() and not value.startswith(("{", "[")):
            keys += _of_group(name, value.strip("'\""), own, again=word in before)
        else:
            keys.append(name)
    return list(dict.fromkeys(keys))


def searched_words(words: Sequence[str], searched: Collection[str]) -> list[str]:
    """Return a line for each key that a command sets although its space searches it."""
    lines = []
    for word in read_command("study", words).words:
        key, _, value = word.partition("=")
        if key in searched:
            lines.append(
                f"{key}={value} is searched, for the space lists it: "
                f"space.{key}=null keeps {value} in every trial"
            )
    return lines


def phase_words(words: Sequence[str], phase: TimeframePhaseSpec) -> list[str]:
    """Return a line for each key that a command sets although phase 1 searches it by a key of its own."""
    lines = []
    for word in read_command("study", words).words:
        key, _, value = word.partition("=")
        name = key.lstrip("+~")
        own = BY_PHASE.get(name.removeprefix("space."))
        if name == TIMEFRAME and value in phase.timeframes:  # it is tried, and its multiples may be
            continue
        if own is not None:
            lines.append(
                f"{name}={value} is not what a study of two phases tries: phase 1 searches "
                f"phase.timeframe.{own}={spell_value(getattr(phase, own))}; set that key"
            )
    return lines


def _own_folders(words: Sequence[str]) -> list[Path]:
    """Return the folders of the user's files that a command names."""
    listed = (word.partition("=")[2] for word in words if word.startswith("hydra.searchpath="))
    places = (place for each in listed for place in yaml.safe_load(each) or [])
    return [Path(str(place).removeprefix("file://")) for place in places]


def _of_group(group: str, name: str, own: Sequence[Path], *, again: bool) -> Iterator[str]:
    """Yield the keys of a chosen file, and of the files that it chooses itself."""
    if group == "space" and not name:
        yield "space"
    places = [folder / group / f"{name}.yaml" for folder in (conf_folder(), *own)]
    path = next((place for place in places if place.is_file()), None)
    if path is None or (again and path == places[0] and group not in WRITTEN):
        return
    paths = explain_file(path, group).paths
    yield from (each for each in paths if not any(other.startswith(f"{each}.") for other in paths))
    for entry in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("defaults", []):
        for inner, chosen in _choices(entry):
            yield from _of_group(inner, chosen, own, again=again)


def _choices(entry: Any) -> Iterator[tuple[str, str]]:
    """Yield the groups that an entry of a defaults list chooses a file of."""
    for key, value in entry.items() if isinstance(entry, dict) else ():
        group = str(key).removeprefix("override ").strip().lstrip("/")
        if "@" not in group and isinstance(value, str):
            yield group, value
