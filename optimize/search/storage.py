"""Optuna's storage on the study database."""

import json
from datetime import UTC
from typing import Literal

import optuna
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import func, insert, select

from optimize import clock
from optimize.database import BUSY_TIMEOUT_S, optuna_arguments, schema_lock
from optimize.errors import BadInputError


def open_storage(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> RDBStorage:
    """Return Optuna's storage, tables created, with the timeouts of our own connections and no heartbeat."""
    address, arguments = optuna_arguments(url, busy_timeout_s)
    with schema_lock(url):  # two processes that create the tables at once would collide
        return RDBStorage(address, engine_kwargs=arguments)


def load_or_create_study(
    storage: RDBStorage,
    name: str,
    direction: Literal["minimize", "maximize"] = "maximize",
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
) -> optuna.Study:
    """Return the study called name, created where it does not exist; refuse one with another direction."""
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
    return study


def insert_running(storage: RDBStorage, study_id: int, trial: FrozenTrial) -> int:
    """Store a trial that runs, with its parameters and attributes, and return Optuna's id of it.

    Writes the rows of `storage.create_new_trial(study_id, template_trial=trial)`, which looks each of them up
    before it writes it, by five times as many statements. Call it under the study lock.
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
        trial_id = int(conn.execute(made).scalar_one())
        for model, rows in (
            (models.TrialParamModel, values),
            (models.TrialUserAttributeModel, _attributes(trial.user_attrs)),
            (models.TrialSystemAttributeModel, _attributes(trial.system_attrs)),
        ):
            if rows:
                conn.execute(insert(model.__table__), [{"trial_id": trial_id} | each for each in rows])
    return trial_id


def _attributes(attributes: dict[str, object]) -> list[dict[str, object]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
