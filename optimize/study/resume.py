"""Resume a study by its name, with its stored settings and the typed changes."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.plain import flat_keys, from_plain, to_plain
from optimize.database import DatabaseSpec, has_table, open_engine
from optimize.errors import BadInputError, OtherStudyError
from optimize.results.launches import typed_words
from optimize.results.records import StudyRecord, load_study
from optimize.results.tables import STUDIES
from optimize.search.parse import parse_space
from optimize.search.spec import LOOKBACK, MODEL_PHASE, TIMEFRAME, TIMEFRAME_PHASE, model_space
from optimize.study.context import differing_settings, flat, resume_command, resume_refusal, wider_study_line
from optimize.study.spec import StudySpec

# Phase 1 stores values of its own for these keys of phase 2.
OF_PHASE_TWO = ("n_trials", "space", "sampler", "pruner", "search")
SPANS_OF_FILE = ("window.kind", "window.spans", "window.file")


@dataclass(frozen=True)
class StoredStudy:
    """The latest record of a study in its database, and the command-line words of its last launch."""

    record: StudyRecord
    words: list[str]

    @property
    def first_phase_only(self) -> bool:
        """Return whether only phase 1 is stored."""
        return self.record.study_name.endswith(f".{TIMEFRAME_PHASE}")

    @property
    def second_phase(self) -> bool:
        """Return whether phase 2 is stored, whose space holds the lists that phase 1 kept."""
        return self.record.study_name.endswith(f".{MODEL_PHASE}")


def stored_study(database: DatabaseSpec, name: str) -> StoredStudy | None:
    """Return the stored study, None if the study or the database does not exist yet."""
    try:
        engine = open_engine(database.url, read_only=True, busy_timeout_s=database.busy_timeout_s)
    except BadInputError:
        return None  # no database yet, or one that the launch refuses later
    try:
        with engine.connect() as conn:
            if not has_table(conn, STUDIES.name):
                return None
            for stored in (name, f"{name}.{MODEL_PHASE}", f"{name}.{TIMEFRAME_PHASE}"):
                if (record := load_study(conn, stored)) is not None:
                    return StoredStudy(record, typed_words(conn, name) or [])
    finally:
        engine.dispose()
    return None


def merge_words(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Return the command-line words of the last launch and of this one; later words take precedence."""
    again = {_key(word) for word in now}
    return [*(word for word in before if word in now or _key(word) not in again), *_new(before, now)]


def _new(before: Sequence[str], now: Sequence[str]) -> list[str]:
    return [word for word in now if word not in before]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def resumed_spec(stored: StoredStudy, spec: StudySpec, typed: Sequence[str]) -> StudySpec:
    """Return the stored study with the typed keys of `spec`; refuse changes of fixed keys."""
    prefixes = {*typed, *(SPANS_OF_FILE if "window.file" in typed else ()), "database"}
    if stored.first_phase_only:
        prefixes |= set(OF_PHASE_TWO)
    before = flat_keys(StudySpec, stored.record.spec) | {"name": spec.name}
    after = _overlaid(before, to_plain(spec), prefixes)
    if stored.first_phase_only:
        before |= {key: after[key] for key in OF_PHASE_TWO}
    if stored.second_phase:  # phase 1 gave its lists, whatever the words of the launch list
        domains = {each.path: each.domain for each in parse_space(before["space"]).parameters}
        kept = (getattr(domains[path], "values", ()) for path in (TIMEFRAME, LOOKBACK))
        after["space"] = model_space(after["space"], *kept)
    lines = differing_settings(before, after)
    if _space(before) != _space(after):
        keys = sorted(key for key, _ in _space(before).items() ^ _space(after).items())
        lines += [f"{key}: another search space" for key in dict.fromkeys(keys)]
        lines.append(wider_study_line(spec.name))
    if lines:
        raise OtherStudyError(resume_refusal(spec.name, resume_command(spec), lines))
    found = from_plain(StudySpec, after)
    notify = dataclasses.replace(found.notify, urls=spec.notify.urls)  # which are not stored
    return dataclasses.replace(found, database=spec.database, notify=notify)


def _space(plain: Mapping[str, Any]) -> dict[str, str]:
    return {key: repr(value) for key, value in flat({"space": plain.get("space", {})})}


def _overlaid(before: Mapping[str, Any], now: Mapping[str, Any], prefixes: set[str]) -> dict[str, Any]:
    """Return a nested mapping with the values of another one at the typed keys."""

    def overlay(old: Mapping[str, Any], new: Mapping[str, Any], above: str) -> dict[str, Any]:
        merged = dict(old)
        for key, value in new.items():
            path = f"{above}{key}"
            if _typed(path, prefixes):
                merged[key] = value
            elif isinstance(value, Mapping) and isinstance(old.get(key, {}), Mapping):
                inner = overlay(old.get(key, {}), value, f"{path}.")
                if key in old or inner:
                    merged[key] = inner
        return merged

    return overlay(before, now, "")


def _typed(path: str, prefixes: set[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)
