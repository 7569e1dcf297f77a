"""The folder of a study, which every machine that works on it must see: agents and returns go there.

A launch leaves a file with a token in it and keeps the token in the database too. A machine that does not
find the file would scatter what it makes, so it is refused.
"""

import json
import uuid
from pathlib import Path

from sqlalchemy import Connection

from optimize.database import server_time
from optimize.errors import BadInputError
from optimize.results import leases
from optimize.results.launches import FOLDER
from optimize.results.processes import host_name, this_host
from optimize.results.records import EventRecord, last_event, log_event
from optimize.study.files import write_json
from optimize.study.handle import Handle

PROBE = "shared.json"


def mark_folder(handle: Handle) -> None:
    """Leave the token in the study's folder, for workers of other machines to look for."""
    spec = handle.spec
    probe = spec.folder / PROBE
    with handle.engine.begin() as conn:
        known = last_event(conn, [spec.name], [FOLDER])
        if known is not None and _token(probe) == known.detail["token"]:
            return
        if known is not None:  # the folder was moved or deleted, unless another machine still fills it
            _refuse_scattered(conn, spec.name, spec.output_dir)
        token = str(uuid.uuid4())
        write_json(probe, {"study": spec.name, "token": token})
        detail = {"token": token, "path": str(Path(spec.output_dir).resolve()), "host": this_host()}
        log_event(conn, EventRecord(spec.name, FOLDER, f"its folder is {spec.folder.resolve()}", detail))


def refuse_second_folder(handle: Handle) -> None:
    """Raise BadInputError where the study's folder lies elsewhere on this machine, as a launch marked it.

    A folder that was moved or deleted does not: its old place holds the token no more.
    """
    spec = handle.spec
    with handle.engine.connect() as conn:
        known = last_event(conn, [spec.name], [FOLDER])
    if known is None or _token(spec.folder / PROBE) == known.detail["token"]:
        return
    place = Path(known.detail["path"])
    if _token(place / spec.name / PROBE) == known.detail["token"]:
        raise BadInputError(
            f"output_dir={spec.output_dir}: study {spec.name!r} keeps its files in {place / spec.name}, and "
            f"another folder would scatter them: run it from {_start_of(place, Path(spec.output_dir))}, or "
            "choose another name or database"
        )


def _start_of(place: Path, relative: Path) -> Path:
    """Return the directory from which a relative output_dir leads to a place."""
    parts = [part for part in relative.parts if part != "."]
    inside = len(parts) and list(place.parts[-len(parts) :]) == parts
    return Path(*place.parts[: -len(parts)]) if inside else place.parent


def find_folder(conn: Connection, study: str, given: str | None, stored: str) -> str | None:
    """Return the output_dir that holds the study's folder here; None before the study is ready for workers.

    Without one given it is where the launch had it, by the same relative or else by the same absolute path.
    """
    known = last_event(conn, [study], [FOLDER])
    if known is None:
        return None
    tried = [given] if given is not None else list(dict.fromkeys([stored, known.detail["path"]]))
    for output_dir in tried:
        if _token(Path(output_dir) / study / PROBE) == known.detail["token"]:
            return output_dir
    for output_dir in tried:
        if (owner := _closed_by(Path(output_dir) / study / PROBE)) is not None:
            raise BadInputError(
                f"output_dir={output_dir}: the folder of study {study!r} belongs to user {owner}, and this "
                "user may not read it: have it opened to you (chmod, or a shared group), or work as that user"
            )
    raise BadInputError(
        f"output_dir={given or stored}: this machine does not see the folder of study {study!r} "
        f"({known.detail['path']} on {host_name(known.detail['host'])}): give both machines one "
        "shared folder and name it with output_dir=..."
    )


def holds_token(conn: Connection, study: str, folder: Path) -> bool:
    """Say whether a folder is the one that the launch of this study marked."""
    known = last_event(conn, [study], [FOLDER])
    return known is not None and _token(folder / PROBE) == known.detail["token"]


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
    """Return the owner of a file that lies there and may not be read by this user."""
    try:
        probe.read_bytes()
    except PermissionError:
        return _owner_of_nearest(probe)
    except OSError:
        return None
    return None


def _owner_of_nearest(path: Path) -> str:
    """Return the owner of a path, or of the nearest folder above it that this user can look at."""
    for each in (path, *path.parents):
        try:
            return each.owner()
        except (OSError, KeyError):
            continue
    return "unknown"


def _token(probe: Path) -> str | None:
    """Return the token of a folder, None where there is none to be read."""
    try:
        return str(json.loads(probe.read_text(encoding="utf-8"))["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
