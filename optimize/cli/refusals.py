"""Messages of Hydra and OmegaConf as one line: what came, what is allowed and what to do."""

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from optimize.cli.comments import explain_file
from optimize.cli.yaml_files import SEARCHED, conf_folder, line_of, shown
from optimize.compose import SCHEMAS, first_line
from optimize.data.spec import CHECKS
from optimize.errors import BadInputError

KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
NO_CHOICE = re.compile(r"Could not find '(?P<group>[^']+)/(?P<name>[^'/]+)'")
BASELINES = ("buy_and_hold", "flat", "random")
NO_STRING = "Config group override must be a string"
UNKNOWN_KEY = re.compile(r"(?:Could not override|Key) '(?P<key>[^']+)'")
SEVERAL = re.compile(r"(?:Ambiguous value for argument|Sweep parameters) '(?P<word>.*)'")
MERGED = re.compile(r"Error merging override (?P<word>.*?)(?:: (?P<why>.*))?$")
DELETED = re.compile(r"Could not delete from config\. '(?P<key>[^']+)' does not exist")
PRESENT = re.compile(r"Could not append to config\. An item is already at '(?P<key>[^']+)'")
IN_FILE = re.compile(r"In '(?P<name>[^']+)': (?P<kind>\w+) raised while composing config")
FULL_KEY = re.compile(r"full_key: (?P<key>[\w.\[\]-]+)")
INTERPOLATION = re.compile(r"(?:Interpolation key|resolving interpolation) '(?P<key>[^']+)'")
WRONG_TYPE = re.compile(
    r"(?P<key>[\w.]+): Value '(?P<value>.*)' "
    r"(?:of type '\w+' could not be converted to|is not a valid) (?P<kind>\w+)"
)


def one_line(verb: str, error: BaseException, words: Sequence[str] = ()) -> str:
    """Return what Hydra or OmegaConf refuses about the words of a verb as one line."""
    whole, text = str(error), first_line(error) if str(error).strip() else type(error).__name__
    if (options := _options(whole)) is not None:
        return _no_choice(text, options)
    if NO_STRING in text:
        return _no_file(text, words)
    if type(error).__name__ == "OverrideParseException":
        return _unreadable(verb, getattr(error, "override", None) or text)
    if found := SEVERAL.search(whole):
        return _several(verb, found["word"])
    if found := IN_FILE.search(whole):
        return _in_file(verb, found["name"], whole)
    if found := DELETED.search(text):
        return f"~{found['key']}: {_unknown_key(verb, found['key'])}"
    if found := PRESENT.search(text):
        return f"+{found['key']} is there already: write {found['key']}=VALUE, without the plus"
    cause = error.__cause__
    if found := UNKNOWN_KEY.match(text):
        return _not_settable(verb, found["key"], cause)
    return _wrong_value(verb, error, text)


def _wrong_value(verb: str, error: BaseException, text: str) -> str:
    """Return why a value does not fit its key."""
    cause = error.__cause__
    why = text if cause is None else first_line(cause)
    if wrong := WRONG_TYPE.search(why) or WRONG_TYPE.search(text):
        return _wrong_type(**wrong.groupdict())
    if found := MERGED.match(text):
        key, _, value = found["word"].partition("=")
        key = key.lstrip("+~")
        if "ListConfig" in why and "DictConfig" in why:
            remedy = f"write '~{key}' '+{key}={value}', which replaces it"
            return f"{key}={value} would put a list over a tree: {remedy}"
        return f"{key}={value} is not allowed: {key} must be {_allowed(verb, key)}"
    if found := INTERPOLATION.search(text) or INTERPOLATION.search(why):
        return _interpolation(found["key"])
    return why if why in text or cause is None else f"{text}: {why}"


def keys_of(verb: str) -> list[str]:
    """Return the dotted keys of a verb: those of its schema, and of the files of its open groups."""
    return sorted({*_dotted(SCHEMAS[verb]), *_of_files(verb)})


def hint_of(verb: str, key: str) -> str:
    """Return the key that was probably meant, as the end of a sentence; nothing where none is near."""
    keys = keys_of(verb)
    depth = key.count(".")
    group, _, last = key.rpartition(".")
    beside = {known.rpartition(".")[2]: known for known in keys if known.rpartition(".")[0] == group}
    near = [beside[each] for each in difflib.get_close_matches(last, beside, n=1)]
    same_depth = [known for known in keys if known.count(".") == depth]
    near = near or difflib.get_close_matches(key, same_depth, n=1, cutoff=0.8)
    near = near or [known for known in keys if known.rpartition(".")[2] == last][:1]
    near = near or difflib.get_close_matches(last, keys, n=1, cutoff=0.75)
    if not near:
        tails = {known.rpartition(".")[2]: known for known in reversed(keys)}
        near = [tails[each] for each in difflib.get_close_matches(last, tails, n=1, cutoff=0.8)]
    return f"; did you mean {near[0]}?" if near else ""


def _dotted(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys of a dataclass and of those within it."""
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        yield f"{prefix}{field.name}"
        if is_dataclass(hints[field.name]):
            yield from _dotted(hints[field.name], f"{prefix}{field.name}.")


@cache
def _of_files(verb: str) -> tuple[str, ...]:
    """Return the keys that the files of a verb's groups write, which no schema lists for open groups."""
    groups = [field.name for field in fields(SCHEMAS[verb]) if field.name in ("agent", "space")]
    keys: set[str] = set()
    for group in groups:
        for path in (conf_folder() / group).glob("*.yaml"):
            keys |= set(explain_file(path, group).paths)
    return tuple(sorted(keys))


def _type_of(verb: str, key: str) -> Any:
    """Return the type of a dotted key in a verb's schema, None where the schema leaves it open."""
    kind: Any = SCHEMAS[verb]
    for part in key.split("."):
        if not is_dataclass(kind):
            return None
        kind = typing.get_type_hints(kind).get(part)
    return kind


def _allowed(verb: str, key: str) -> str:
    """Return in words what a key may hold."""
    kind = _type_of(verb, key)
    words = []
    for option in _kinds(kind):
        if option is type(None):
            words.append("null")
        elif typing.get_origin(option) is list:
            words.append(f"a list, such as {key}=[{_example(option)}]")
        elif option in NAMES:
            words.append(NAMES[option])
        elif is_dataclass(option) or typing.get_origin(option) is dict:
            words.append(f"a group of keys, set one by one: {key}.KEY=VALUE")
    return " or ".join(words) or "a value that the key can hold"


def _example(kind: Any) -> str:
    inner = (typing.get_args(kind) or (str,))[0]
    return {int: "1,2", float: "0.1,0.2"}.get(inner, "a,b")


def _several(verb: str, word: str) -> str:
    """Refuse a value with commas, which is a list without brackets or one job for each."""
    key, _, value = word.partition("=")
    name = key.lstrip("+~")
    if typing.get_origin(_type_of(verb, name)) is list:
        return f"{word} is not allowed: a list stands in brackets: {_shell(f'{key}=[{value}]')}"
    if _type_of(verb, name) in NAMES:
        return f"{word} is not allowed: {name} takes one value; with -m there is one job for each"
    return (
        f"{word} is several values: write {_shell(f'{key}=[{value}]')} for a list, or add -m for one job each"
    )


def _shell(word: str) -> str:
    """Return a word as it is typed in a shell."""
    return f"'{word}'" if set(word) & set(" {}()*?$\"'[]") else word


def _unreadable(verb: str, word: str) -> str:
    """Say how a word that cannot be read as key=value is to be typed."""
    key, mark, value = word.partition("=")
    what = f"cannot read {word!r}"
    if not mark:
        return f"{what}: settings are written key=value"
    if not key.strip("+~"):
        return f"{what}: a key is missing before the ="
    if key.endswith(":") or value.startswith("="):
        return f"{what}: write {key.rstrip(':')}={value.lstrip('=')}, with one = between key and value"
    if _type_of(verb, key.lstrip("+~")) in (int, float, bool):
        return f"{word} is not allowed: {key} must be {_allowed(verb, key)}"
    if value[:1] in ("[", "{") and any(value.count(a) != value.count(b) for a, b in ("[]", "{}")):
        return f"{what}: a bracket is not closed; quote the whole word where it has spaces: '{key}=[1, 2]'"
    if value.startswith("[") and value.endswith("]"):
        return f"{what}: quote each entry that has spaces or signs: '{key}=[\"my text\",other]'"
    if value.count('"') % 2 or value.count("'") % 2:
        return f"{what}: a quote is not closed: '{key}=\"my text\"'"
    inner = value.replace('"', '\\"')
    return f"{what}: a value with spaces, '=', braces or other signs is quoted twice: '{key}=\"{inner}\"'"


def check_keys(verb: str, plain: Any) -> None:
    """Refuse a key that was added and that no schema has."""
    for key in _outside(SCHEMAS[verb], plain, ""):
        raise BadInputError(_unknown_key(verb, key))


def _outside(kind: Any, plain: Any, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for key, value in plain.items():
        if key not in hints:
            yield f"{prefix}{key}"
        elif is_dataclass(hints[key]) and isinstance(value, dict):
            yield from _outside(hints[key], value, f"{prefix}{key}.")


def check_value(verb: str, key: str, value: Any) -> None:
    """Refuse what Hydra would convert in silence: numbers for true and false, lists for a group's file."""
    folder = conf_folder() / key
    if key.isidentifier() and folder.is_dir() and not isinstance(value, (str, types.NoneType, dict)):
        options = sorted(path.stem for path in folder.glob("*.yaml"))
        raise BadInputError(f"{key}={value} is not allowed: the choices are {', '.join(options)}")
    if key in booleans(verb) and not isinstance(value, (bool, types.NoneType)) and "${" not in str(value):
        raise BadInputError(f"{key}={value!r} is not allowed: {key} must be true or false")


@cache
def booleans(verb: str) -> frozenset[str]:
    """Return the keys of a verb that are true or false."""
    return frozenset(key for key in _dotted(SCHEMAS[verb]) if bool in _kinds(_type_of(verb, key)))


@cache
def texts(verb: str) -> frozenset[str]:
    """Return the keys of a verb that are text, or lists of text."""
    return frozenset(key for key in _dotted(SCHEMAS[verb]) if _is_text(_type_of(verb, key)))


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
    kinds = {key: _kinds(_type_of(verb, key)) for key in _dotted(SCHEMAS[verb])}
    return {key: words[kind] for key, each in kinds.items() for kind in each if kind in words}


def _is_text(kind: Any) -> bool:
    return {*_kinds(kind)} - {types.NoneType} in ({str}, {list[str]})


def _kinds(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _unknown_key(verb: str, key: str) -> str:
    """Say that there is no such key, and name the one that was probably meant."""
    hint = hint_of(verb, key)
    if key.startswith("data.severity."):
        hint = f"; the checks are {', '.join(CHECKS)}"
    group = key.partition(".")[0]
    if not hint and group in ("agent", "space"):
        hint = f"; one that conf/{group} leaves out is added with a plus: +{key}=..."
    return f"there is no key {key!r}: `walkforge {verb} --help` lists the keys{hint}"


def _not_settable(verb: str, key: str, cause: BaseException | None) -> str:
    """Say why a key cannot be set: it does not exist, or it stands below a value or null."""
    parent = key.rpartition(".")[0]
    if parent and cause is not None and "not a" in str(cause) and parent in keys_of(verb):
        return f"{key}: {parent} is no group of keys here: set {parent} itself"
    return _unknown_key(verb, key)


def _interpolation(key: str) -> str:
    inner = key.strip("${}")
    return f"${{{inner}}} refers to no key of the configuration: name one that --cfg job shows"


def _in_file(verb: str, name: str, whole: str) -> str:
    """Name the file and the line of a setting that the schema refuses, and the reason."""
    lines = [line.strip() for line in whole.splitlines() if line.strip()]
    reason = lines[1] if len(lines) > 1 else lines[0]
    found = FULL_KEY.search(whole)
    key = found["key"] if found else ""
    path = next((path for path in _candidates(name) if path.is_file()), None)
    where = f"{name}.yaml" if path is None else shown(path)
    line = None if path is None or not key else _line_in(path, name, key)
    place = where if line is None else f"{where}, line {line}"
    if "not in" in reason and key:
        return f"{place}: {_unknown_key(verb, key)}"
    if wrong := WRONG_TYPE.search(f"{key}: {reason}"):
        return f"{place}: {_wrong_type(**wrong.groupdict())}"
    if key:
        return f"{place}: {key} must be {_allowed(verb, key)}"
    return f"{place}: {reason}"


def _candidates(name: str) -> Iterator[Path]:
    """Yield where a composed file may lie: the folders that the command named, then our own."""
    for folder in (*SEARCHED, conf_folder()):
        yield folder / f"{name}.yaml"


def _line_in(path: Path, name: str, key: str) -> int | None:
    """Return the line of a key, which a file of a group may write without the group's name."""
    group = name.partition("/")[0]
    return line_of(path, key) or line_of(path, key.removeprefix(f"{group}."))


def _options(whole: str) -> list[str] | None:
    """Return the files of a group, where Hydra lists them."""
    lines = [line.strip() for line in whole.splitlines() if line.strip()]
    start = next((i for i, line in enumerate(lines) if line.startswith("Available options in")), None)
    if start is None:
        return None
    return [line for line in lines[start + 1 :] if not line.startswith(("Config search path", "provider"))]


def _no_choice(text: str, options: Sequence[str]) -> str:
    """Say that a group has no such file, and name the one that was probably meant."""
    choices = f"the choices are {', '.join(options)}"
    wrong = NO_CHOICE.search(text)
    if wrong is None:
        return f"{text}; {choices}"
    near = difflib.get_close_matches(wrong["name"], options, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    group, _, name = f"{wrong['group']}/{wrong['name']}".partition("/")
    if group == "agent" and name.startswith(BASELINES):
        hint = f"{name} is a baseline, which every walk-forward and study evaluates beside its agents; "
    return f"{group}={name} is not allowed: {hint}{choices}"


def _no_file(text: str, words: Sequence[str]) -> str:
    """Say which group was given something else than the name of one of its files."""
    for key, mark, value in (word.partition("=") for word in words):
        folder = conf_folder() / key.lstrip("+~")
        if not mark or not key.strip("+~").isidentifier() or not folder.is_dir():
            continue
        options = sorted(path.stem for path in folder.glob("*.yaml"))
        if value.strip("'\"") not in options:
            nothing = "; '~space' searches nothing" if key == "space" else ""
            return f"{key}={value} is not allowed: the choices are {', '.join(options)}{nothing}"
    return text


def _wrong_type(key: str, value: str, kind: str) -> str:
    return f"{key}={value!r} is not allowed: {key} must be {KINDS.get(kind, kind)}"
