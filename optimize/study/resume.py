"""Resume a study by its name: its stored settings, and what was typed on top of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimize.agents.spec import AgentSpec
from optimize.database import DatabaseSpec, open_engine
from optimize.errors import BadInputError, OtherStudyError
from optimize.results.launches import typed_words
from optimize.results.records import StudyRecord, load_study
from optimize.study.handle import differing_settings, flat, going_on, refusal
from optimize.study.spec import MODEL_PHASE, TIMEFRAME_PHASE, StudySpec, from_plain, to_plain

# Phase 1 stores its own in place of those that phase 2 searches with.
OF_PHASE_TWO = ("n_trials", "space", "sampler", "pruner")
SPANS_OF_FILE = ("window.kind", "window.spans", "window.file")


@dataclass(frozen=True)
class StoredStudy:
    """What a database holds of a study: its latest record, and the words of its last launch."""

    record: StudyRecord
    words: list[str]

    @property
    def first_phase_only(self) -> bool:
        """Return whether the second phase has stored nothing yet."""
        return self.record.study_name.endswith(f".{TIMEFRAME_PHASE}")


def stored_study(database: DatabaseSpec, name: str) -> StoredStudy | None:
    """Return what a database holds of a study, None where it or the database does not exist yet."""
    try:
        engine = open_engine(database.url, read_only=True, busy_timeout_s=database.busy_timeout_s)
    except BadInputError:
        return None  # no database yet, or one that the launch itself refuses
    try:
        with engine.connect() as conn:
            if not engine.dialect.has_table(conn, "wf_studies"):
                return None
            for stored in (name, f"{name}.{MODEL_PHASE}", f"{name}.{TIMEFRAME_PHASE}"):
                if (record := load_study(conn, stored)) is not None:
                    return StoredStudy(record, typed_words(conn, name) or [])
    finally:
        engine.dispose()
    return None


def merge_words(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Return the words of the last launch and of this one, of which the later ones count."""
    again = {_key(word) for word in now}
    return [*(word for word in before if word in now or _key(word) not in again), *_new(before, now)]


def _new(before: Sequence[str], now: Sequence[str]) -> list[str]:
    return [word for word in now if word not in before]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def resume(stored: StoredStudy, spec: StudySpec, typed: Sequence[str]) -> StudySpec:
    """Return a study as it is stored, with the typed keys of `spec`; refuse those that may not change."""
    prefixes = {*typed, *(SPANS_OF_FILE if "window.file" in typed else ()), "database"}
    if stored.first_phase_only:
        prefixes |= set(OF_PHASE_TWO)
    before = dict(stored.record.spec) | {"name": spec.name}
    after = _overlaid(before, to_plain(spec), prefixes)
    if stored.first_phase_only:
        before |= {key: after[key] for key in OF_PHASE_TWO}
    lines = differing_settings(before, after)
    if _space(before) != _space(after):
        keys = sorted(key for key, _ in _space(before).items() ^ _space(after).items())
        lines += [f"{key}: another search space" for key in dict.fromkeys(keys)]
    if lines:
        raise OtherStudyError(refusal(spec.name, going_on(spec), lines))
    return dataclasses.replace(from_plain(StudySpec, after), database=spec.database)


def _space(plain: Mapping[str, Any]) -> dict[str, str]:
    return {key: repr(value) for key, value in flat({"space": plain.get("space", {})})}


def _overlaid(before: Mapping[str, Any], now: Mapping[str, Any], prefixes: set[str]) -> dict[str, Any]:
    """Return a nested plain spec with the values of another at the typed keys."""

    def overlay(old: Mapping[str, Any], new: Mapping[str, Any], above: str) -> dict[str, Any]:
        merged = dict(old)
        for key, value in new.items():
            path = f"{above}{key}"
            if _typed(_spelled(path), prefixes):
                merged[key] = value
            elif isinstance(value, Mapping) and isinstance(old.get(key, {}), Mapping):
                inner = overlay(old.get(key, {}), value, f"{path}.")
                if key in old or inner:
                    merged[key] = inner
        return merged

    return overlay(before, now, "")


def _typed(path: str, prefixes: set[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _spelled(path: str) -> str:
    """Return the path of a stored key as it is typed."""
    own = {f"agent.{field.name}" for field in dataclasses.fields(AgentSpec)}
    rest = path.removeprefix("agent.hyperparameters.")
    return f"agent.{rest}" if rest != path and f"agent.{rest}" not in own else path
