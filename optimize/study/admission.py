"""Which machines may work on a study that another one started: those with its packages and its data."""

import dataclasses
from dataclasses import dataclass, field

from optimize.database import DatabaseSpec
from optimize.errors import BadInputError
from optimize.extensions import name_extensions, refuse_unnamed
from optimize.results.records import StudyRecord
from optimize.study.handle import changeable
from optimize.study.spec import StudySpec, WorkerSpec, from_plain
from optimize.study.trial import Ground
from optimize.study.versions import package_differences, versions


@dataclass(frozen=True)
class Here:
    """What may differ from machine to machine."""

    database: DatabaseSpec
    worker: WorkerSpec = field(default_factory=WorkerSpec)
    output_dir: str | None = None  # None: where the launch had it
    data_path: str | None = None  # None: as stored
    data_folder: str | None = None
    extensions: list[str] | None = None  # None: where the launch had them
    same_versions: bool = True
    wait_s: float = 600.0  # for a study, or its next phase, to be ready


def spec_here(record: StudyRecord, output_dir: str, here: Here) -> StudySpec:
    """Return the stored spec with the places and the worker of this machine."""
    stored = from_plain(StudySpec, dict(record.spec))
    own = {
        part.name: getattr(stored.worker, part.name)
        for part in dataclasses.fields(WorkerSpec)
        if not changeable(f"worker.{part.name}")
    }
    path, folder = here.data_path or stored.data.path, here.data_folder or stored.data.folder
    return dataclasses.replace(
        stored,
        name=record.study_name,
        n_trials=record.n_trials,
        output_dir=output_dir,
        data=dataclasses.replace(stored.data, path=path, folder=folder),
        extensions=_extensions(record.study_name, stored.extensions, here.extensions),
        database=here.database,
        worker=dataclasses.replace(here.worker, **own),
    )


def _extensions(study: str, stored: list[str], named: list[str] | None) -> list[str]:
    """Return where the extensions of a study lie here; refuse code that nobody named here."""
    if named is not None:
        return name_extensions(named)
    refuse_unnamed(stored, f"study {study!r}")
    return stored


def refuse_versions(record: StudyRecord, here: Here) -> None:
    """Refuse packages that may compute other numbers than those of the study's machine."""
    found = package_differences(record.versions, versions())
    if found and here.same_versions:
        raise BadInputError(
            f"study {record.study_name!r} was started with other packages ({'; '.join(found)}): install the "
            "same, or add versions=ignore where they make no difference"
        )


def refuse_data(record: StudyRecord, base: Ground) -> None:
    """Refuse data that is not what the study was started on."""
    fingerprint = base.market.fingerprint
    if fingerprint != record.data_fingerprint:
        raise BadInputError(
            f"study {record.study_name!r} was started on other data (fingerprint "
            f"{record.data_fingerprint[:12]} there, {fingerprint[:12]} here): copy the data of the machine "
            "that started it, and say with data.path=... where it lies here"
        )
