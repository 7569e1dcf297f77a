"""The shared folder of a study, which every machine that works on it must reach: it holds agents and returns.

A launch stores a token in a file of the folder and in the database. A machine that does not find the file is
refused, because its results would lie elsewhere.
"""

import json
import uuid
from pathlib import Path

from optimize.database import Connection, server_time
from optimize.errors import BadInputError
from optimize.results import leases
from optimize.results.event_log import last_event, log_event
from optimize.results.events import FolderMarked
from optimize.results.processes import host_name, this_host
from optimize.study.context import StudyContext
from optimize.walkforward.files import write_json

PROBE = "shared.json"
ARTIFACTS = "artifacts"  # folder of the pictures and tables that optuna-dashboard shows, of all studies


def mark_folder(context: StudyContext) -> None:
    """Write the token into the study's folder, so that workers of other machines can verify the folder."""
    spec = context.spec
    probe = spec.folder / PROBE
    with context.engine.begin() as conn:
        known = last_event(conn, [spec.name], [FolderMarked])
        if known is not None and _token(probe) == known.event.token:
            return
        if known is not None:  # the folder was moved or deleted, or another machine still uses it
            _refuse_scattered(conn, spec.name, spec.output_dir)
        token = str(uuid.uuid4())
        write_json(probe, {"study": spec.name, "token": token})
        marked = FolderMarked(token, str(Path(spec.output_dir).resolve()), this_host())
        log_event(conn, spec.name, f"its folder is {spec.folder.resolve()}", marked)


def refuse_second_folder(context: StudyContext) -> None:
    """Raise BadInputError if the study's folder exists elsewhere on this machine.

    A moved or deleted folder does not exist: its old path has no token.
    """
    spec = context.spec
    with context.engine.connect() as conn:
        known = last_event(conn, [spec.name], [FolderMarked])
    if known is None or _token(spec.folder / PROBE) == known.event.token:
        return
    place = Path(known.event.path)
    if _token(place / spec.name / PROBE) == known.event.token:
        raise BadInputError(
            f"output_dir={spec.output_dir}: study {spec.name!r} keeps its files in {place / spec.name}, and "
            f"another folder would scatter them: run it from {_start_of(place, Path(spec.output_dir))}, or "
            "choose another name or database"
        )


def _start_of(place: Path, relative: Path) -> Path:
    """Return the directory from which a relative output_dir leads to the folder."""
    parts = [part for part in relative.parts if part != "."]
    inside = len(parts) and list(place.parts[-len(parts) :]) == parts
    return Path(*place.parts[: -len(parts)]) if inside else place.parent


def find_folder(conn: Connection, study: str, given: str | None, stored: str) -> str | None:
    """Return the output_dir of the study's folder on this machine; None while the study is not ready.

    Without `given` the relative path of the launch is tried, then its absolute path.
    """
    known = last_event(conn, [study], [FolderMarked])
    if known is None:
        return None
    tried = [given] if given is not None else list(dict.fromkeys([stored, known.event.path]))
    for output_dir in tried:
        if _token(Path(output_dir) / study / PROBE) == known.event.token:
            return output_dir
    for output_dir in tried:
        if (owner := _closed_by(Path(output_dir) / study / PROBE)) is not None:
            raise BadInputError(
                f"output_dir={output_dir}: the folder of study {study!r} belongs to user {owner}, and this "
                "user may not read it: have it opened to you (chmod, or a shared group), or work as that user"
            )
    raise BadInputError(
        f"output_dir={given or stored}: this machine does not see the folder of study {study!r} "
        f"({known.event.path} on {host_name(known.event.host)}): give both machines one "
        "shared folder and name it with output_dir=..."
    )


def holds_token(conn: Connection, study: str, folder: Path) -> bool:
    """Return whether a folder holds the token of this study."""
    known = last_event(conn, [study], [FolderMarked])
    return known is not None and _token(folder / PROBE) == known.event.token


def _refuse_scattered(conn: Connection, study: str, output_dir: str) -> None:
    now, here = server_time(conn), this_host()
    lost = {lease.run_uuid for lease in leases.lost(conn, study, now, leases.owner_alive)}
    for lease in leases.active(conn, study):
        if lease.run_uuid not in lost and lease.host != here:
            raise BadInputError(
                f"output_dir={output_dir}: host {host_name(lease.host)} works on study {study!r} in a "
                "folder that this machine does not see: name the shared folder, or end the work there"
            )


def _closed_by(probe: Path) -> str | None:
    """Return the owner of a file that this user may not read, None for any other file."""
    try:
        probe.read_bytes()
    except PermissionError:
        return _owner_of_nearest(probe)
    except OSError:
        return None
    return None


def _owner_of_nearest(path: Path) -> str:
    """Return the owner of a path, or of the nearest folder above it that this user may read."""
    for each in (path, *path.parents):
        try:
            return each.owner()
        except (OSError, KeyError):
            continue
    return "unknown"


def _token(probe: Path) -> str | None:
    """Return the token of a folder, None if there is no readable one."""
    try:
        return str(json.loads(probe.read_text(encoding="utf-8"))["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
