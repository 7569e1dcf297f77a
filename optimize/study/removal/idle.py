"""Work on a study that needs it idle: no launch, no worker, and its own folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from optimize.bundles.export import EXPORTS_FOLDER, EXPORTS_LOCK
from optimize.database import Connection, Engine, study_lock
from optimize.errors import BadInputError, WalkforgeError
from optimize.results.ended_runs import numbers_and_uuids
from optimize.results.event_log import last_event
from optimize.results.events import FolderMarked, LaunchEvent
from optimize.results.launches import announced_process, living_leases, running_launch
from optimize.results.orphans import stored_studies
from optimize.study.control import base_name
from optimize.study.shared_folder import holds_token
from optimize.walkforward.files import FINALISTS_FOLDER, FINALISTS_LOCK, run_folder


@contextmanager
def idle_study(engine: Engine, database_url: str, study: str) -> Iterator[None]:
    """Hold the lock of a study that no launch and no worker works on; raise WalkforgeError where one does."""
    with study_lock(database_url, study):
        with engine.connect() as conn:
            refuse_running(conn, study)
        yield


@contextmanager
def unread_files(folder: Path, study: str) -> Iterator[None]:
    """Hold the locks of a study's finalists and exports, which read the files of trials.

    Raises WalkforgeError where finalists are being retrained or bundles are being written.
    """
    readers = (
        ("finalists", folder / FINALISTS_FOLDER / FINALISTS_LOCK),
        ("export", folder / EXPORTS_FOLDER / EXPORTS_LOCK),
    )
    with ExitStack() as held:
        for verb, lock in readers:
            if not lock.parent.is_dir():
                continue
            try:
                held.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                raise WalkforgeError(
                    f"`walkforge {verb} name={study}` runs, so nothing is removed: wait for its end, "
                    "or end it"
                ) from None
        yield


def refuse_running(conn: Connection, study: str) -> None:
    """Raise WalkforgeError where a launch or a worker is at work on a study."""
    launch, held = running_launch(conn, study), living_leases(conn, study)
    nested = None if launch is not None or held else _nested_launch(conn, study)
    if launch is not None:
        who = f"process {launch.pid} on {launch.host} runs it"
    elif held:
        who = f"{len(held)} trials run"
    elif nested is not None:
        who = f"its nested walk-forward runs {nested}"
    else:
        return
    raise WalkforgeError(
        f"study {study} is at work ({who}), so nothing is removed: wait for its end, or stop it by "
        f"`walkforge study name={base_name(study)} action=stop`"
    )


def _nested_launch(conn: Connection, study: str) -> str | None:
    """Return the study of the same nested walk-forward that a launch supervises now, or None."""
    names = (name for name in stored_studies(conn) if base_name(name) == base_name(study))
    return next((name for name in names if announced_process(conn, name, LaunchEvent) is not None), None)


def own_folder(engine: Engine, output_dir: str, study: str) -> Path:
    """Return the folder of a study; refuse one that belongs to another study, or lies elsewhere."""
    folder = Path(output_dir) / study
    with engine.connect() as conn:
        known = last_event(conn, [study], [FolderMarked])
        if known is None:
            runs = numbers_and_uuids(conn, study)
            there = folder / "trials"
            own = any(run_folder(folder, *run).is_dir() for run in runs)
            if not runs or own or not there.is_dir() or not any(there.iterdir()):
                return folder
        elif holds_token(conn, study, folder) or not _has_files(folder, known.event, study):
            return folder
    place = "" if known is None else f": its launch put the files into output_dir={known.event.path}"
    raise BadInputError(f"output_dir={output_dir}: {folder} is not the folder of study {study}{place}")


def _has_files(folder: Path, marked: FolderMarked, study: str) -> bool:
    """Return whether a folder without the study's token holds more than exports, or its launch's exists."""
    if folder.is_dir():
        return any(path.name != EXPORTS_FOLDER for path in folder.iterdir())
    return (Path(marked.path) / study).exists()
