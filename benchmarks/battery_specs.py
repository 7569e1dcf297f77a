"""Configurations of the battery on its markets, and the identity of their settings in the raw results."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from benchmarks.battery_markets import BARS, KINDS, Place, words_of, write_bars
from benchmarks.battery_rows import SCRATCH, keep_row, read_rows
from envs.plain import to_plain
from optimize import compose
from optimize.hashing import hash_object
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import WindowedMarket, build_windowed_market

Verb = Literal["walk-forward", "study"]
# Groups of settings that differ between configurations; costs and data are the same for all.
GROUPS: dict[Verb, tuple[str, ...]] = {
    "walk-forward": ("feature", "env", "reward", "agent", "train", "window")
}
GROUPS["study"] = (*GROUPS["walk-forward"], "score", "space", "sampler", "pruner")


@lru_cache(maxsize=8)
def placed(words: tuple[str, ...], place: Place, bars: int) -> tuple[StudySpec, WindowedMarket]:
    """Return the configuration on a market, and the market with its windows."""
    spec = compose("walk-forward", words_at(words, place, bars))
    return spec, build_windowed_market(spec, SCRATCH / "markets")


def words_at(words: Sequence[str], place: Place, bars: int) -> list[str]:
    """Return the words of a command on a market, whose own columns join the inputs that the words choose."""
    path = write_bars(place, place.planted(bars), SCRATCH / "bars", str(bars))
    words, extension = [*words_of(place, path), f"name={place.kind}", *words], KINDS[place.kind].extension
    if extension is None:
        return words
    inputs = compose("walk-forward", words).feature.indicators
    joined = ",".join([*inputs, extension.stem.removeprefix("battery_")])
    return [*words, f"extensions=[{extension}]", f"feature.indicators=[{joined}]"]


def settings_of(verb: Verb, words: Sequence[str]) -> dict[str, Any]:
    """Return every setting of a command by its key, on a market that adds no column."""
    plain = to_plain(compose(verb, words_at(words, Place("noise", 0, 0), BARS)))
    return dict(flat({name: plain[name] for name in GROUPS[verb]}))


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested settings with their keys."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def settings_id(now: Mapping[str, Any], raw: Path) -> str:
    """Return the id of settings in the raw results: that of stored ones which are all as they are now.

    A key that is newer than the stored settings does not count, as it is off by default, unless it is
    searched; a default that has changed since makes other settings.
    """
    for row in read_rows(raw):
        if (stored := row.get("settings")) is not None and alike(stored, now):
            return str(row["settings_id"])
    found = hash_object(now)[:12]
    keep_row(raw, {"settings_id": found, "settings": dict(now)})
    return found


def alike(stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether stored settings are all as they are now, and nothing more is searched."""
    searched = {key for key in now if key.startswith("space.")}
    same = all(now.get(key) == value for key, value in stored.items())
    return same and searched == {key for key in stored if key.startswith("space.")}
