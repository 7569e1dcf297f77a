"""Optuna's storage on the study database."""

from functools import partial
from typing import Literal

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage

from optimize.database import BUSY_TIMEOUT_S, connect, prepare_database, sqlite_url, study_lock
from optimize.errors import BadInputError


def open_storage(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> RDBStorage:
    """Return Optuna's storage, tables created; WAL and busy timeout on every connection, no heartbeat."""
    path = prepare_database(url)
    # Foreign keys stay off, as Optuna ships: its schema upgrades drop and rename tables that others refer to.
    creator = partial(connect, path, busy_timeout_s=busy_timeout_s, foreign_keys=False)
    with study_lock(url, "storage"):  # two processes that create the tables at once would collide
        return RDBStorage(
            sqlite_url(path).render_as_string(hide_password=False), engine_kwargs={"creator": creator}
        )


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
