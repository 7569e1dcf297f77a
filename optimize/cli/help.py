"""`walkforge VERB --help`: examples, groups and keys of a verb, with the comments of the YAML files."""

from collections.abc import Iterator, Sequence
from typing import Any

from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

from envs.fields import keys_of
from optimize.cli.comments import Explained, explain_file
from optimize.cli.composition import Tree, compose_tree, composing
from optimize.cli.layout import line_width, spell_value, wrap, wrap_comment
from optimize.cli.verbs import VERBS
from optimize.cli.yaml_files import conf_folder
from optimize.schemas.register import SCHEMAS
from optimize.secrets import hide_secrets

FLAGS = (
    "-m                    one job for each of several values: KEY=1,2,3",
    "-cd FOLDER            a folder of your own files: FOLDER/experiment/mine.yaml is experiment=mine",
    "--cfg job             the composed configuration",
    "debug.traceback=true  the traceback of an error",
)


def verb_help(verb: str, words: Sequence[str]) -> str:
    """Return the help of a verb; the values shown are those of the command."""
    with composing(verb, words) as hydra:
        tree = compose_tree(verb, words, hydra)
        add_keys_of_extensions(tree)
        parts = [*_top(verb), *_groups(tree, hydra), *_keys(verb, tree, words)]
    return "\n".join(parts)


def _top(verb: str) -> Iterator[str]:
    yield f"walkforge {verb}: {VERBS[verb].help}"
    yield f"\nusage: walkforge {verb} key=value ...\n"
    yield from (f"  {flag}" for flag in FLAGS)
    if examples := VERBS[verb].examples:
        commands = [f"walkforge {verb} {typed}".rstrip() for typed, _ in examples]
        width = max(map(len, commands))
        lines = [
            f"  {command:<{width}}   {does}" for command, (_, does) in zip(commands, examples, strict=True)
        ]
        if max(map(len, lines)) > line_width():
            lines = [
                f"  {command}\n      {does}" for command, (_, does) in zip(commands, examples, strict=True)
            ]
        yield "\nexamples"
        yield from lines


def _groups(tree: Tree, hydra: Hydra) -> Iterator[str]:
    """Yield one line for each group: its chosen file and its options."""
    groups = {group: chosen for group, chosen in tree.choices.items() if not group.startswith("hydra/")}
    if not groups:
        return
    yield "\ngroups: GROUP=NAME chooses a file of settings"
    width = max(map(len, groups))
    for group, chosen in sorted(groups.items()):
        options = hydra.config_loader.get_group_options(group)
        others = ", ".join(options) or "(none; a folder of your own, -cd FOLDER, may have it)"
        yield from wrap(f"  {group:<{width}}  ", f"{chosen or 'none'}; of {others}")


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
    leaves = dict(_leaves(OmegaConf.to_container(tree.config, resolve=False)))
    comments = _meanings(verb, [key for key in leaves if key not in comments]) | comments
    rooms: dict[str, list[str]] = {}
    for key, value in leaves.items():
        if value == {} and key not in comments:  # holds keys of extensions, which stand beside it
            continue
        room = key.partition(".")[0] if "." in key and key.partition(".")[0] in tree.choices else ""
        shown = hide_secrets(f"  {key}={spell_value(value)}", words)
        rooms.setdefault(room, []).extend(wrap_comment(shown, comments.get(key, "")))
    yield "\nkeys"
    yield from rooms.pop("", [])
    for room, lines in rooms.items():
        yield ""
        head = files[room].head if room in files else ""
        yield from wrap("", f"{room}={tree.choices[room]}: {head}".rstrip(": "))
        yield from lines


def _meanings(verb: str, keys: Sequence[str]) -> dict[str, str]:
    """Return the declared meanings of keys that no file explains."""
    if not keys or not SCHEMAS[verb].startswith("studies:"):  # the verbs that read records load no engine
        return {}
    from optimize.study.spec import StudySpec

    declared = keys_of(StudySpec)
    named = {key: key.removeprefix("space.") for key in keys}
    return {key: declared[name].setting.meaning for key, name in named.items() if name in declared}


def add_keys_of_extensions(tree: Tree) -> None:
    """Load the extensions that a command names, and add the unset keys of its features and its agent."""
    named = tree.config.get("extensions")
    if not named:
        return
    from optimize.agents.registry import ALGORITHMS, BUILT_IN, hyperparameters_of
    from optimize.data.features.registry import FEATURES
    from optimize.data.features.spec import FEATURE_KEYS
    from optimize.extensions import name_extensions

    name_extensions(list(named))
    unset: dict[str, Any] = {}
    for name in OmegaConf.select(tree.config, "feature.indicators") or ():
        keys = FEATURES[name].keys if name in FEATURES else ()
        unset |= {f"feature.{key}": FEATURE_KEYS[key].default for key in keys}
    agent = OmegaConf.select(tree.config, "agent.name")
    if agent in ALGORITHMS.keys() - BUILT_IN:
        unset |= {f"agent.{key}": each.default for key, each in hyperparameters_of(agent).items()}
    OmegaConf.set_struct(tree.config, False)
    for path, value in unset.items():
        group, _, key = path.partition(".")
        if key not in tree.config[group]:
            tree.config[group]._set_flag("struct", False)
            tree.config[group][key] = value


def _leaves(plain: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a configuration; a range of a space is one value."""
    for key, value in plain.items():
        is_range = (
            prefix.startswith("space.")
            and isinstance(value, dict)
            and bool({"low", "choices"} & value.keys())
        )
        if isinstance(value, dict) and value and not is_range:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
