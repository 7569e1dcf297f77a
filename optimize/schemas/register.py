"""The schema of each verb in Hydra's ConfigStore, and the composed configuration as its frozen dataclass."""

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.fields import is_spec, open_field
from optimize.errors import BadInputError, WalkforgeError

ConfigT = TypeVar("ConfigT")
SCHEMAS: dict[str, str] = {  # module of this package and class; imported for the verb that is called
    "data": "studies:MarketConfig",
    "walk-forward": "studies:WalkForwardConfig",
    "probe": "studies:ProbeConfig",
    "study": "studies:RunStudyConfig",
    "worker": "studies:WorkerConfig",
    "status": "records:StatusConfig",
    "leaderboard": "records:LeaderboardConfig",
    "query": "records:QueryConfig",
    "explain": "records:ExplainConfig",
    "finalists": "studies:FinalistsConfig",
    "export": "records:ExportConfig",
    "prune": "records:PruneConfig",
    "delete": "records:DeleteConfig",
    "replay": "records:ReplayConfig",
    "evaluate": "studies:EvaluateConfig",
    "act": "studies:ActConfig",
    "report": "records:ReportConfig",
    "dashboard": "records:DashboardConfig",
    "doctor": "records:DoctorConfig",
}


def schema_of(verb: str) -> type:
    """Import and return the schema of a verb."""
    module, name = SCHEMAS[verb].split(":")
    schema: type = getattr(importlib.import_module(f"optimize.schemas.{module}"), name)
    return schema


@cache
def register_schema(verb: str) -> None:
    """Put the schema of a verb into Hydra's ConfigStore as `<verb>_schema`; register the resolver `pick`."""
    OmegaConf.register_new_resolver("pick", pick, replace=True)
    _store(verb, strict=True)


@contextmanager
def keys_of_extensions_allowed(verb: str) -> Iterator[None]:
    """Let the schema of a verb take any key where an extension may declare one, such as under feature."""
    _store(verb, strict=False)
    try:
        yield
    finally:
        _store(verb, strict=True)


def _store(verb: str, *, strict: bool) -> None:
    node = _writable(OmegaConf.structured(schema_of(verb)), strict)
    ConfigStore.instance().store(name=f"{verb}_schema", node=node)


def pick(choices: Mapping[str, Any], key: str, default: Any) -> Any:
    """Return the choice of a key, or the default: `${pick:{1d:60},${data.timeframe},12}` in a yaml."""
    return choices.get(key, default)


def _writable(config: Any, strict: bool) -> Any:
    """Lift the read-only flag that OmegaConf gives to frozen dataclasses, so that overrides apply."""
    config._set_flag("readonly", None)
    if (opened := _open_name(config)) is not None:
        config._set_flag("struct", False)
        del config[opened]  # its entries stand directly under the group
        config._set_flag("struct", None if strict else False)
    for node in _nodes(config):
        _writable(node, strict)
    return config


def _fold_open_keys(config: Any) -> None:
    """Move the keys that stand directly under an open spec into its field for them."""
    if (opened := _open_name(config)) is not None:
        kind: Any = OmegaConf.get_type(config)
        declared = {field.name for field in dataclasses.fields(kind)} - {opened}
        keys = [key for key in config if key not in declared]
        values = {key: plain_value(config[key]) for key in keys}
        config._set_flag("struct", False)
        for key in keys:
            del config[key]
        config[opened] = values
    for node in _nodes(config):
        _fold_open_keys(node)


def plain_value(value: Any) -> Any:
    """Return a value of a configuration without OmegaConf's containers, its references resolved."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _open_name(config: Any) -> str | None:
    """Return the name of the field for further keys, where the node has a spec with such a field."""
    kind = OmegaConf.get_type(config)
    opened = open_field(kind) if is_spec(kind) else None
    return None if opened is None else opened.name


def _nodes(config: Any) -> list[Any]:
    """Return the groups of keys below a node that have values."""
    nodes = [config._get_node(key) for key in config]
    return [node for node in nodes if OmegaConf.is_dict(node) and not _is_empty(node)]


def _is_empty(node: Any) -> bool:
    return bool(node._is_none() or node._is_missing() or node._is_interpolation())


def to_config(config: DictConfig, kind: type[ConfigT]) -> ConfigT:
    """Return the composed configuration as the plain frozen dataclass of its verb."""
    try:
        _fold_open_keys(config)
        plain = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        for inner in (error.__cause__, error.__context__):
            if isinstance(inner, WalkforgeError):  # of a resolver
                raise inner from None
        raise BadInputError(composition_message(error)) from error
    if not isinstance(plain, kind):
        raise TypeError(f"the primary yaml lacks its schema: composed {type(plain)}, not {kind}")
    return plain


def composition_message(error: BaseException) -> str:
    """Return the first line of an error of OmegaConf or Hydra, with the key that it names."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    keys = (line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:"))
    key = next(keys, None)
    return f"{key}: {lines[0]}" if key and key not in lines[0] else lines[0]
