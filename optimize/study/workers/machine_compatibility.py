"""Check that this machine has the packages and the data of a study that was launched elsewhere."""

import dataclasses
from dataclasses import dataclass, field

from envs.fields import keys_of
from envs.plain import from_plain
from optimize.database import DatabaseSpec
from optimize.errors import BadInputError
from optimize.extensions import load_stored, name_extensions
from optimize.results.records import StudyRecord
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.versions import package_differences, versions


@dataclass(frozen=True)
class MachineSettings:
    """Settings that may differ from machine to machine."""

    database: DatabaseSpec
    worker: WorkerSpec = field(default_factory=WorkerSpec)
    output_dir: str | None = None  # None: as in the launch
    data_path: str | None = None  # None: as stored
    data_folder: str | None = None
    extensions: list[str] | None = None  # None: as in the launch
    same_versions: bool = True
    wait_s: float = 600.0  # for a study, or its next phase, to be ready


def spec_on_machine(record: StudyRecord, output_dir: str, machine: MachineSettings) -> StudySpec:
    """Return the stored spec with the paths and the worker settings of this machine."""
    stored = from_plain(StudySpec, dict(record.spec))
    keys = keys_of(WorkerSpec, "worker")
    own = {
        part.name: getattr(stored.worker, part.name)
        for part in dataclasses.fields(WorkerSpec)
        if not keys[f"worker.{part.name}"].changeable
    }
    path, folder = machine.data_path or stored.data.path, machine.data_folder or stored.data.folder
    return dataclasses.replace(
        stored,
        name=record.study_name,
        n_trials=record.n_trials,
        output_dir=output_dir,
        data=dataclasses.replace(stored.data, path=path, folder=folder),
        extensions=_extensions(record.study_name, stored.extensions, machine.extensions),
        database=machine.database,
        worker=dataclasses.replace(machine.worker, **own),
    )


def _extensions(study: str, stored: list[str], named: list[str] | None) -> list[str]:
    """Return the paths of a study's extensions on this machine; refuse code that was not named here."""
    if named is not None:
        return name_extensions(named)
    load_stored(stored, f"study {study!r}")
    return stored


def refuse_versions(record: StudyRecord, machine: MachineSettings) -> None:
    """Refuse package versions that may compute other results than those of the launch."""
    found = package_differences(record.versions, versions())
    if found and machine.same_versions:
        raise BadInputError(
            f"study {record.study_name!r} was started with other packages ({'; '.join(found)}): install the "
            "same, or add versions=ignore where they make no difference"
        )


def refuse_data(record: StudyRecord, base: WindowedMarket) -> None:
    """Refuse data other than the data of the launch."""
    fingerprint = base.market.fingerprint
    if fingerprint != record.data_fingerprint:
        raise BadInputError(
            f"study {record.study_name!r} was started on other data (fingerprint "
            f"{record.data_fingerprint[:12]} there, {fingerprint[:12]} here): copy the data of the machine "
            "that started it, and give its path here with data.path=..."
        )
