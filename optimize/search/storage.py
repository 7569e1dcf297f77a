"""Optuna's storage on the study database."""

import json
from collections.abc import Mapping
from datetime import UTC
from typing import Literal

import optuna
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Table, func, insert, select, update

from optimize import clock
from optimize.database import BUSY_TIMEOUT_S, lock_trials, optuna_arguments, schema_lock
from optimize.errors import BadInputError, LockLostError, message_of
from optimize.search.trial_storage import TrialStorage, drop_values

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)  # in the cap of a study


def open_storage(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> RDBStorage:
    """Return Optuna's storage, tables created, with the timeouts of our own connections and no heartbeat."""
    address, arguments = optuna_arguments(url, busy_timeout_s)
    with schema_lock(url):  # two processes that create the tables at once would collide
        try:
            return TrialStorage(address, engine_kwargs=arguments)
        except RuntimeError as error:  # its tables are of a version that this one cannot read
            raise BadInputError(
                f"database.url: Optuna {optuna.__version__} cannot use its tables in this database "
                f"({message_of(error)}): another version made them, so use that one, name a new "
                "database, or bring an older one up to date by `optuna storage upgrade`"
            ) from None


def load_or_create_study(
    storage: RDBStorage,
    name: str,
    direction: Literal["minimize", "maximize"] = "maximize",
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
) -> optuna.Study:
    """Return the study called name, created where it does not exist; refuse one with another direction.

    Values that PRUNED and FAIL trials have from an older version, or from Optuna by itself, are deleted.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=direction,
        sampler=sampler,
        pruner=pruner,
        load_if_exists=True,
    )
    directions = [stored.name.lower() for stored in study.directions]
    if directions != [direction]:
        raise BadInputError(
            f"name={name!r} is a stored study that goes {', '.join(directions)}, not {direction}: "
            "choose another name"
        )
    with storage.engine.begin() as conn:
        drop_values(conn, study._study_id)
    return study


def insert_running(storage: RDBStorage, study_id: int, trial: FrozenTrial, cap: int | None = None) -> int:
    """Store a trial that runs, with its parameters and attributes, and return Optuna's id of it.

    Writes the rows of `storage.create_new_trial(study_id, template_trial=trial)`, which looks each of them up
    before it writes it, by five times as many statements. Call it under the study lock: where that was lost,
    so that the trial's number is taken or the cap is reached, LockLostError is raised and nothing is stored.
    """
    past = select(func.count()).where(models.TrialModel.study_id == study_id).scalar_subquery()
    row = {"study_id": study_id, "state": trial.state, "number": past}
    started = clock.now().astimezone(UTC).replace(tzinfo=None)
    values = [
        {
            "param_name": name,
            "param_value": distribution.to_internal_repr(trial.params[name]),
            "distribution_json": distribution_to_json(distribution),
        }
        for name, distribution in trial.distributions.items()
    ]
    with storage.engine.begin() as conn:
        table = models.TrialModel.__table__
        made = insert(table).values(**row, datetime_start=started).returning(table.c.trial_id)
        lock_trials(conn, study_id)
        trial_id = int(conn.execute(made).scalar_one())
        _check_alone(conn, study_id, trial.number if trial.number >= 0 else None, cap)
        for model, rows in (
            (models.TrialParamModel, values),
            (models.TrialUserAttributeModel, _attributes(trial.user_attrs)),
            (models.TrialSystemAttributeModel, _attributes(trial.system_attrs)),
        ):
            if rows:
                conn.execute(insert(model.__table__), [{"trial_id": trial_id} | each for each in rows])
    return trial_id


def start_waiting(storage: RDBStorage, study_id: int, cap: int) -> None:
    """Let the oldest trial that somebody queued run, as `study.ask()` does, unless the cap is reached."""
    table = models.TrialModel.__table__
    of_study = table.c.study_id == study_id
    with storage.engine.begin() as conn:
        lock_trials(conn, study_id)
        oldest = select(func.min(table.c.trial_id)).where(of_study, table.c.state == TrialState.WAITING)
        started = clock.now().astimezone(UTC).replace(tzinfo=None)
        chosen = update(table).where(table.c.trial_id == oldest.scalar_subquery())
        conn.execute(chosen.values(state=TrialState.RUNNING, datetime_start=started))
        _check_alone(conn, study_id, None, cap)


def set_user_attribute(conn: Connection, trial_id: int, key: str, value: object) -> None:
    """Store an attribute of a running trial, in a transaction of the caller's.

    Writes the row of `storage.set_trial_user_attr`, which commits by itself.
    """
    row = {"trial_id": trial_id, "key": key}
    _put(conn, models.TrialUserAttributeModel.__table__, row, {"value_json": json.dumps(value)})


def set_intermediate(conn: Connection, trial_id: int, step: int, value: float) -> None:
    """Store what a running trial reports at a step, in a transaction of the caller's; one that ended refuses.

    Writes the row of `storage.set_trial_intermediate_value`, which commits by itself.
    """
    trials, values = models.TrialModel.__table__, models.TrialIntermediateValueModel
    state = conn.execute(select(trials.c.state).where(trials.c.trial_id == trial_id)).scalar_one()
    if state.is_finished():
        raise optuna.exceptions.UpdateFinishedTrialError(f"trial {trial_id} of Optuna has ended")
    number, kind = values.intermediate_value_to_stored_repr(value)
    stored = {"intermediate_value": number, "intermediate_value_type": kind}
    _put(conn, values.__table__, {"trial_id": trial_id, "step": step}, stored)


def _put(conn: Connection, table: Table, row: Mapping[str, object], values: Mapping[str, object]) -> None:
    """Give the row that has these columns these values; insert it where it is not there yet."""
    same = (table.c[name] == value for name, value in row.items())
    if conn.execute(update(table).where(*same).values(**values)).rowcount == 0:
        conn.execute(insert(table).values(**row, **values))


def _check_alone(conn: Connection, study_id: int, number: int | None, cap: int | None) -> None:
    """Raise LockLostError where somebody added a trial since this process counted them."""
    table = models.TrialModel.__table__
    counted = func.count().filter(table.c.state.in_(COUNTED))
    known, taken = conn.execute(select(func.count(), counted).where(table.c.study_id == study_id)).one()
    if (number is not None and known != number + 1) or (cap is not None and taken > cap):
        raise LockLostError("another process added a trial since they were counted under the study lock")


def _attributes(attributes: dict[str, object]) -> list[dict[str, object]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
