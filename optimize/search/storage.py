"""Optuna's storage on the study database, through Optuna's public interface."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from optimize.database import BUSY_TIMEOUT_S, optuna_arguments, schema_lock
from optimize.errors import BadInputError, message_of

CAP_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)  # in the cap of a study


class StudyStorage(RDBStorage):
    """Optuna's storage, in which only COMPLETE trials have a value.

    Optuna gives a PRUNED trial its last intermediate value as its value. Without it the highest stored value
    of a study is that of its best trial. Samplers and pruners read intermediate values, which stay.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        self._system_attrs: dict[int, dict[str, Any]] | None = None  # by study; None: read each time
        try:
            super().__init__(url, engine_kwargs=engine_kwargs)
        except Exception:
            if hasattr(self, "engine"):  # the caller gets no storage that it could close
                self.engine.dispose()
            raise

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Store the state of a trial, and its values if it is COMPLETE."""
        return super().set_trial_state_values(
            trial_id, state, values if state == TrialState.COMPLETE else None
        )

    @contextmanager
    def system_attrs_read_once(self) -> Iterator[None]:
        """Read the system attributes of a study once in the block, for a thread that alone writes them.

        Optuna reads all of them for each note that it saves: thousands of notes would take quadratic time.
        """
        self._system_attrs = {}
        try:
            yield
        finally:
            self._system_attrs = None

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the system attributes of a study."""
        if self._system_attrs is None:
            return super().get_study_system_attrs(study_id)
        if study_id not in self._system_attrs:
            self._system_attrs[study_id] = super().get_study_system_attrs(study_id)
        return dict(self._system_attrs[study_id])

    def set_study_system_attr(self, study_id: int, key: str, value: Mapping[str, Any] | Any) -> None:
        """Store a system attribute of a study."""
        super().set_study_system_attr(study_id, key, value)
        if self._system_attrs is not None and study_id in self._system_attrs:
            self._system_attrs[study_id][key] = value


def open_storage(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> StudyStorage:
    """Return Optuna's storage with its tables created, our connection timeouts and no heartbeat."""
    address, arguments = optuna_arguments(url, busy_timeout_s)
    with schema_lock(url):  # two processes that create the tables at once would collide
        try:
            return StudyStorage(address, engine_kwargs=arguments)
        except RuntimeError as error:  # Optuna's error for tables of an incompatible version
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
    """Return the study of this name, created if it does not exist; refuse one with another direction."""
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


def trial_id(storage: RDBStorage, study_name: str, number: int) -> int:
    """Return the identifier by which the storage addresses a trial of a study."""
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study_name), number)
