"""`walkforge explain`: a key, a group of keys with its options, or all keys of a study."""

import inspect
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from envs.fields import KIND_WORDS, UNSET, Key, Setting, groups_of, keys_of
from optimize.agents.hyperparameters import HYPERPARAMETERS
from optimize.agents.registry import hyperparameters_of, takers_of
from optimize.agents.spec import AgentSpec
from optimize.cli.comments import Explained, explain_file, options_of
from optimize.cli.composition import Tree, compose_tree, composing
from optimize.cli.layout import spell_value, wrap
from optimize.cli.registered_values import VALUES_OF, first_sentence
from optimize.cli.schema_keys import kinds_in, type_of, words_of_type
from optimize.cli.verbs import VERBS
from optimize.cli.yaml_files import conf_folder
from optimize.errors import BadInputError, nearest
from optimize.extensions import name_extensions
from optimize.report.tables import say
from optimize.schemas.records import ExplainConfig
from optimize.schemas.register import plain_value
from optimize.study.spec import MISSING_NAME, StudySpec

NEAREST = 3  # keys that a refusal names
FACTS = 12  # characters before a fact of a key
ROLES = {
    "market": "decides the arrays of the market",
    "run": "decides the result of a run on that market",
    "search": "decides which trials are tried",
    "execution": "decides how far, how fast and where a study runs",
    "secret": "is neither stored nor shown",
}
SPACE = "space."
CHOOSING = ("experiment", "debug")  # groups whose files choose values of other groups' keys


def explain(config: ExplainConfig) -> None:
    """Print the meaning, range, default and place of a key; of a group its options and keys."""
    name_extensions(config.extensions)
    keys, groups = keys_of(StudySpec), groups_of(StudySpec)
    say("\n".join(explain_lines(config.key, keys, groups)))


def explain_lines(name: str | None, keys: dict[str, Key], groups: dict[str, Setting]) -> Iterator[str]:
    """Yield the explanation of a key or a group; of all keys where there is no name."""
    if name is None:
        yield from _all(keys, groups)
        return
    folder = conf_folder() / name if name.isidentifier() else None
    if folder is not None and not folder.is_dir():
        folder = None
    if name in keys:
        yield from _key(keys[name])
    elif name.removeprefix(SPACE) in keys and name.startswith(SPACE):
        yield from _searched(keys[name.removeprefix(SPACE)])
    elif name in groups or folder is not None:
        yield f"{name}: {groups[name].meaning}" if name in groups else f"{name}: a group of files of settings"
    elif any(name in explained.paths for _, explained in _files()):
        yield from _of_files(name)
    else:
        hint = _hint(name, [*keys, *groups], keys.values())
        raise BadInputError(f"there is no key {name!r}: {hint} (docs/glossary.md has the words of tables)")
    within = [key for key in keys.values() if key.path.startswith(f"{name}.")]
    if folder is not None and within and name not in _defaults().choices:
        yield from _keys_within(within, "keys of a study")
        yield from _options_of_verbs(name, folder)
    else:
        if folder is not None:
            yield from _options(name, folder, f"options: {name}=NAME chooses a file of settings")
        yield from _keys_within(within, "keys")


def _keys_within(within: Sequence[Key], title: str) -> Iterator[str]:
    """Yield the keys of a group with their meanings."""
    if within:
        yield f"\n{title}"
        yield from _rows([(f"  {key.path}", key.setting.meaning) for key in within])


def _options(name: str, folder: Path, title: str) -> Iterator[str]:
    """Yield the files of a group, each with the first sentence of its comment."""
    files = {option: folder / f"{option}.yaml" for option in options_of(folder)}
    yield f"\n{title}"
    heads = {option: explain_file(path, name).head for option, path in files.items()}
    yield from _rows([(f"  {option}", first_sentence(head)) for option, head in heads.items()])


def _options_of_verbs(name: str, folder: Path) -> Iterator[str]:
    """Yield the files of a group that other verbs choose under the name of a group of a study's keys."""
    verbs = [verb for verb in sorted(VERBS) if name in _groups_chosen(conf_folder() / f"{verb}.yaml")]
    commands = " and ".join(f"`walkforge {verb}`" for verb in verbs)
    yield from _options(
        name, folder, f"options of {commands}: {name}=NAME chooses a file of its own keys, below"
    )
    lines: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):  # the shared file first
        lines |= {key: text for key, text in explain_file(path, "").keys.items() if key not in lines}
    yield f"\nkeys of {commands}, which these files set"
    yield from _rows([(f"  {key}", text) for key, text in lines.items()])


def _groups_chosen(path: Path) -> set[str]:
    """Return the groups of which the file of a verb chooses a file."""
    defaults = yaml.safe_load(path.read_text(encoding="utf-8")).get("defaults", [])
    return {str(group) for entry in defaults if isinstance(entry, dict) for group in entry}


def _all(keys: dict[str, Key], groups: dict[str, Setting]) -> Iterator[str]:
    """Yield every key with its meaning below its group."""
    yield "keys of a study; `walkforge explain KEY` and `walkforge explain GROUP` show more of one\n"
    yield from _rows([(f"  {key.path}", key.setting.meaning) for key in keys.values() if "." not in key.path])
    for group, declared in groups.items():
        yield ""
        yield from wrap(f"{group}: ", declared.meaning, "  ")
        own = [key for key in keys.values() if key.path.rpartition(".")[0] == group]
        yield from _rows([(f"  {key.path.rpartition('.')[2]}", key.setting.meaning) for key in own])
    yield "\nkeys of single verbs"
    rows = []
    for name in _verb_keys(keys):
        verbs, comment = _verbs_of(name)
        rows.append((f"  {name}", f"{comment} ({', '.join(verbs)})"))
    yield from _rows(rows)


def _key(key: Key) -> Iterator[str]:
    """Yield the facts of a key of a study."""
    own = key.setting
    yield from wrap(f"{key.path}: ", own.meaning, "  ")
    yield ""
    searched = f"yes: space.{key.path} is its range or list of choices"
    facts = {
        "type": words_of_type(key.kind, key.path) or "any",
        "unit": own.unit,
        "range": own.range,
        "default": _default(key),
        "null": own.null,
        "role": f"{own.role}: {ROLES[own.role]}",
        "searched": searched if key.unsearchable is None else f"no: {key.unsearchable}",
        "resumed": "may change" if key.changeable else "may not change between two launches of a study",
        "declared in": declared_in(key.path),
    }
    yield from _facts(facts)
    yield from _places(key.path)
    if key.path in VALUES_OF:
        yield f"\nchoices of {key.path}"
        yield from _rows([(f"  {name}", meaning) for name, meaning in sorted(VALUES_OF[key.path]())])


def _searched(key: Key) -> Iterator[str]:
    """Yield the facts of a key as a space searches it."""
    own, path = key.setting, f"{SPACE}{key.path}"
    yield from wrap(f"{path}: ", f"The values of {key.path} among which a study searches.", "  ")
    yield ""
    if key.unsearchable is not None:
        yield from _facts({"meaning": own.meaning, "searched": f"no: {key.unsearchable}"})
        return
    tree = _defaults()
    default = OmegaConf.select(tree.config, path, default=None)
    offered = f"{spell_value(plain_value(default))}, of space={tree.choices.get('space')}"
    # Hydra takes a `+` before a key that is not there yet, and puts no tree over a list or the reverse.
    new = f"'~{path}' '+{path}"
    listed, ranged = OmegaConf.is_list(default), OmegaConf.is_dict(default)
    there = f"'{path}" if default is not None else f"'+{path}"
    forms = [f"{new if ranged else there}=[VALUE,VALUE]'"]
    if {int, float} & {*kinds_in(key.kind)}:
        forms.append(f"{new if listed else there}={{low:NUMBER,high:NUMBER}}' (also step, log:true)")
    yield from _facts(
        {
            "meaning": own.meaning,
            "typed as": " or ".join(forms),
            "beside": "a file of `space` may search it beside some values of another key only: "
            "{choices: [VALUE, VALUE], when: {OTHER.KEY: [VALUE]}}",
            "each value": words_of_type(key.kind, key.path) or "any",
            "range": own.range,
            "default": f"not searched by space={tree.choices.get('space')}" if default is None else offered,
            "left out by": f"{path}=null" if default is not None else "",
            "see also": f"`walkforge explain {key.path}`",
        }
    )
    yield from _places(path)


def _default(key: Key) -> str:
    """Return the value that `walkforge study` uses, and the option of a group that sets it."""
    tree = _defaults()
    group, _, name = key.path.partition(".")
    value = OmegaConf.select(tree.config, key.path, default=key.default, throw_on_missing=False)
    if value is UNSET or (value in (None, "", MISSING_NAME) and key.default in (UNSET, MISSING_NAME)):
        return _no_default(key)
    text = spell_value(plain_value(value))
    chosen = tree.choices.get(group)
    files = [file for file, each in _files() if key.path in each.lines and file.parent.name == group]
    return f"{text}, of {group}={chosen}" if name and any(file.stem == chosen for file in files) else text


@cache
def _defaults() -> Tree:
    """Return the configuration of `walkforge study` without arguments."""
    with composing("study", ()) as hydra:
        return compose_tree("study", (), hydra)


def _no_default(key: Key) -> str:
    name = key.path.partition(".")[2]
    if key.path.startswith("agent.") and name not in HYPERPARAMETERS:
        defaults = {taker: hyperparameters_of(taker)[name].default for taker in takers_of(name)}
        given = {
            each: spell_value(value)
            for each, value in defaults.items()
            if value is not inspect.Parameter.empty
        }
        if len(set(given.values())) == 1:
            return next(iter(given.values()))
        if given:
            return ", ".join(f"{value} ({each})" for each, value in given.items())
    return (
        "that of the algorithm in stable-baselines3" if key.path.startswith("agent.") else "none: to be given"
    )


def _of_files(name: str) -> Iterator[str]:
    """Yield the facts of a key of single verbs, or of an entry below a key, which only files explain."""
    comment = next((each.keys[name] for _, each in reversed(_files()) if each.keys.get(name)), "")
    yield from wrap(f"{name}: " if comment else f"{name}", comment, "  ")
    yield ""
    verbs, _ = _verbs_of(name)
    kind = type_of(verbs[0], name) if verbs else None
    yield from _facts(
        {"type": words_of_type(kind, name) if kind in KIND_WORDS else "", "verbs": ", ".join(verbs)}
    )
    yield from _places(name)


def _facts(facts: dict[str, str]) -> Iterator[str]:
    for title, fact in facts.items():
        if fact:
            yield from wrap(f"  {title:<{FACTS}}", fact)


def _places(name: str) -> Iterator[str]:
    """Yield the lines of our files that set a key, and of those that search it."""
    places = []
    for label, path in (("files", name), ("spaces", f"space.{name}")):
        for file, explained in _files():
            if path in explained.lines:
                number = explained.lines[path]
                text = file.read_text(encoding="utf-8").splitlines()[number - 1].strip()
                places.append((label, f"conf/{file.relative_to(conf_folder())}:{number}", text))
    before = ""
    for label, place, text in places:
        yield from wrap(f"  {label if label != before else '':<{FACTS}}{place}  ", text, " " * (FACTS + 6))
        before = label


@cache
def _files() -> list[tuple[Path, Explained]]:
    """Return our files of settings with their explanations: those of groups first, then of verbs."""
    conf = conf_folder()
    groups = [path for path in sorted(conf.glob("*/*.yaml")) if path.parent.name not in CHOOSING]
    found = [(path, explain_file(path, path.parent.name)) for path in groups]
    return found + [(path, explain_file(path, "")) for path in sorted(conf.glob("*.yaml"))]


def _verb_keys(keys: dict[str, Key]) -> list[str]:
    """Return the keys that stand in files of verbs and are none of a study."""
    found = [name for path, each in _files() if path.parent == conf_folder() for name in each.lines]
    groups = {name.rpartition(".")[0] for name in found} | {
        name.partition(".")[0] for name in keys if "." in name
    }
    return sorted({name for name in found if name not in keys and name not in groups})


def _verbs_of(name: str) -> tuple[list[str], str]:
    """Return the verbs whose file has a key, and its explanation there."""
    found = [
        (path.stem, each) for path, each in _files() if path.parent == conf_folder() and name in each.lines
    ]
    comment = next((each.keys[name] for _, each in found if name in each.keys), "")
    return [stem for stem, _ in found if stem in VERBS], comment


def declared_in(path: str) -> str:
    """Return the spec that declares a key, with its module; of a key of extensions the files."""
    if homes := _extensions_of(path):
        return ", ".join(homes)
    spec: type = StudySpec
    *groups, name = path.split(".")
    for group in groups:
        spec = typing.get_type_hints(spec)[group]
    owners = [each for each in spec.__mro__ if name in inspect.get_annotations(each)]
    owner = owners[0] if owners else spec
    return f"{owner.__module__}.{owner.__name__}"


def _extensions_of(path: str) -> list[str]:
    """Return the files of extensions that declare a key."""
    from optimize.agents.registry import ALGORITHMS
    from optimize.data.features.registry import declared_by

    group, _, key = path.partition(".")
    modules: list[str] = []
    if group == "feature":
        modules = [known.compute.__module__ for known in declared_by(key)]
    elif group == "agent" and key not in AgentSpec.__dataclass_fields__ and key not in HYPERPARAMETERS:
        modules = [ALGORITHMS[name].path.partition(":")[0] for name in takers_of(key)]
    files = (getattr(sys.modules.get(module), "__file__", None) or module for module in modules)
    return list(dict.fromkeys(files))


def _hint(name: str, names: Sequence[str], keys: Iterable[Key]) -> str:
    """Return the keys that were probably meant, those about the word, or the registry of a value."""
    for key, values in VALUES_OF.items():
        if name in dict(values()):
            return f"it is a value of {key}: `walkforge explain {key}` lists all"
    tails: dict[str, list[str]] = {}
    for each in names:
        tails.setdefault(each.rpartition(".")[2], []).append(each)
    near = nearest(name, names, NEAREST)
    for tail in nearest(name.rpartition(".")[2], tails, NEAREST):
        near += tails[tail]
    if near:
        return f"did you mean {', '.join(list(dict.fromkeys(near))[:NEAREST])}?"
    word = re.compile(rf"\b{re.escape(name.rpartition('.')[2])}\b", re.IGNORECASE)
    if about := [f"{key.path} ({key.setting.meaning})" for key in keys if word.search(key.setting.meaning)]:
        return f"its word is in the meaning of {', '.join(about)}"
    return "`walkforge explain` lists all keys"


def _rows(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max((len(name) for name, _ in rows), default=0)
    for name, meaning in rows:
        yield from wrap(f"{name:<{width}}  ", meaning)
