"""What Hydra refuses in a paragraph, as one line that says what came, what is allowed and what to do."""

import difflib
import re
from collections.abc import Iterator, Sequence
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


def one_line(verb: str, error: BaseException) -> str:
    """Return what Hydra or OmegaConf says about the overrides of a verb as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = first_line(error)
    if any(line.startswith("Available options in") for line in lines):
        start = next(i for i, line in enumerate(lines) if line.startswith("Available options in"))
        options = [
            line for line in lines[start + 1 :] if not line.startswith(("Config search path", "provider"))
        ]
        return f"{text}; the choices are {', '.join(options)}"
    if type(error).__name__ == "OverrideParseException":
        return f"{text}; write key=value, and quote a value with spaces, '=' or braces twice: {QUOTING}"
    if unknown := UNKNOWN_KEY.match(text):
        return _unknown_key(verb, unknown["key"])
    cause = error.__cause__
    if cause is not None and first_line(cause) not in text:
        text = f"{text}: {first_line(cause)}"
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


def _wrong_type(key: str, value: str, kind: str) -> str:
    return f"{key}={value!r} is not allowed: {key} must be {KINDS.get(kind, kind)}"
