"""Optuna's storage on a database: two statements read all trials, and only COMPLETE ones have a value.

Every claim of a trial begins with reading the new ones, so what that costs is paid once a trial. Optuna gives
a PRUNED trial its last intermediate value as its value; here it has none, so that the highest stored value of
a study is that of its best trial. Samplers and pruners read intermediate values, which stay.
"""

import copy
import functools
import json
import sys
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    CompoundSelect,
    Connection,
    Float,
    Integer,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy.types import TypeEngine

from optimize.database.sqlite import watch_file

PARAMETER, VALUE, REPORT, USER, SYSTEM = range(5)  # what a row of `_details` is about
ATTRIBUTE = {"name": "key", "json": "value_json"}
# Of each kind the table, and which of its columns holds what; the place is the primary key's unless named.
DETAILS: dict[int, tuple[type[models.BaseModel], dict[str, str]]] = {
    PARAMETER: (
        models.TrialParamModel,
        {"name": "param_name", "number": "param_value", "json": "distribution_json"},
    ),
    VALUE: (
        models.TrialValueModel,
        {"place": "objective", "number": "value", "form": "value_type"},
    ),
    REPORT: (
        models.TrialIntermediateValueModel,
        {"place": "step", "number": "intermediate_value", "form": "intermediate_value_type"},
    ),
    USER: (models.TrialUserAttributeModel, ATTRIBUTE),
    SYSTEM: (models.TrialSystemAttributeModel, ATTRIBUTE),
}
COLUMNS: dict[str, TypeEngine[Any]] = {
    "place": Integer(),
    "name": Text(),
    "number": Float(53),
    "form": Text(),
    "json": Text(),
}
NOT_FINITE = {"NAN": float("nan"), "INF_POS": float("inf"), "INF_NEG": float("-inf")}  # where number is NULL
VALUELESS = (TrialState.PRUNED, TrialState.FAIL)
MOST_LISTED = 500  # trials named one by one: a database takes only so many parameters in a statement


class TrialStorage(RDBStorage):
    """Optuna's storage; the trials are those that it would read, their attributes as they were written."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        try:
            super().__init__(url, engine_kwargs=engine_kwargs)
        except Exception:  # nobody else has the engine of a storage that is refused, and its connections
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise
        watch_file(self.engine, engine_kwargs)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        watch_file(self.engine, self.engine_kwargs)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Store the state of a trial, and its values where it is COMPLETE."""
        return super().set_trial_state_values(trial_id, state, None if state in VALUELESS else values)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if template_trial is not None and template_trial.state in VALUELESS:
            template_trial = copy.copy(template_trial)
            template_trial.values = None
        return super()._create_new_trial(study_id, template_trial)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        listed = sorted(each for each in included_trial_ids if each <= trial_id_greater_than)
        if len(listed) > MOST_LISTED:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        with self.engine.connect() as conn:
            trials = read_trials(conn, study_id, listed, trial_id_greater_than)
        return [trial for trial in trials if states is None or trial.state in states]


def drop_values(conn: Connection, study_id: int) -> int:
    """Delete the values of trials of a study that were PRUNED or FAILED by other means than this storage.

    An older version, or Optuna by itself, has left them. Returns how many there were.
    """
    trials, values = models.TrialModel.__table__, models.TrialValueModel.__table__
    ended = select(trials.c.trial_id).where(trials.c.study_id == study_id, trials.c.state.in_(VALUELESS))
    return int(conn.execute(delete(values).where(values.c.trial_id.in_(ended))).rowcount)


def read_trials(conn: Connection, study_id: int, listed: Sequence[int], after: int) -> list[FrozenTrial]:
    """Return the trials of a study whose ids are listed or above `after`, by id.

    Raises KeyError, as Optuna does, where there is no such study.
    """
    given = {"study_id": study_id, "after": after} | ({"listed": listed} if listed else {})
    found = conn.execute(_trials(bool(listed)), given).all()
    if not found:
        studies = models.StudyModel.__table__
        if conn.execute(select(studies).where(studies.c.study_id == study_id)).first() is None:
            raise KeyError(models.NOT_FOUND_MSG)
        return []
    parts: dict[tuple[int, int], list[Row[Any]]] = defaultdict(list)
    for row in conn.execute(_details(bool(listed)), given):
        parts[row.trial_id, row.kind].append(row)
    for rows in parts.values():
        rows.sort(key=lambda row: row.place)
    return [_trial(row, {kind: parts.get((row.trial_id, kind), []) for kind in DETAILS}) for row in found]


@functools.cache
def _trials(some_listed: bool) -> Select[Any]:
    trials = models.TrialModel.__table__
    return _chosen(select(trials), trials, some_listed).order_by(trials.c.trial_id)


@functools.cache
def _details(some_listed: bool) -> CompoundSelect[Any]:
    """Select what belongs to the trials: every row says of which kind it is and has the COLUMNS."""
    return union_all(*(_of_kind(kind, some_listed) for kind in DETAILS))


def _of_kind(kind: int, some_listed: bool) -> Select[Any]:
    model, names = DETAILS[kind]
    trials, table = models.TrialModel.__table__, model.__table__
    (key,) = table.primary_key
    names = {"place": key.name} | names
    columns = [
        cast(table.c[names[name]] if name in names else null(), of_type).label(name)
        for name, of_type in COLUMNS.items()
    ]
    rows = select(literal(kind).label("kind"), table.c.trial_id, *columns).join(
        trials, trials.c.trial_id == table.c.trial_id
    )
    return _chosen(rows, trials, some_listed)


def _chosen(rows: Select[Any], trials: Table, some_listed: bool) -> Select[Any]:
    chosen = trials.c.trial_id > bindparam("after")
    if some_listed:
        chosen |= trials.c.trial_id.in_(bindparam("listed", expanding=True))
    return rows.where(trials.c.study_id == bindparam("study_id"), chosen)


# All trials share their distributions, and the names in them: less to parse, to keep and to compare.
_distribution = functools.lru_cache(maxsize=1024)(json_to_distribution)


def _trial(row: Row[Any], parts: Mapping[int, Sequence[Row[Any]]]) -> FrozenTrial:
    distributions = {sys.intern(each.name): _distribution(each.json) for each in parts[PARAMETER]}
    values = [_number(each) for each in parts[VALUE]]
    return FrozenTrial(
        number=row.number,
        state=row.state,
        value=None,
        values=values or None,
        datetime_start=_local(row.datetime_start),
        datetime_complete=_local(row.datetime_complete),
        params={
            name: distribution.to_external_repr(each.number)
            for each, (name, distribution) in zip(parts[PARAMETER], distributions.items(), strict=True)
        },
        distributions=distributions,
        user_attrs={sys.intern(each.name): json.loads(each.json) for each in parts[USER]},
        system_attrs={sys.intern(each.name): json.loads(each.json) for each in parts[SYSTEM]},
        intermediate_values={each.place: _number(each) for each in parts[REPORT]},
        trial_id=row.trial_id,
    )


def _number(row: Row[Any]) -> float:
    return NOT_FINITE[row.form] if row.number is None else float(row.number)


def _local(stored: datetime | None) -> datetime | None:
    """Return a naive time of UTC as the naive local one that Optuna shows."""
    return None if stored is None else stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
