"""Remove a study with its rows and files, and those of its nested walk-forward.

Its tries, its holdout and, unless named, its exports stay.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import optuna

from optimize.bundles.export import EXPORTS_FOLDER
from optimize.database import Engine
from optimize.results.queries import family_of
from optimize.results.removal import artifact_ids, count_rows, delete_rows
from optimize.search.storage import open_storage
from optimize.study.removal.idle import idle_study, own_folder, unread_files
from optimize.study.shared_folder import ARTIFACTS, PROBE


@dataclass(frozen=True)
class Deletion:
    """The rows and files of one study that are removed."""

    study: str
    rows: dict[str, int]  # by table
    paths: tuple[Path, ...]
    pictures: tuple[Path, ...]  # of its trials in optuna-dashboard, from the folder that all studies share
    size_bytes: int


def find_deletable(engine: Engine, output_dir: str, name: str, exports: bool) -> list[Deletion]:
    """Return the rows and files of a study, its phases and the studies of its nested walk-forward.

    Exports are among them only where `exports` is true.
    """
    return [_find(engine, output_dir, study, exports) for study in family_of(engine, name)]


def _find(engine: Engine, output_dir: str, study: str, exports: bool) -> Deletion:
    folder = own_folder(engine, output_dir, study)
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = tuple(path for path in inside if exports or path.name != EXPORTS_FOLDER)
    files = [file for path in paths for file in (path, *path.rglob("*")) if file.is_file()]
    with engine.connect() as conn:
        rows = count_rows(conn, study, exports)
        shown = [Path(output_dir) / ARTIFACTS / name for name in artifact_ids(conn, study)]
    pictures = tuple(path for path in shown if path.is_file())
    return Deletion(study, rows, paths, pictures, sum(file.stat().st_size for file in (*files, *pictures)))


def delete_study(
    engine: Engine, database_url: str, output_dir: str, name: str, exports: bool
) -> list[Deletion]:
    """Remove a study with its phases and nested walk-forward, return the removed parts; refuse one that runs.

    Files go first, then the rows, then the study of Optuna: under its name a killed call is repeated.
    """
    deleted: list[Deletion] = []
    family = family_of(engine, name)
    for study in family:  # nothing is removed where one of them cannot be
        with (
            idle_study(engine, database_url, study),
            unread_files(own_folder(engine, output_dir, study), study),
        ):
            pass
    for study in family:
        with idle_study(engine, database_url, study):
            found = _find(engine, output_dir, study, exports)
            folder = own_folder(engine, output_dir, study)
            with unread_files(folder, study):
                for picture in found.pictures:
                    picture.unlink(missing_ok=True)
                _delete_files(folder, found.paths)
            with engine.begin() as conn:
                delete_rows(conn, study, exports)
            _delete_from_optuna(database_url, study)
            deleted.append(found)
    return deleted


def _delete_files(folder: Path, paths: tuple[Path, ...]) -> None:
    """Delete the paths, the token of the folder last, by which a repeated call knows it."""
    for path in sorted(paths, key=lambda each: each.name == PROBE):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        place = folder.resolve()
        if folder.is_symlink():  # the folder lies on another disk
            folder.unlink()
        place.rmdir()


def _delete_from_optuna(database_url: str, study: str) -> None:
    storage = open_storage(database_url)
    try:
        optuna.delete_study(study_name=study, storage=storage)
    finally:
        storage.engine.dispose()
