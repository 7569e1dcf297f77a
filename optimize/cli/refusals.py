"""What Hydra refuses in a paragraph, as one line that says what came, what is allowed and what to do."""

import difflib
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any

from omegaconf import OmegaConf

from optimize.compose import SCHEMAS, first_line
from optimize.data.spec import CHECKS
from optimize.errors import BadInputError

FLAGS = (
    *(
        "-h",
        "--help",
        "--hydra-help",
        "--version",
        "-c",
        "--cfg",
        "--resolve",
        "-p",
        "--package",
        "-r",
        "--run",
    ),
    *("-m", "--multirun", "-sc", "--shell-completion", "-cp", "--config-path", "-cn", "--config-name"),
    *("-cd", "--config-dir", "--experimental-rerun", "-i", "--info"),
)
QUOTING = "'data.path=\"my file.csv\"'"
KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
NO_CHOICE = re.compile(r"Could not find '(?P<group>[^']+)/(?P<name>[^'/]+)'")
NO_STRING = "Config group override must be a string"
LIST_OVER_TREE = re.compile(
    r"Error merging override (?P<key>[\w.]+)=(?P<value>\[.*\]): .*Cannot merge DictConfig with ListConfig"
)
UNKNOWN_KEY = re.compile(r"Could not override '(?P<key>[^']+)'")
WRONG_TYPE = re.compile(
    r"(?P<key>[\w.]+): Value '(?P<value>.*)' "
    r"(?:of type '\w+' could not be converted to|is not a valid) (?P<kind>\w+)"
)


def check_flags(verb: str, arguments: Sequence[str]) -> None:
    """Refuse a flag that Hydra does not know, before it prints its usage over half a page."""
    for word in arguments:
        if word.startswith("-") and word.partition("=")[0] not in FLAGS:
            raise BadInputError(
                f"unknown flag {word}: settings are written key=value, without dashes; "
                f"`walkforge {verb} --help` lists them"
            )


def one_line(verb: str, error: BaseException, overrides: Sequence[str] = ()) -> str:
    """Return what Hydra or OmegaConf says about the overrides of a verb as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = first_line(error)
    if any(line.startswith("Available options in") for line in lines):
        start = next(i for i, line in enumerate(lines) if line.startswith("Available options in"))
        options = [
            line for line in lines[start + 1 :] if not line.startswith(("Config search path", "provider"))
        ]
        return _no_choice(text, options)
    if NO_STRING in text:
        return _no_file(text, overrides)
    if type(error).__name__ == "OverrideParseException":
        return f"{text}; write key=value, and quote a value with spaces, '=' or braces twice: {QUOTING}"
    if unknown := UNKNOWN_KEY.match(text):
        return _unknown_key(verb, unknown["key"])
    cause = error.__cause__
    if cause is not None and first_line(cause) not in text:
        text = f"{text}: {first_line(cause)}"
    if refused := LIST_OVER_TREE.match(text):
        key, value = refused["key"], refused["value"]
        return (
            f"{key}={value} would put a list over a tree: write '~{key}' '+{key}={value}', which replaces it"
        )
    wrong = WRONG_TYPE.search(text)
    return text if wrong is None else _wrong_type(**wrong.groupdict())


def keys_of(verb: str) -> list[str]:
    """Return the dotted keys of a verb's schema."""
    return sorted(_dotted(OmegaConf.structured(SCHEMAS[verb])))


def _dotted(config: Any, prefix: str = "") -> Iterator[str]:
    for key in config:
        node = config._get_node(key)
        yield f"{prefix}{key}"
        if OmegaConf.is_dict(node) and not node._is_none() and not node._is_missing():
            yield from _dotted(node, f"{prefix}{key}.")


def _unknown_key(verb: str, key: str) -> str:
    """Say that there is no such key, and name the one that was probably meant."""
    keys = keys_of(verb)
    depth = key.count(".")
    near = difflib.get_close_matches(key, [known for known in keys if known.count(".") == depth], n=1)
    near = near or [known for known in keys if known.rpartition(".")[2] == key][:1]
    hint = f"; did you mean {near[0]}?" if near else ""
    if key.startswith("data.severity."):
        hint = f"; the checks are {', '.join(CHECKS)}"
    group = key.partition(".")[0]
    if not near and group in ("agent", "space"):
        hint = f"; one that conf/{group} leaves out is added with a plus: +{key}=..."
    return f"there is no key {key!r}: `walkforge {verb} --cfg job` lists the keys{hint}"


def _no_choice(text: str, options: Sequence[str]) -> str:
    """Say that a group has no such file, and name the one that was probably meant."""
    choices = f"the choices are {', '.join(options)}"
    wrong = NO_CHOICE.search(text)
    if wrong is None:
        return f"{text}; {choices}"
    near = difflib.get_close_matches(wrong["name"], options, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{wrong['group']}={wrong['name']} is not allowed: {hint}{choices}"


def _no_file(text: str, overrides: Sequence[str]) -> str:
    """Say which group was given something else than the name of one of its files."""
    folder = resources.files("optimize.conf")
    for key, _, value in (word.partition("=") for word in overrides):
        group = folder / key
        if key.isidentifier() and group.is_dir() and value in ("null", ""):
            options = sorted(
                f.name.removesuffix(".yaml") for f in group.iterdir() if f.name.endswith(".yaml")
            )
            nothing = "; '~space' searches nothing" if key == "space" else ""
            return f"{key}={value} is not allowed: the choices are {', '.join(options)}{nothing}"
    return text


def _wrong_type(key: str, value: str, kind: str) -> str:
    return f"{key}={value!r} is not allowed: {key} must be {KINDS.get(kind, kind)}"
