"""Compose the configuration of a verb with Hydra, which reads settings here and runs nothing."""

import copy
import dataclasses
import itertools
import json
import os
import traceback as tracebacks
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from hydra import version
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from optimize.agents.hyperparameters import HYPERPARAMETERS
from optimize.cli.debug_run import own_timeframe
from optimize.cli.interpolations import check_interpolations, read_environment
from optimize.cli.schema_keys import booleans, is_whole, kinds_in, texts, type_of, whole_numbers
from optimize.cli.setting_checks import check_keys, check_lists, check_value, offers_files
from optimize.cli.text_values import as_typed, as_whole, swept_as_typed
from optimize.cli.yaml_files import (
    INSTANTIATED,
    SCHEME,
    SEARCHED,
    SettingsSource,
    conf_folder,
    of_hydra,
    register_source,
)
from optimize.errors import BadInputError
from optimize.results.launches import is_debug
from optimize.schemas.register import (
    keys_of_extensions_allowed,
    plain_value,
    register_schema,
    schema_of,
    to_config,
)

if TYPE_CHECKING:  # the verbs that read records load no engine
    from optimize.study.spec import StudySpec

SEARCH_PATH = "hydra.searchpath"
MODE = "hydra.mode"
OF_HYDRA = f"of Hydra's own settings only {SEARCH_PATH}=[FOLDER] and {MODE} may be set"
# Hydra's own groups of how it would run, log and print, whose files take a fifth of a composition to read.
UNUSED = [
    f"~hydra/{group}" for group in ("output", "help", "hydra_help", "hydra_logging", "job_logging", "env")
]
OPEN_GROUPS = ("feature", "agent", "space")  # under which an extension declares keys that the schema lacks
MOST_JOBS = 1000  # of one sweep


@dataclass(frozen=True)
class Job:
    """Arguments of one call of a verb; -m makes several."""

    config: Any
    typed: list[str]  # the words that lead to it


@dataclass(frozen=True)
class Tree:
    """A composed configuration before it becomes specs, and the chosen file of each group."""

    config: DictConfig
    choices: dict[str, Any]


def compose(verb: Literal["study", "walk-forward"], words: Sequence[str] = ()) -> "StudySpec":
    """Return the spec of `walkforge VERB WORDS`, checked as a whole; BadInputError for a wrong key or value.

    The words are those of the command line, without a shell's quotes: `["name=mine", "data.path=bars.csv"]`.
    """
    if verb not in ("study", "walk-forward"):
        raise BadInputError(f"compose({verb!r}) is not allowed: compose study or walk-forward")
    (job,) = compose_jobs(verb, list(words))
    from optimize.schemas.studies import to_spec
    from optimize.study.spec import StudySpec

    of_a_spec = {field.name for field in dataclasses.fields(StudySpec)}
    for field in dataclasses.fields(job.config):
        given = getattr(job.config, field.name)
        if field.name not in of_a_spec and given != field.default:
            raise BadInputError(
                f"compose({verb!r}): {field.name}={given} does not belong to a spec: leave it out, or run "
                f"`walkforge {verb}` with it"
            )
    return to_spec(job.config)


def compose_jobs(verb: str, words: Sequence[str], *, several: bool = False) -> list[Job]:
    """Return the checked configuration of a verb; with `several`, of each point of its sweep."""
    with composing(verb, words) as hydra:
        points = _points(verb, words, hydra) if several else [list(words)]
        return [Job(_config(verb, point, hydra), point) for point in points]


def _config(verb: str, words: Sequence[str], hydra: Hydra) -> Any:
    """Return the checked configuration of a verb; a debug run's is that of its source's own timeframe."""
    schema = schema_of(verb)
    try:
        tree = compose_tree(verb, words, hydra).config
        config: Any = to_config(copy.deepcopy(tree) if is_debug(words) else tree, schema)  # which changes it
    except (BadInputError, HydraException, OmegaConfBaseException):
        names = _stored_extensions(words, hydra) if verb == "study" else []
        if not names:
            raise
        words = [*words, f"extensions={json.dumps(names)}"]
        return dataclasses.replace(_config(verb, words, hydra), extensions=[])  # the stored study names them
    timeframe = own_timeframe(verb, config, words)
    if timeframe is not None:
        words = [f"data.timeframe={timeframe}", *words]
        OmegaConf.update(tree, "data.timeframe", timeframe)  # the months and phases of the file refer to it
        config = to_config(tree, schema)
    return _with_group_files(verb, config, words, hydra)


def _stored_extensions(words: Sequence[str], hydra: Hydra) -> list[str]:
    """Load and return the extensions of the stored study of a command that sets keys which they may declare.

    The study is found by the words without such keys.
    """
    from optimize.extensions import load_stored
    from optimize.study.resume import stored_study

    keys = [word.partition("=")[0].lstrip("+~") for word in words]
    kept = [word for word, key in zip(words, keys, strict=True) if key.partition(".")[0] not in OPEN_GROUPS]
    if len(kept) == len(words) or "extensions" in keys:
        return []
    config: Any = to_config(compose_tree("study", kept, hydra).config, schema_of("study"))
    stored = stored_study(config.database, config.name)
    names = [] if stored is None else stored.record.spec.get("extensions", [])
    load_stored(names, f"study {config.name!r}")
    return list(names)


def _with_group_files(verb: str, config: Any, words: Sequence[str], hydra: Hydra) -> Any:
    """Return a configuration whose space holds the keys of each file that it offers of a config group."""
    space = dict(getattr(config, "space", {}))
    groups = [path for path, leaf in space.items() if offers_files(path, leaf)]
    for group in groups:
        leaf = space[group] if isinstance(space[group], dict) else {"choices": space[group]}
        files = {*hydra.config_loader.get_group_options(group)}
        files |= {path.stem for folder in SEARCHED for path in (folder / group).glob("*.yaml")}
        others = [word for word in words if word.partition("=")[0].lstrip("+~") != group]
        options = {}
        for choice in leaf["choices"]:
            if choice not in files:
                raise BadInputError(f"space.{group} offers {choice!r}: choose of {', '.join(sorted(files))}")
            tree = compose_tree(verb, [*others, f"{group}={choice}"], hydra)
            options[choice] = plain_value(tree.config[group])
        space[group] = leaf | {"options": options}
    return dataclasses.replace(config, space=space) if groups else config


def compose_tree(verb: str, words: Sequence[str], hydra: Hydra) -> Tree:
    """Return the configuration of a verb as a tree, without Hydra's own part."""
    kept, places = [], []
    extended = any(word.lstrip("+").startswith("extensions=") for word in words)
    for word, override in zip(words, OverridesParser.create().parse_overrides(list(words)), strict=True):
        _check_word(verb, word, override)
        if override.key_or_group == SEARCH_PATH:
            places += [f"{SCHEME}://{_folder(place)}" for place in _listed(override)]
        elif override.key_or_group != MODE:
            kept.append(_as_hydra_takes_it(verb, word, override, extended))
    SEARCHED[:] = [Path(place.removeprefix(f"{SCHEME}://")) for place in places]
    if places:
        kept.append(f"{SEARCH_PATH}={json.dumps(places)}")
    config = _composed(verb, kept + UNUSED, hydra)
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    check_interpolations(config)
    tree = OmegaConf.to_container(config, resolve=False)
    check_keys(verb, tree)
    check_lists(verb, tree)
    return Tree(config, choices)


def _as_hydra_takes_it(verb: str, word: str, override: Override, extended: bool) -> str:
    """Return a word with text quoted, 1e2 as 100; ++ adds a key that the file of the agent lacks.

    With extensions any key of the agent is added: it is checked once the extensions are loaded.
    """
    key = override.key_or_group
    if key in texts(verb):
        return as_typed(word, override)
    group, _, name = key.partition(".")
    added = group == "agent" and type_of(verb, "agent") is not None
    added = added and (name in HYPERPARAMETERS or (extended and name.isidentifier()))
    kind = HYPERPARAMETERS[name].kind if added and name in HYPERPARAMETERS else type_of(verb, key)
    if is_whole(kinds_in(kind)):
        word = as_whole(word, override)
    return f"++{word}" if added and word.startswith(key) else word


def _composed(verb: str, words: list[str], hydra: Hydra) -> DictConfig:
    """Return Hydra's configuration; keys of extensions are allowed where it names extensions."""
    try:
        return hydra.compose_config(verb, words, RunMode.RUN, from_shell=False)
    except (HydraException, OmegaConfBaseException):
        names_extensions = any(word.lstrip("+").startswith("extensions=") for word in words)
        try:
            with keys_of_extensions_allowed(verb):
                config = hydra.compose_config(verb, words, RunMode.RUN, from_shell=False)
        except (HydraException, OmegaConfBaseException):
            if names_extensions:  # the first error may be of a key that an extension declares
                raise
        else:
            if config.get("extensions"):
                return config
        raise


@contextmanager
def composing(verb: str, words: Sequence[str]) -> Iterator[Hydra]:
    """Yield Hydra, ready to compose; its errors become one line."""
    register_schema(verb)
    register_source()
    SettingsSource.booleans, SettingsSource.texts = booleans(verb), texts(verb)
    SettingsSource.whole_numbers = whole_numbers(verb)
    version.setbase("1.3")
    OmegaConf.register_new_resolver("oc.env", read_environment, replace=True)
    try:
        yield _make_hydra()
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        from optimize.cli.hydra_errors import translate_refusal

        raise BadInputError(translate_refusal(verb, error, words)) from error
    except RecursionError as error:
        raise BadInputError("a value is nested too deeply: put fewer brackets around it") from error
    except (TypeError, AttributeError, KeyError, IndexError, AssertionError) as error:
        if "hydra" not in tracebacks.extract_tb(error.__traceback__)[-1].filename:
            raise
        raise BadInputError(f"these settings do not go together: {' '.join(words)}") from error
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
        GlobalHydra.instance().clear()


def _make_hydra() -> Hydra:
    """Return Hydra over our files, without the search paths that plugins would add."""
    search_path = ConfigSearchPathImpl()
    search_path.append("hydra", "pkg://hydra.conf")
    search_path.append("main", f"{SCHEME}://{conf_folder()}")
    search_path.append("schema", "structured://")
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2("walkforge", search_path)


def _check_word(verb: str, word: str, override: Override) -> None:
    """Refuse a word that would set Hydra's own configuration, or name an object to create."""
    key = override.key_or_group
    if not key:
        raise BadInputError(f"cannot read {word!r}: a key is missing before the =")
    if not override.is_sweep_override() and not override.is_delete() and override.package is None:
        check_value(verb, key, override.value(), word.partition("=")[2], added=override.is_add())
    if of_hydra(key) or of_hydra(override.package or ""):
        allowed = key in (SEARCH_PATH, MODE) and not override.is_delete() and override.package is None
        if not allowed:
            raise BadInputError(f"{word.partition('=')[0]} is not allowed: {OF_HYDRA}")
        if key == MODE and str(override.value()).upper() not in ("RUN", "MULTIRUN"):
            raise BadInputError(f"{word} is not allowed: {MODE} must be RUN or MULTIRUN")
    if any(name in word for name in INSTANTIATED):
        raise BadInputError(f"{word}: settings are values and create no objects")


def _listed(override: Override) -> list[str]:
    """Return the folders of a search path."""
    value = override.value()
    if not isinstance(value, list) or not all(isinstance(place, str) for place in value):
        raise BadInputError(f"{SEARCH_PATH} must be a list of folders, such as {SEARCH_PATH}=[my_conf]")
    return [place for place in value if isinstance(place, str)]


def _folder(place: str) -> str:
    """Return the absolute path of a folder of YAML files."""
    path = place.removeprefix("file://")
    if "://" in path:
        raise BadInputError(
            f"{SEARCH_PATH}: {place} is not a folder: only folders of YAML files may be named"
        )
    if not os.path.isdir(path):
        raise BadInputError(f"{SEARCH_PATH}: there is no folder {path}")
    return os.path.abspath(path)


def _points(verb: str, words: Sequence[str], hydra: Hydra) -> list[list[str]]:
    """Return the words of every job of a sweep; `a=1,2 b=3,4` are four."""
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(words))
    axes: list[list[str]] = []
    for word, override in zip(words, parsed, strict=True):
        if not override.is_sweep_override():
            axes.append([word])
        elif override.is_discrete_sweep() and override.key_or_group in texts(verb):
            axes.append(swept_as_typed(word, override)[: MOST_JOBS + 1])
        elif override.is_discrete_sweep():
            values = itertools.islice(override.sweep_string_iterator(), MOST_JOBS + 1)
            axes.append([f"{override.get_key_element()}={value}" for value in values])
        else:
            raise BadInputError(f"{word}: a sweep needs a list, such as key=1,2, or range(1,4)")
    points = [list(point) for point in itertools.islice(itertools.product(*axes), MOST_JOBS + 1)]
    if len(points) > MOST_JOBS:
        raise BadInputError(f"a sweep of more than {MOST_JOBS:,} jobs: sweep over fewer values")
    return points
