"""Optuna's storage on the study database."""

from typing import Literal

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage

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
