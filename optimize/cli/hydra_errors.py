"""Errors of Hydra and OmegaConf as one line: the value, the allowed values and the remedy."""

import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from envs.fields import KIND_WORDS
from optimize.cli.comments import options_of
from optimize.cli.schema_keys import allowed_words, keys_of_verb, type_of
from optimize.cli.setting_checks import SPACE_WORDS, unknown_key
from optimize.cli.yaml_files import SEARCHED, conf_folder, line_of, path_from_here
from optimize.errors import BadInputError, near_hint, nearest
from optimize.schemas.register import composition_message

OMEGACONF_KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
NO_CHOICE = re.compile(r"Could not find '(?P<group>[^']+)/(?P<name>[^'/]+)'")
BASELINE_PREFIXES = ("buy_and_hold", "flat", "random")
NO_STRING = "Config group override must be a string"
UNKNOWN_KEY = re.compile(r"(?:Could not override|Key) '(?P<key>[^']+)'")
SEVERAL_VALUES = re.compile(r"(?:Ambiguous value for argument|Sweep parameters) '(?P<word>.*)'")
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


def translate_refusal(verb: str, error: BaseException, words: Sequence[str] = ()) -> str:
    """Return a refusal of Hydra or OmegaConf as one line about the words of a verb."""
    whole, text = str(error), composition_message(error) if str(error).strip() else type(error).__name__
    if (options := _options(whole)) is not None:
        return _no_choice(text, options)
    if NO_STRING in text:
        return _no_file(text, words)
    if type(error).__name__ == "OverrideParseException":
        return _unreadable(verb, getattr(error, "override", None) or text)
    if found := SEVERAL_VALUES.search(whole):
        return _several(verb, found["word"])
    if found := IN_FILE.search(whole):
        return _in_file(verb, found["name"], whole)
    if found := DELETED.search(text):
        return f"~{found['key']}: {unknown_key(verb, found['key'])}"
    if found := PRESENT.search(text):
        return f"+{found['key']} is there already: write {found['key']}=VALUE, without the plus"
    cause = error.__cause__
    if found := UNKNOWN_KEY.match(text):
        return _not_settable(verb, found["key"], cause)
    return _wrong_value(verb, error, text, words)


def _wrong_value(verb: str, error: BaseException, text: str, words: Sequence[str]) -> str:
    """Return why a value does not fit its key."""
    cause = error.__cause__
    why = text if cause is None else composition_message(cause)
    if wrong := WRONG_TYPE.search(why) or WRONG_TYPE.search(text):
        return _wrong_type(words, **wrong.groupdict())
    if found := MERGED.match(text):
        typed = (word for word in words if text.startswith(f"Error merging override {word}"))
        key, _, value = next(typed, found["word"]).partition("=")
        key = key.lstrip("+~")
        if key.startswith("space") and "ListConfig" in why and "DictConfig" in why:
            remedy = f"write '~{key}' '+{key}={value}', which replaces it"
            over = "a tree over a list" if value.startswith("{") else "a list over a tree"
            return f"{key}={value} would put {over}: {remedy}"
        return f"{key}={value} is not allowed: {key} must be {allowed_words(verb, key)}"
    if found := INTERPOLATION.search(text) or INTERPOLATION.search(why):
        return _interpolation(found["key"])
    return why if why in text or cause is None else f"{text}: {why}"


def _several(verb: str, word: str) -> str:
    """Refuse a value with commas, which is a list without brackets or one job for each."""
    key, _, value = word.partition("=")
    name = key.lstrip("+~")
    if typing.get_origin(type_of(verb, name)) is list:
        return f"{word} is not allowed: a list stands in brackets: {_shell(f'{key}=[{value}]')}"
    if type_of(verb, name) in KIND_WORDS:
        return f"{word} is not allowed: {name} takes one value; with -m there is one job for each"
    return (
        f"{word} is several values: write {_shell(f'{key}=[{value}]')} for a list, or add -m for one job each"
    )


def _shell(word: str) -> str:
    """Return a word as it is typed in a shell."""
    return f"'{word}'" if set(word) & set(" {}()*?$\"'[]") else word


def _unreadable(verb: str, word: str) -> str:
    """Return the right form of a word that cannot be read as key=value."""
    key, mark, value = word.partition("=")
    what = f"cannot read {word!r}"
    if not mark:
        return f"{what}: settings are written key=value"
    if not key.strip("+~"):
        return f"{what}: a key is missing before the ="
    if key.endswith(":") or value.startswith("="):
        return f"{what}: write {key.rstrip(':')}={value.lstrip('=')}, with one = between key and value"
    if type_of(verb, key.lstrip("+~")) in (int, float, bool):
        return f"{word} is not allowed: {key} must be {allowed_words(verb, key)}"
    if value[:1] in ("[", "{") and any(value.count(a) != value.count(b) for a, b in ("[]", "{}")):
        return f"{what}: a bracket is not closed; quote the whole word where it has spaces: '{key}=[1, 2]'"
    if value.startswith("[") and value.endswith("]"):
        return f"{what}: quote each entry that has spaces or signs: '{key}=[\"my text\",other]'"
    if value.count('"') % 2 or value.count("'") % 2:
        return f"{what}: a quote is not closed: '{key}=\"my text\"'"
    if key == "name" and (reason := _wrong_name(value)):
        return reason
    if key.lstrip("+~").partition(".")[0] == "space":
        return f"{what}: a space is a tree with one key a level, or one key of it: {SPACE_WORDS}"
    inner = value.replace('"', '\\"')
    foreign = next((sign for sign in value if not sign.isascii()), None)
    signs = "spaces, '=', braces or other signs" if foreign is None else repr(foreign)
    return f"{what}: a value with {signs} is quoted twice: '{key}=\"{inner}\"'"


def _wrong_name(name: str) -> str:
    """Return why a study may not have this name; empty if it may."""
    from optimize.study.spec import check_name  # loads the engine, which only this message needs

    try:
        check_name(name)
    except BadInputError as error:
        return str(error)
    return ""


def _not_settable(verb: str, key: str, cause: BaseException | None) -> str:
    """Return why a key cannot be set: it does not exist, or it stands below a value or null."""
    within = None if cause is None else FULL_KEY.search(str(cause))
    if within is not None and within["key"].startswith(f"{key}."):  # of a mapping: cost={commission_bps: 1}
        return unknown_key(verb, within["key"])
    parent = key.rpartition(".")[0]
    if parent and cause is not None and "not a" in str(cause) and parent in keys_of_verb(verb):
        return f"{key}: {parent} is not a group of keys here: set {parent} itself"
    return unknown_key(verb, key)


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
    where = f"{name}.yaml" if path is None else path_from_here(path)
    line = None if path is None or not key else _line_in(path, name, key)
    place = where if line is None else f"{where}, line {line}"
    if "not in" in reason and key:
        return f"{place}: {unknown_key(verb, key)}"
    if wrong := WRONG_TYPE.search(f"{key}: {reason}"):
        return f"{place}: {_wrong_type((), **wrong.groupdict())}"
    if key:
        return f"{place}: {key} must be {allowed_words(verb, key)}"
    if "Cannot merge" in reason:
        return (
            f"{place}: a list stands at a key that is a tree in an earlier file, such as a range, or a tree "
            "at one that is a list: write the form of the earlier file, or the whole space in a file of its "
            "own that `space=NAME` chooses"
        )
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
    """Return the refusal of a file that a group lacks, with the closest one."""
    choices = f"the choices are {', '.join(options)}"
    wrong = NO_CHOICE.search(text)
    if wrong is None:
        return f"{text}; {choices}"
    near = nearest(wrong["name"], options)
    hint = f"did you mean {near[0]}? " if near else ""
    group, _, name = f"{wrong['group']}/{wrong['name']}".partition("/")
    if group == "agent" and name.startswith(BASELINE_PREFIXES):
        hint = f"{name} is a baseline, which every walk-forward and study evaluates beside its agents; "
    return f"{group}={name} is not allowed: {hint}{choices}"


def _no_file(text: str, words: Sequence[str]) -> str:
    """Return the refusal of a value that names no file of its group."""
    for key, mark, value in (word.partition("=") for word in words):
        folder = conf_folder() / key.lstrip("+~")
        if not mark or not key.strip("+~").isidentifier() or not folder.is_dir():
            continue
        options = options_of(folder)
        if value.strip("'\"") not in options:
            nothing = "; '~space' searches nothing" if key == "space" else ""
            choices = f"the choices are {', '.join(options)}{nothing}{near_hint(value, options)}"
            return f"{key}={value} is not allowed: {choices}"
    return text


def _wrong_type(words: Sequence[str], key: str, value: str, kind: str) -> str:
    """Return the refusal of a value of another type, as it was typed: Hydra reads 1e2 as 100.0."""
    typed = [word.partition("=")[2] for word in words if word.partition("=")[0].lstrip("+") == key]
    value = typed[-1] if typed else value
    return f"{key}={value!r} is not allowed: {key} must be {OMEGACONF_KINDS.get(kind, kind)}"
