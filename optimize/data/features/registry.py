"""Registry of features: columns, function, required data, warm-up and description of each."""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from envs.fields import MARKET, Declared, Setting
from envs.plain import read, widened
from envs.types import FloatArray, IntArray
from optimize.data.features.spec import CUSTOM, FEATURE_KEYS, GROUPS, FeatureSpec
from optimize.data.timeframes import TIMEFRAME_PATTERN
from optimize.errors import BadInputError, nearest, require
from optimize.extensions import extendable
from optimize.hashing import hash_object
from optimize.source_code import DIGITS, file_digest

KeyValue = bool | int | float | str  # of a key that a feature declares
DataNeed = Literal["volume", "spread", "closing_time", "intraday"]
FeatureKind = Literal["numeric", "level", "category", "binned"]
UNDOCUMENTED = "No description: its function has no docstring"
PCT = "{pct}"  # placeholder in a column name; the column is repeated for each value of feature.zigzag_pct


@dataclass(frozen=True, slots=True, eq=False)
class AssetBars:
    """Bars of one asset, the session in which each bar ends, and the reversal sizes of the ZigZag."""

    bar_end: IntArray  # (T,) UTC nanoseconds
    session_date: NDArray[np.datetime64]  # (T,) datetime64[D]
    session_close: IntArray  # (T,) UTC nanoseconds
    open: FloatArray  # (T,)
    high: FloatArray  # (T,)
    low: FloatArray  # (T,)
    close: FloatArray  # (T,)
    volume: FloatArray  # (T,)
    spread: FloatArray  # (T,) in units of the price
    zigzag_pct: tuple[float, ...]  # (P,) reversal in percent that confirms a pivot
    keys: Mapping[str, Any] = field(default_factory=dict)  # values of the keys that features declare


ComputeFeature = Callable[[AssetBars], list[FloatArray]]


@dataclass(frozen=True)
class Feature:
    """A registered feature: its columns, the function that computes them, and its warm-up."""

    columns: tuple[str, ...]
    warmup: int  # bars before the first usable value
    compute: ComputeFeature
    needs: tuple[DataNeed, ...]  # properties that the data must have
    kind: (
        FeatureKind  # numeric and level are standardised, category is left as it is, binned becomes -1, 0, 1
    )
    clock: bool  # whether it depends on the time only, and so is equal on every timeframe
    keys: tuple[str, ...] = ()  # settings of its own under `feature`
    reads: tuple[str, ...] = ()  # those of FeatureSpec that few features read
    warmup_of: Callable[[Mapping[str, Any]], int] | None = None  # where the warm-up depends on them
    group: str = CUSTOM  # one of GROUPS, by which feature.groups chooses its columns


FEATURES: dict[str, Feature] = extendable({})


def feature(
    name: str,
    *columns: str,
    warmup: int | Callable[[Mapping[str, Any]], int],
    group: str = CUSTOM,
    needs: tuple[DataNeed, ...] = (),
    kind: FeatureKind = "numeric",
    clock: bool = False,
    keys: Mapping[str, Declared] | None = None,
    reads: tuple[str, ...] = (),
) -> Callable[[ComputeFeature], ComputeFeature]:
    """Register a function that returns one array (T,) per column; {pct} columns come once per percentage.

    `keys` are settings of its own, `feature.KEY`, which the function reads as `bars.keys["KEY"]`; the warm-up
    may be a function of them. `reads` names keys of FeatureSpec that this feature reads and others do not.
    `group` is the group of its columns for feature.groups.
    """
    require(group in GROUPS, f"group of {name}", group, f"one of {', '.join(GROUPS)}", GROUPS)
    own = dict(keys or {})
    own_fields = {part.name for part in fields(FeatureSpec)}

    def register(compute: ComputeFeature) -> ComputeFeature:
        for key in own:
            require(key.isidentifier() and key not in own_fields, f"feature.{key}", key, "a name of its own")
            _refuse_twice(name, key, own[key], compute.__module__)
        defaults = {key: declared.default for key, declared in own.items()}
        bars, of = (warmup(defaults), warmup) if callable(warmup) else (warmup, None)
        named = columns or (name,)
        FEATURES[name] = Feature(named, bars, compute, needs, kind, clock, tuple(own), reads, of, group)
        FEATURE_KEYS.update(own)
        return compute

    return register


def _refuse_twice(name: str, key: str, declared: Declared, module: str) -> None:
    """Refuse a key that another feature of the same file declares differently."""
    for other, known in FEATURES.items():
        beside = other != name and key in known.keys and known.compute.__module__ == module
        if beside and FEATURE_KEYS.get(key) != declared:
            raise BadInputError(
                f"feature.{key} is declared by {other} and, differently, by {name}: give it another name in "
                "one of them"
            )


def declared_by(key: str) -> list[Feature]:
    """Return the features that declare a key of their own."""
    return [known for known in FEATURES.values() if key in known.keys]


@dataclass(frozen=True, slots=True)
class FeatureDescription:
    """One registered feature in plain words, for help texts and the reference page."""

    name: str  # as written in feature.indicators
    meaning: str  # first sentence of the function's docstring
    columns: tuple[str, ...]
    warmup: int  # bars before the first usable value
    reads_volume: bool
    group: str  # by which feature.groups chooses its columns


def list_features() -> list[FeatureDescription]:
    """Return a description of every registered feature, in alphabetical order."""
    return [
        FeatureDescription(
            name, _meaning(one.compute), one.columns, one.warmup, "volume" in one.needs, one.group
        )
        for name, one in sorted(FEATURES.items())
    ]


def _meaning(compute: ComputeFeature) -> str:
    """Return the first sentence of a docstring without "Return" and the full stop."""
    first = re.split(r"\.(?=\s|$)", inspect.cleandoc(compute.__doc__ or ""), maxsplit=1)[0]
    sentence = " ".join(first.split()).removeprefix("Return ")
    return sentence[:1].upper() + sentence[1:] if sentence else UNDOCUMENTED


def feature_key(
    default: KeyValue,
    meaning: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[KeyValue, ...] = (),
) -> Declared:
    """Declare a setting of a feature, for `keys` of its decorator."""
    declared = Setting(MARKET, meaning, unit, low=low, high=high, choices=choices)
    return Declared(type(default), default, declared)


def check_feature_keys(spec: FeatureSpec) -> None:
    """Refuse a key that no feature declares, and a value that its declaration does not allow."""
    for key, value in spec.parameters.items():
        if key not in FEATURE_KEYS:
            known = sorted({*FEATURE_KEYS, *(part.name for part in fields(FeatureSpec))} - {"parameters"})
            near = nearest(key, known)
            hint = f"did you mean feature.{near[0]}?" if near else f"known are {', '.join(known)}"
            raise BadInputError(f"feature.{key} is not a key, and no loaded feature declares it; {hint}")
        declared = FEATURE_KEYS[key]
        fits = type(value) is declared.kind or (declared.kind is float and type(value) is int)
        require(fits, f"feature.{key}", value, f"of type {declared.kind.__name__}")
        setting = declared.setting
        require(setting.holds(value), f"feature.{key}", value, setting.range, setting.choices)


def read_feature_keys(spec: FeatureSpec) -> FeatureSpec:
    """Return the features with the keys of extensions in their declared types: 1 and 1e-4 as floats."""
    values = dict(spec.parameters)
    for key, value in values.items():
        kind = FEATURE_KEYS[key].kind if key in FEATURE_KEYS else type(value)
        values[key] = widened(read(value, kind), kind)
    found = replace(spec, parameters=values)
    check_feature_keys(found)
    return found


def keys_in_use(spec: FeatureSpec) -> dict[str, Any]:
    """Return the values of the keys that the chosen features declare."""
    chosen = (FEATURES[name].keys for name in spec.indicators if name in FEATURES)
    return {key: spec.value_of(key) for keys in chosen for key in keys}


def keys_read_by(names: Iterable[str]) -> set[str]:
    """Return the keys that these features read and not every feature does; unknown names are ignored."""
    return {
        key for name in names if name in FEATURES for key in (*FEATURES[name].keys, *FEATURES[name].reads)
    }


def warmup_of(name: str, spec: FeatureSpec) -> int:
    """Return the rows of a feature before the first that may be used."""
    found = FEATURES[name]
    return found.warmup if found.warmup_of is None else found.warmup_of(keys_in_use(spec))


def columns_of(name: str, zigzag_pct: Sequence[float]) -> tuple[str, ...]:
    """Return the names of a feature's columns, in order."""
    columns = FEATURES[name].columns
    if PCT not in columns[0]:
        return columns
    return tuple(column.replace(PCT, f"{pct:g}") for pct in zigzag_pct for column in columns)


def reads_volume(names: Iterable[str]) -> bool:
    """Return whether any of the features needs volume; unknown names are ignored."""
    return any("volume" in FEATURES[name].needs for name in names if name in FEATURES)


def foreign_code(names: Iterable[str]) -> dict[str, str]:
    """Return the digest of each file outside Walkforge that defines one of these features.

    A function without a file, such as one of a notebook, is represented by a digest of its byte code.
    """
    found = {}
    for name in names:
        compute = FEATURES[name].compute if name in FEATURES else None
        home = getattr(compute, "__module__", "") or ""
        if compute is None or home.startswith("optimize."):
            continue
        path = Path(getattr(sys.modules.get(home), "__file__", None) or "")
        if path.is_file():
            found[path.name.replace(" ", "_")] = file_digest(path)
        else:
            code = getattr(compute, "__code__", None)
            found[name] = hash_object(code.co_code.hex() + repr(code.co_names) if code else name)[:DIGITS]
    return found


def kind_of(column: str) -> FeatureKind:
    """Return the kind of a column, also of a higher timeframe; an unregistered column is numeric."""
    stem, _, timeframe = column.rpartition("_")
    base = stem if TIMEFRAME_PATTERN.fullmatch(timeframe) else column
    kinds = {name: feature.kind for feature in FEATURES.values() for name in feature.columns}
    return kinds.get(base, "numeric")
