"""YAML files of a configuration: bounded, plain settings alone, and errors that name file and line."""

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from envs.plain import read
from optimize.cli.comments import LOADER, SHARED
from optimize.cli.text_values import restore_texts
from optimize.errors import BadInputError
from optimize.inputs import MB, read_file

SCHEME = "settings"  # of the folders of YAML files that Hydra composes
SEARCHED: list[Path] = []  # the folders of YAML files that the command being composed names
MOST_NODES, MOST_DEPTH = 20_000, 30  # of one file, aliases written out
INSTANTIATED = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")
RENAMED = {"notify.on": "notify.events"}  # keys of earlier versions, which are still read
HYDRA_REFUSED = "a file of settings may set nothing of Hydra's own: remove it"


def _settings_loader() -> Any:
    """Return the loader of OmegaConf.load, on the parser in C where there is one, which is ten times as fast.

    It reads 1e-4 as a number and a date as text, and refuses a key that stands twice.
    """
    rules = get_yaml_loader()
    return rules if LOADER is yaml.SafeLoader else type("SettingsLoader", (LOADER, rules), {})


SETTINGS_LOADER: Any = _settings_loader()


class SettingsSource(ConfigSource):
    """A folder of YAML files whose settings cannot run code."""

    booleans: frozenset[str] = frozenset()  # the keys of the verb that are true or false
    texts: frozenset[str] = frozenset()  # its keys that are text, or lists of text
    whole_numbers: frozenset[str] = frozenset()

    @staticmethod
    def scheme() -> str:
        """Return how a search path of such a folder begins."""
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """Return one checked file."""
        path = self._file(config_path)
        if not path.is_file():
            raise ConfigLoadError(f"Config not found : {path}")
        text, header, content = read_settings(path)
        package = header.get("package") or os.path.dirname(config_path)
        above = "" if package == "_global_" else package.replace("/", ".")
        _check_booleans(content, above, self.booleans, path)
        try:
            content = yaml.load(text, Loader=SETTINGS_LOADER) or {}
        except yaml.MarkedYAMLError as error:  # a key that stands twice
            raise BadInputError(f"{path_from_here(path)}{_line(error)}: {_problem(error, text)}") from None
        config = OmegaConf.create(_with_whole_numbers(content, above, self.whole_numbers))
        if OmegaConf.is_dict(config):
            _rename(config, above)
        restore_texts(config, text, above, self.texts, LOADER)
        place = f"{SCHEME}://{self.path}"
        return ConfigResult(config=config, path=place, provider=self.provider, header=header)

    def is_group(self, config_path: str) -> bool:
        """Return whether a folder of this name exists."""
        return os.path.isdir(os.path.join(self.path, config_path))

    def is_config(self, config_path: str) -> bool:
        """Return whether a file of this name exists."""
        return self._file(config_path).is_file()

    def available(self) -> bool:
        """Return whether the folder exists."""
        return os.path.isdir(self.path)

    def list(self, config_path: str, results_filter: Any) -> list[str]:
        """Return the names in a group."""
        files: list[str] = []
        for name in sorted(os.listdir(os.path.join(self.path, config_path))):
            self._list_add_result(files, os.path.join(config_path, name), name, results_filter)
        return sorted({name for name in files if not name.startswith(SHARED)})

    def _file(self, config_path: str) -> Path:
        return Path(self.path) / self._normalize_file_name(config_path)


def conf_folder() -> Path:
    """Return the folder of the YAML files that come with the package."""
    return Path(str(resources.files("optimize.conf")))


def register_source() -> None:
    """Let Hydra compose folders of checked files."""
    Plugins.instance().register(SettingsSource)


def read_settings(path: Path) -> tuple[str, dict[str, str | None], dict[Any, Any]]:
    """Return text, header and content of a file; BadInputError unless it is bounded and plain settings."""
    where = path_from_here(path)
    text = read_file(path, "the configuration", MB)
    try:
        _check_size(text, where)
        content = yaml.load(text, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        raise BadInputError(f"{where}{_line(error)}: {_problem(error, text)}") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: a date or number that is none
        raise BadInputError(f"{where}: {' '.join(str(error).split())}") from None
    if content is not None and not isinstance(content, dict):
        raise BadInputError(f"{where} holds no settings: write one `key: value` a line")
    header = ConfigSource._get_header_dict(text[:512])
    if of_hydra(header.get("package") or ""):
        raise BadInputError(f"{where}, line 1: its package is Hydra's own: write `# @package _global_`")
    _check_content(content or {}, where)
    return text, header, content or {}


def line_of(path: Path, key: str) -> int | None:
    """Return the line on which a dotted key of a file stands, or the closest of its parents."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (OSError, yaml.YAMLError):
        return None
    line = None
    for part in key.split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((name, value) for name, value in pairs if name.value == part), None)
        if found is None:
            return line
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def path_from_here(path: Path) -> str:
    """Return a path as it is read best: from the directory of invocation where it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _check_size(text: str, where: str) -> None:
    """Refuse nesting and aliases that would fill the memory, before anything is built of them."""
    sizes: list[int] = [0]  # of the collections that are open
    names: list[str | None] = [None]
    anchors: dict[str, int] = {}
    for event in yaml.parse(text, Loader=LOADER):
        line = f"{where}, line {event.start_mark.line + 1}"
        if str(getattr(event, "tag", None) or "").startswith("tag:yaml.org,2002:python"):
            raise BadInputError(f"{line}: the tag {event.tag} is not allowed: write plain values")
        if isinstance(event, yaml.CollectionStartEvent):
            sizes.append(1)
            names.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            size, name = sizes.pop(), names.pop()
            sizes[-1] += size
            if name is not None:
                anchors[name] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in names:
                raise BadInputError(f"{line}: *{event.anchor} contains itself: write its values out")
            sizes[-1] += anchors.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            sizes[-1] += 1
            if event.anchor is not None:
                anchors[event.anchor] = 1
        if len(sizes) > MOST_DEPTH:
            raise BadInputError(f"{line}: nested deeper than {MOST_DEPTH} levels, which no setting needs")
        if sum(sizes) > MOST_NODES:
            raise BadInputError(f"{line}: more than {MOST_NODES:,} values, aliases written out: shorten it")


def _check_content(content: dict[Any, Any], where: str) -> None:
    for key in content:
        if of_hydra(str(key)):
            raise BadInputError(f"{where}: {key}: {HYDRA_REFUSED}")
    for word in _words(content.get("defaults")):
        name = word.removeprefix("optional ").removeprefix("override ").strip().lstrip("/")
        if of_hydra(name) or of_hydra(name.partition("@")[2]):
            raise BadInputError(f"{where}: defaults: {word}: {HYDRA_REFUSED}")
    for key in _keys(content):
        if key in INSTANTIATED:
            raise BadInputError(f"{where}: {key}: settings are values and create no objects: remove it")


def _rename(config: Any, above: str) -> None:
    """Read a key of an earlier version under its name of today."""
    for old, new in RENAMED.items():
        group, _, name = old.rpartition(".")
        part: Any = config if above == group else None if above else config.get(group)
        if OmegaConf.is_dict(part) and name in part:
            part[new.rpartition(".")[2]] = part.pop(name)


def _check_booleans(content: Any, above: str, booleans: frozenset[str], path: Path) -> None:
    """Refuse a number or a word where a key is true or false: Hydra would take 2 as true."""
    for key, value in content.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, dict):
            _check_booleans(value, name, booleans, path)
        elif name in booleans and not isinstance(value, (bool, type(None))) and "${" not in str(value):
            line = line_of(path, name) or line_of(path, str(key))
            place = path_from_here(path) if line is None else f"{path_from_here(path)}, line {line}"
            raise BadInputError(f"{place}: {name}={value!r} is not allowed: {name} must be true or false")


def _with_whole_numbers(content: dict[Any, Any], above: str, keys: frozenset[str]) -> dict[Any, Any]:
    """Return the settings of a file with 1e2 as 100 where the key is a whole number."""
    numbered = {}
    for key, value in content.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, dict):
            numbered[key] = _with_whole_numbers(value, name, keys)
        else:
            numbered[key] = read(value, int) if name in keys else value
    return numbered


def _words(defaults: Any) -> Iterator[str]:
    for entry in defaults if isinstance(defaults, list) else []:
        yield from map(str, entry) if isinstance(entry, dict) else [str(entry)]


def _keys(content: Any) -> Iterator[Any]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _keys(value)
    elif isinstance(content, list):
        for value in content:
            yield from _keys(value)


def of_hydra(name: str) -> bool:
    """Return whether a key, group or package is of Hydra's own configuration."""
    return name == "hydra" or name.startswith(("hydra.", "hydra/", "hydra@"))


def _line(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return "" if mark is None else f", line {mark.line + 1}"


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in str(error.problem):
        return "a tab: indent with spaces"
    said = str(error.problem or error.context)
    return f"{said}; in {line.strip()[:60]!r}" if line.strip() else said
