"""Free the models and window files of a study's lower ranks; rows, scores and session returns stay."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optimize.database import Engine
from optimize.results.queries import best_models, studies_of
from optimize.results.removal import forget_return_files, lower_runs
from optimize.study.removal.idle import idle_study, own_folder, unread_files
from optimize.walkforward.files import RETURNS, run_folder


@dataclass(frozen=True)
class PrunedRun:
    """The files of one run that are freed."""

    study: str
    trial: int
    run_uuid: str
    folder: Path
    returns_stored: bool  # in the database; else the files of returns stay
    size_bytes: int


def find_prunable(engine: Engine, output_dir: str, name: str, keep: int) -> list[PrunedRun]:
    """Return the ended runs below the best `keep` parameter sets of each phase that still have files."""
    found = []
    for study in studies_of(engine, name):
        folder = own_folder(engine, output_dir, study)
        kept = {row.run_uuid for row in best_models(engine, study, keep)} if keep else set()
        with engine.connect() as conn:
            lower = lower_runs(conn, study, kept)
        for run in lower:
            files = run_folder(folder, run.trial_number, run.run_uuid)
            size = sum(path.stat().st_size for path in _freed(files, run.returns_stored))
            if size:
                found.append(
                    PrunedRun(study, run.trial_number, run.run_uuid, files, run.returns_stored, size)
                )
    return found


def _freed(folder: Path, returns_stored: bool) -> Iterator[Path]:
    """Yield the files of a run that are freed."""
    for path in folder.rglob("*"):
        if path.is_file() and (returns_stored or path.name != RETURNS):
            yield path


def prune_runs(engine: Engine, database_url: str, output_dir: str, name: str, keep: int) -> list[PrunedRun]:
    """Delete the files of the lower ranks and return the runs they were of; refuse a study that runs.

    The rows name no file any more before the first one is deleted: a call that was killed leaves files which
    the next call deletes.
    """
    pruned: list[PrunedRun] = []
    for study in studies_of(engine, name):
        with (
            idle_study(engine, database_url, study),
            unread_files(own_folder(engine, output_dir, study), study),
        ):
            runs = find_prunable(engine, output_dir, study, keep)
            with engine.begin() as conn:
                for run in runs:
                    if run.returns_stored:
                        forget_return_files(conn, run.run_uuid)
            for run in runs:
                if run.returns_stored:
                    shutil.rmtree(run.folder)
                else:
                    for path in list(_freed(run.folder, run.returns_stored)):
                        path.unlink()
            pruned += runs
    return pruned
