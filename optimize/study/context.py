"""An open study: its spec, search space, Optuna study and database engine."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from envs.fields import UNSET, Key, keys_of
from envs.plain import flat_keys, to_plain
from optimize.database import Connection, Engine, local_folder, open_engine, server_time, study_lock
from optimize.database.address import in_words
from optimize.errors import BadInputError, OtherStudyError
from optimize.hashing import hash_object
from optimize.results.creation import create_tables
from optimize.results.event_log import log_event
from optimize.results.events import StudyRenamed, VersionsChanged
from optimize.results.leases import pull_back, refuse_other_hosts
from optimize.results.orphans import drop_values, rename_back, renamed_studies
from optimize.results.queries import refuse_renamed
from optimize.results.records import (
    StudyRecord,
    follow_launch,
    forget_study,
    load_cap,
    load_study,
    save_study,
)
from optimize.results.returns import save_sessions
from optimize.results.runs import fill_parameter_sets
from optimize.results.study_names import phase_of
from optimize.results.views import create_views, refuse_foreign
from optimize.search.parse import in_order_of
from optimize.search.proposals import Proposals
from optimize.search.pruners import make_pruner
from optimize.search.samplers import make_sampler
from optimize.search.space import SearchSpace, offered_values, parse_space, space_hash
from optimize.search.spec import INDICATORS
from optimize.search.storage import StudyStorage, load_or_create_study, open_storage
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.versions import CODE, COMMIT, code_differences, differences, source, versions

MARKET_CACHE = "market"
LAST_DIGITS = (
    "new trials may differ from the old in their last digits, and each keeps the versions it ran with"
)


@dataclass(frozen=True, eq=False)
class StudyContext:
    """An open study, from which trials are claimed and to which their results are written."""

    spec: StudySpec
    space: SearchSpace
    study: optuna.Study
    storage: StudyStorage
    engine: Engine
    proposals: Proposals

    def close(self) -> None:
        """Close every connection to the database."""
        self.engine.dispose()
        self.storage.engine.dispose()

    @property
    def cache_dir(self) -> Path:
        """Return the folder of the memory-mapped markets, beside the database."""
        return cache_dir(self.spec)


def cache_dir(spec: StudySpec) -> Path:
    """Return the folder of the memory-mapped markets, beside the study's database."""
    return local_folder(spec.database.url) / MARKET_CACHE


def open_study(spec: StudySpec) -> StudyContext:
    """Open the study called spec.name, with its tables and views created where they are missing."""
    url = spec.database.url
    space = parse_space(spec.space)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with study_lock(url, spec.name), ExitStack() as refused:  # closed if the study is refused
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
            stored = load_study(conn, spec.name)
        if stored is not None:  # draws follow the order of the first launch, however the space is given now
            space = in_order_of(space, parse_space(stored.space))
        make = partial(make_sampler, spec.sampler, spec.seed, space)
        pruner = make_pruner(spec.pruner, spec.seed)
        study = load_or_create_study(storage, spec.name, sampler=make(), pruner=pruner)
        with engine.begin() as conn:
            drop_values(conn, spec.name)
        create_views(engine)
        refused.pop_all()
    return StudyContext(spec, space, study, storage, engine, Proposals(space, make))


def indicators_of(spec: StudySpec) -> list[str]:
    """Return the indicators that trials of a study may use."""
    lists = offered_values(parse_space(spec.space), INDICATORS)
    return sorted({name for names in (spec.feature.indicators, *lists) for name in names})


def _find_records(conn: Connection, name: str) -> None:
    """Restore the name of a study renamed with Optuna's tools, or set aside the records of a deleted one.

    Records of a deleted study would otherwise attach to the trials of a new one.
    """
    present = renamed_studies(conn).get(name)
    if present is None:
        forget_study(conn, name)
    else:
        rename_back(conn, name, present)
        message = f"it was renamed to {present} by Optuna's tools and has its name again"
        log_event(conn, name, message, StudyRenamed())


def cap_of(context: StudyContext) -> int:
    """Return the cap set by the latest launch, which may not be the launch of this process."""
    with context.engine.connect() as conn:
        stored = load_cap(conn, context.spec.name)
    return context.spec.n_trials if stored is None else stored


def enroll(
    context: StudyContext, windowed: WindowedMarket, echo: Callable[[str], None] = lambda text: None
) -> StudyRecord:
    """Store the study, or refuse to resume it with other settings; only the cap and versions may change.

    `echo` is called with the packages and the processor that differ from the last launch.
    """
    spec = context.spec
    plain = to_plain(spec)
    record = StudyRecord(
        study_name=spec.name,
        phase=phase_of(spec.name),
        n_trials=spec.n_trials,
        seed=spec.seed,
        max_failures=spec.failures_allowed,
        spec=plain,
        space=spec.space,
        space_hash=space_hash(context.space),
        score=plain["score"],
        score_hash=hash_object(plain["score"]),
        data_fingerprint=windowed.market.fingerprint,
        versions=versions() | source(indicators_of(spec), spec.extensions),
    )
    with study_lock(spec.database.url, spec.name), context.engine.begin() as conn:
        stored = save_study(conn, record)
        refuse_other(stored, record, resume_command(spec))
        record = dataclasses.replace(record, versions=_code_of(stored, record.versions))
        follow_launch(conn, record)
        dates = windowed.market.session_date
        save_sessions(
            conn, spec.name, {each.index: dates[slice(*each.test_sessions)] for each in windowed.windows}
        )
        if changed := "; ".join(differences(stored.versions, record.versions, ("then", "now"))):
            log_event(conn, spec.name, f"launched with other versions: {changed}", VersionsChanged())
            echo(f"{spec.name} was launched with other versions before ({changed}): {LAST_DIGITS}")
        found = load_study(conn, spec.name)
    if found is None:
        raise BadInputError(f"study {spec.name!r} vanished from its database while it was opened")
    return dataclasses.replace(found, max_failures=spec.failures_allowed)


def _code_of(stored: StudyRecord, now: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of a launch with the stored code: other code must first prove equal results."""
    kept = {key: stored.versions[key] for key in (CODE, COMMIT) if key in stored.versions}
    return {key: value for key, value in now.items() if key not in (CODE, COMMIT)} | kept


def resume_command(spec: StudySpec) -> str:
    """Return the quoted command that resumes a study with its stored settings."""
    base = spec.name.partition(".")[0]
    return f"`walkforge study name={base}{in_words(spec.database.url)}`"


def refuse_other(stored: StudyRecord, now: StudyRecord, command: str) -> None:
    """Raise BadInputError if the settings or the data of a resumed study differ from the stored ones.

    `command` resumes the study with its stored settings, for the message.
    """
    lines = differing_settings(stored.spec, now.spec)
    if stored.space_hash != now.space_hash:
        before, after = ({"space": dict(each.space)} for each in (stored, now))
        lines += _lines(
            dict(flat(before)), dict(flat(after)), different(dict(flat(before)), dict(flat(after)))
        )
        lines.append(wider_study_line(stored.study_name))
    if lines:
        raise OtherStudyError(resume_refusal(stored.study_name, command, lines))
    if stored.data_fingerprint != now.data_fingerprint:
        code = "".join(
            f"; {text} differs as well" for text in code_differences(stored.versions, now.versions)
        )
        raise BadInputError(
            f"study {stored.study_name!r} was started on other data (fingerprint "
            f"{stored.data_fingerprint[:12]}, now {now.data_fingerprint[:12]}{code}): go on with it "
            f"as it was by {command} on its own data, or choose another name"
        )


def resume_refusal(name: str, command: str, lines: Sequence[str]) -> str:
    """Return why a study cannot be resumed: the remedy, then one line for each difference."""
    remedy = f"go on with it as it was by {command}, or choose another name"
    return "\n  ".join([f"study {name!r} was started with other settings: {remedy}", *lines])


def wider_study_line(name: str) -> str:
    """Return how another space is searched from the best sets of a stored study."""
    return f"a new study searches another space from its best sets: name=NEW search.start_from={name}"


def differing_settings(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each fixed setting outside the space that changed."""
    keys = keys_of(StudySpec)
    before, after = dict(flat(flat_keys(StudySpec, stored))), dict(flat(now))
    # In force for keys that an older version did not have, and that features of an extension declare.
    defaults = {path: key.default for path, key in keys.items() if key.default is not UNSET}
    defaults |= dict(flat(to_plain(StudySpec())))
    # Where the default changes results, the fingerprint of the data decides.
    defaults |= {path: after.get(path) for path, key in keys.items() if key.setting.before is not None}
    before |= {path: defaults[path] for path in after.keys() - before.keys() if path in defaults}
    after |= {path: defaults[path] for path in before.keys() - after.keys() if path in defaults}
    changed = different(before, after)
    return _lines(
        before, after, [path for path in changed if not changeable(path, keys) and not searched(path)]
    )


def _lines(before: Mapping[str, Any], after: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [
        f"{key}: started with {before[key]!r}, now {after.get(key)!r}"
        if key in before
        else f"{key}: started without it, now {after[key]!r}"
        for key in keys
    ]


def different(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the sorted keys whose values differ."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def searched(key: str) -> bool:
    """Return whether a key belongs to the space, which is compared by its hash."""
    return key.partition(".")[0] == "space"


def changeable(path: str, keys: Mapping[str, Key]) -> bool:
    """Return whether a key of a study, or a part of its value, may change between two launches."""
    while path not in keys and "." in path:
        path = path.rpartition(".")[0]
    return path in keys and keys[path].changeable


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of every leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
