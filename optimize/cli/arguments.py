"""The words of a command line: flags apart from settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from optimize.errors import BadInputError

HELP = ("-h", "--help")
SHOW = ("-c", "--cfg")
PACKAGE = ("-p", "--package")
PLACE = ("-cd", "--config-dir")
SHELL = ("-sc", "--shell-completion")
MULTIRUN = ("-m", "--multirun")
RESOLVE = ("--resolve",)
RUN_FLAGS = ("-r", "--run")
WITH_VALUE = (*SHOW, *PACKAGE, *PLACE)
REFUSED = {
    "--experimental-rerun": "it would load a pickled file, which may run any code",
    "--config-path": "the files of walkforge are the primary ones; add your folder by -cd FOLDER",
    "-cp": "the files of walkforge are the primary ones; add your folder by -cd FOLDER",
    "--config-name": "a verb has one primary file; write a file of differences, experiment=NAME",
    "-cn": "a verb has one primary file; write a file of differences, experiment=NAME",
    "--hydra-help": "Hydra only composes here; --help lists the groups and keys of the verb",
    "--info": "Hydra only composes here; --cfg job shows the composed configuration",
    "-i": "Hydra only composes here; --cfg job shows the composed configuration",
}
TRACEBACK = "debug.traceback"
EXPLAIN = "explain"  # the verb whose first word may be a key without a value
DASHES = "\u2012\u2013\u2014\u2212"  # as editors and web pages write a minus
CURLY = "\u2018\u2019\u201c\u201d"  # as they write quotes
# Keys of earlier versions, which are still read.
RENAMED_WORDS = {"leaderboard": {"limit": "top_n"}, "study": {"notify.on": "notify.events"}}


@dataclass(frozen=True)
class Command:
    """The words typed after a verb."""

    words: list[str] = field(default_factory=list)  # key=value
    typed: list[str] = field(default_factory=list)  # words that repeat the same work, flags included
    helps: bool = False
    shows: bool = False
    package: str | None = None
    resolve: bool = False
    several: bool = False
    completes: bool = False
    traceback: bool = False


def read_command(verb: str, arguments: Sequence[str]) -> Command:
    """Return the flags and settings of a command; BadInputError for a flag that there is not."""
    if verb == EXPLAIN and arguments and _is_bare(arguments[0]):
        arguments = [f"key={arguments[0]}", *arguments[1:]]
    _check_spelling(verb, arguments)
    flags: dict[str, str] = {}
    words: list[str] = []
    typed: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            word = _renamed(verb, word)
            if not word.startswith(f"{TRACEBACK}="):
                typed.append(word)
            words.append(word)
            continue
        flag, mark, value = word.partition("=")
        _check_flag(verb, flag, word)
        if flag in WITH_VALUE and not mark:
            if not rest or rest[0].startswith("-"):
                raise BadInputError(f"{flag} needs a value, such as {_example(flag)}")
            value = rest.pop(0)
        flags[flag] = value
        if flag in PLACE:
            words.append(f"hydra.searchpath={_quoted(value)}")
            typed += [flag, value]
        elif flag in SHOW and value != "job":
            raise BadInputError(f"{flag} {value} is not allowed: {flag} must be job")
    traceback, words = _traceback(words)
    given = set(flags)
    return Command(
        words=words,
        typed=typed,
        helps=bool(given & set(HELP)),
        shows=bool(given & set(SHOW)),
        package=next((flags[flag] for flag in PACKAGE if flag in flags), None),
        resolve=bool(given & set(RESOLVE)),
        several=bool(given & set(MULTIRUN)) or any(_is_sweep(word) for word in words),
        completes=bool(given & set(SHELL)),
        traceback=traceback,
    )


def repeated(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return each key that stands in several words, with its last value, which counts."""
    values: dict[str, list[str]] = {}
    for word in words:
        key, _, value = word.partition("=")
        values.setdefault(key.lstrip("+"), []).append(value)
    several = {
        key: each for key, each in values.items() if len(set(each)) > 1 and not key.startswith("hydra.")
    }
    return [(key, each[-1]) for key, each in several.items()]


def _check_spelling(verb: str, arguments: Sequence[str]) -> None:
    """Refuse forms of key=value that come from editors or habits of other programs."""
    for number, word in enumerate(arguments):
        if word in ("=", ":") and 0 < number < len(arguments) - 1:
            said = f"{arguments[number - 1]}={arguments[number + 1]}"
            raise BadInputError(f"write {said}, without spaces around the {word}")
        if not word.strip():
            raise BadInputError(
                f"{word!r} is not a setting: a variable of the shell was empty, or take it out"
            )
        if word[:1] in DASHES:
            raise BadInputError(f"{word} begins with a long dash: flags are typed with -, such as --help")
        if set(word) & set(CURLY):
            raise BadInputError(f"{word} has typographic quotes: type straight ones, ' and \"")
        key, mark, value = word.partition(":")
        if mark and value and "=" not in word and key.replace(".", "_").isidentifier():
            raise BadInputError(f"{word} is not a setting: write {key}={value}")
        spaced = list(arguments[number + 1 : number + 2]) in (["="], [":"])
        if number == 0 and word and "=" not in word and word[0] not in "-+~" and not spaced:
            if word == _subject(verb):
                raise BadInputError(f"{word} is not a setting: settings are written key=value: {word}=VALUE")
            example = f"data=file data.path={word}" if verb == "data" else f"{_subject(verb)}={word}"
            raise BadInputError(f"{word} is not a setting: settings are written key=value, such as {example}")


def _is_bare(word: str) -> bool:
    """Return whether a word is a dotted key and nothing else."""
    return all(part.isidentifier() for part in word.split("."))


def _subject(verb: str) -> str:
    """Return the key that a verb is mostly called with."""
    return {"query": "sql", "replay": "bundle", "evaluate": "bundle", "act": "bundle", EXPLAIN: "key"}.get(
        verb, "name"
    )


def _renamed(verb: str, word: str) -> str:
    """Return a word under the key's name of today."""
    key, mark, value = word.partition("=")
    return f"{RENAMED_WORDS.get(verb, {}).get(key, key)}{mark}{value}"


def _is_sweep(word: str) -> bool:
    key, _, value = word.partition("=")
    return key == "hydra.mode" and value.strip("'\"").upper() == "MULTIRUN"


def _traceback(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Return whether tracebacks are asked for, and the other words."""
    wanted = False
    kept = []
    for word in words:
        key, _, value = word.partition("=")
        if key != TRACEBACK:
            kept.append(word)
        elif value in ("true", "false"):
            wanted = value == "true"
        else:
            raise BadInputError(f"{word} is not allowed: {TRACEBACK} must be true or false")
    return wanted, kept


def _check_flag(verb: str, flag: str, word: str) -> None:
    """Refuse a flag that walkforge does not have."""
    if flag in REFUSED:
        raise BadInputError(f"{flag} is not allowed: {REFUSED[flag]}")
    if flag not in (*HELP, *WITH_VALUE, *SHELL, *MULTIRUN, *RESOLVE, *RUN_FLAGS):
        raise BadInputError(
            f"unknown flag {word}: settings are written key=value, without dashes; "
            f"`walkforge {verb} --help` lists them"
        )


def _example(flag: str) -> str:
    return f"{flag} job" if flag in SHOW else f"{flag} agent" if flag in PACKAGE else f"{flag} my_conf"


def _quoted(folder: str) -> str:
    """Return a folder as a list of one, as Hydra reads it."""
    escaped = folder.replace("\\", "\\\\").replace('"', '\\"')
    return f'["{escaped}"]'
