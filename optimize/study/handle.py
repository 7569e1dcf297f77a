"""An open study: its spec, its space, Optuna's side of it and ours."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine

from optimize.data.spec import BEFORE_KEYS
from optimize.database import local_folder, open_engine, server_time, study_lock
from optimize.database.address import in_words
from optimize.errors import BadInputError, OtherStudyError
from optimize.hashing import hash_object
from optimize.results.leases import pull_back, refuse_other_hosts
from optimize.results.orphans import rename_back, renamed_studies
from optimize.results.queries import refuse_renamed
from optimize.results.records import (
    EventRecord,
    StudyRecord,
    follow_launch,
    forget_study,
    load_cap,
    load_study,
    log_event,
    save_study,
)
from optimize.results.runs import fill_parameter_sets
from optimize.results.tables import create_tables
from optimize.results.views import create_views, refuse_foreign
from optimize.search.proposals import Proposals
from optimize.search.pruners import make_pruner
from optimize.search.samplers import make_sampler
from optimize.search.space import Choices, SearchSpace, parse_space, space_hash
from optimize.search.storage import load_or_create_study, open_storage
from optimize.study.spec import INDICATORS, StudySpec, WorkerSpec, to_plain
from optimize.study.trial import Ground
from optimize.study.versions import CODE, COMMIT, code_differences, differences, source, versions

# What may change between two launches of one study: how fast it runs and how far, never what is measured, nor
# what a trial may learn from, which is the mode of its workers.
WORKER_MODE = {"mode", "batch_size"}
CHANGEABLE = {
    "n_trials", "max_failures", "max_consecutive_failures", "max_alike_failures", "keep_models", "preflight",
    "database", "phase", "extensions",
    "data.path", "data.folder", "data.refresh", "data.check",
    "data.max_age", "data.max_gap_days", "data.severity",
    *(f"worker.{part.name}" for part in dataclasses.fields(WorkerSpec) if part.name not in WORKER_MODE),
}  # fmt: skip
MARKET_CACHE = "market"
LAST_DIGITS = (
    "new trials may differ from the old in their last digits, and each keeps the versions it ran with"
)


@dataclass(frozen=True, eq=False)
class Handle:
    """A study that trials can be asked of and told to."""

    spec: StudySpec
    space: SearchSpace
    study: optuna.Study
    storage: RDBStorage
    engine: Engine
    proposals: Proposals

    def close(self) -> None:
        """End every connection to the database."""
        self.engine.dispose()
        self.storage.engine.dispose()

    @property
    def cache_dir(self) -> Path:
        """Return the folder of the memory-mapped markets, beside the database."""
        return cache_dir(self.spec)


def cache_dir(spec: StudySpec) -> Path:
    """Return the folder of the memory-mapped markets, beside the study's database."""
    return local_folder(spec.database.url) / MARKET_CACHE


def open_study(spec: StudySpec) -> Handle:
    """Open the study called spec.name, with its tables and views created where they are missing."""
    url = spec.database.url
    space = parse_space(spec.space)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with study_lock(url, spec.name), ExitStack() as refused:  # closes what a refusal leaves behind
        engine = open_engine(url, busy_timeout_s=spec.database.busy_timeout_s)
        refused.callback(engine.dispose)
        refuse_foreign(engine)
        create_tables(engine)
        with engine.begin() as conn:
            pull_back(conn, now := server_time(conn))
            refuse_other_hosts(conn, now)
        with engine.begin() as conn:
            fill_parameter_sets(conn, spec.name)
        storage = open_storage(url, spec.database.busy_timeout_s)
        refused.callback(storage.engine.dispose)
        if spec.name not in optuna.get_all_study_names(storage):
            with engine.begin() as conn:
                _find_records(conn, spec.name)
        with engine.connect() as conn:
            refuse_renamed(conn, spec.name)
        make = partial(make_sampler, spec.sampler, spec.seed, space)
        pruner = make_pruner(spec.pruner, spec.seed)
        study = load_or_create_study(storage, spec.name, sampler=make(), pruner=pruner)
        create_views(engine)
        refused.pop_all()
    return Handle(spec, space, study, storage, engine, Proposals(space, make))


def indicators_of(spec: StudySpec) -> list[str]:
    """Return the indicators that trials of a study can have."""
    leaf = parse_space(spec.space).parameters
    chosen = [p.domain.values for p in leaf if p.path == INDICATORS and isinstance(p.domain, Choices)]
    lists: list[Any] = [value for values in chosen for value in values]
    return sorted({name for names in (spec.feature.indicators, *lists) for name in names})


def _find_records(conn: Connection, name: str) -> None:
    """Find the trials of a study that Optuna does not hold by this name, or set its records aside.

    Records of a study that was deleted would attach to the trials of a new one.
    """
    present = renamed_studies(conn).get(name)
    if present is None:
        forget_study(conn, name)
    else:
        rename_back(conn, name, present)
        message = f"it was renamed to {present} by Optuna's tools and has its name again"
        log_event(conn, EventRecord(name, "renamed", message))


def cap_of(handle: Handle) -> int:
    """Return the cap as the latest launch set it, which may have been another than this one."""
    with handle.engine.connect() as conn:
        stored = load_cap(conn, handle.spec.name)
    return handle.spec.n_trials if stored is None else stored


def enroll(handle: Handle, ground: Ground, say: Callable[[str], None] = lambda text: None) -> StudyRecord:
    """Store what the study is, or refuse to resume it as something else; the cap and versions may move.

    `say` hears which packages or processor its last launch did not have.
    """
    spec = handle.spec
    plain = to_plain(spec)
    record = StudyRecord(
        study_name=spec.name,
        phase=spec.name.rpartition(".")[2] if "." in spec.name else "single",
        n_trials=spec.n_trials,
        seed=spec.seed,
        max_failures=spec.failures_allowed,
        spec=plain,
        space=spec.space,
        space_hash=space_hash(handle.space),
        score=plain["score"],
        score_hash=hash_object(plain["score"]),
        data_fingerprint=ground.market.fingerprint,
        versions=versions() | source(indicators_of(spec)),
    )
    with study_lock(spec.database.url, spec.name), handle.engine.begin() as conn:
        stored = save_study(conn, record)
        refuse_other(stored, record, going_on(spec))
        record = dataclasses.replace(record, versions=_code_of(stored, record.versions))
        follow_launch(conn, record)
        if changed := "; ".join(differences(stored.versions, record.versions, ("then", "now"))):
            log_event(conn, EventRecord(spec.name, "versions", f"launched with other versions: {changed}"))
            say(f"{spec.name} was launched with other versions before ({changed}): {LAST_DIGITS}")
        found = load_study(conn, spec.name)
    if found is None:
        raise BadInputError(f"study {spec.name!r} vanished from its database while it was opened")
    return dataclasses.replace(found, max_failures=spec.failures_allowed)


def _code_of(stored: StudyRecord, now: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of a launch with the code of the study: other code follows only when proven."""
    kept = {key: stored.versions[key] for key in (CODE, COMMIT) if key in stored.versions}
    return {key: value for key, value in now.items() if key not in (CODE, COMMIT)} | kept


def going_on(spec: StudySpec) -> str:
    """Return, quoted for a sentence, the command that goes on with a study by its stored settings."""
    base = spec.name.partition(".")[0]
    return f"`walkforge study name={base}{in_words(spec.database.url)}`"


def refuse_other(stored: StudyRecord, now: StudyRecord, command: str) -> None:
    """Raise BadInputError where a resumed study would measure something else than it did.

    `command` is what goes on with the study as it was, for the refusal to show.
    """
    lines = differing_settings(stored.spec, now.spec)
    if stored.space_hash != now.space_hash:
        before, after = ({"space": dict(each.space)} for each in (stored, now))
        lines += _lines(
            dict(flat(before)), dict(flat(after)), different(dict(flat(before)), dict(flat(after)))
        )
    if lines:
        raise OtherStudyError(refusal(stored.study_name, command, lines))
    if stored.data_fingerprint != now.data_fingerprint:
        code = "".join(
            f"; {text} differs as well" for text in code_differences(stored.versions, now.versions)
        )
        raise BadInputError(
            f"study {stored.study_name!r} was started on other data (fingerprint "
            f"{stored.data_fingerprint[:12]}, now {now.data_fingerprint[:12]}{code}): go on with it "
            f"as it was by {command} on its own data, or choose another name"
        )


def refusal(name: str, command: str, lines: Sequence[str]) -> str:
    """Return why a study is not resumed: the remedy first, then one difference a line."""
    remedy = f"go on with it as it was by {command}, or choose another name"
    return "\n  ".join([f"study {name!r} was started with other settings: {remedy}", *lines])


def differing_settings(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each setting that may not change and did, without those of the space."""
    before, after = dict(flat(stored)), dict(flat(now))
    defaults = dict(flat(to_plain(StudySpec())))  # in force for keys that an older version did not have
    defaults |= {f"data.{key}": after.get(f"data.{key}") for key in BEFORE_KEYS}  # the fingerprint decides
    before |= {key: defaults.get(key) for key in after.keys() - before.keys()}
    keys = [key for key in different(before, after) if not changeable(key) and not searched(key)]
    return _lines(before, after, keys)


def _lines(before: Mapping[str, Any], after: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [f"{as_typed(key)}: started with {before.get(key)!r}, now {after.get(key)!r}" for key in keys]


def as_typed(key: str) -> str:
    """Return a key of a stored spec as it is typed."""
    return key.replace("agent.hyperparameters.", "agent.", 1)


def different(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the keys that do not have the same value in both, in order."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def searched(key: str) -> bool:
    """Say whether a key of the spec is one of its space, which is compared by its hash."""
    return key.partition(".")[0] == "space"


def changeable(key: str) -> bool:
    """Say whether a key of the spec may change between two launches."""
    return any(key == free or key.startswith(f"{free}.") for free in CHANGEABLE)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of every leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
