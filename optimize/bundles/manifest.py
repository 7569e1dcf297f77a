"""The manifest of a bundle: its identity, and the size and SHA-256 of every file."""

import dataclasses
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from optimize.bundles.titles import title_with
from optimize.errors import BadInputError
from optimize.hashing import hash_file, hash_object

MANIFEST_FILE = "manifest.json"
FORMAT, READ_FORMATS = 3, (1, 2, 3)
LATER_FIELDS = {"trained_until": 2, "eligible_from": 2, "members": 3}  # format that brought the field
MANY_FILES = 100_000
MOST_BYTES = 2 << 30  # of one file: 8 times a policy of 64 million weights
MOST_JSON_BYTES = 64 << 20
MOST_UNPACKED_BYTES = 256 << 20  # of one archive, such as a scaler
MOST_TRAINED_BYTES = 8 << 30  # unpacked model.zip: weights, optimizer and no replay buffer
SHA256 = re.compile(r"[0-9a-f]{64}")
COUNT_KIND, TEXT_KIND, NUMBER_KIND, MAYBE_TEXT, MAYBE_NUMBER, TEXTS, FILES, MAYBE_COUNT, TEXT_LIST = range(9)
VALUE_KINDS: dict[Any, int] = {
    int: COUNT_KIND,
    str: TEXT_KIND,
    float: NUMBER_KIND,
    str | None: MAYBE_TEXT,
    float | None: MAYBE_NUMBER,
    dict[str, str]: TEXTS,
    dict[str, dict[str, Any]]: FILES,
    int | None: MAYBE_COUNT,
    list[str]: TEXT_LIST,
}


@dataclass(frozen=True)
class Manifest:
    """Identity of a bundle, and size and SHA-256 of each of its files."""

    format: int
    study: str
    trial: int | None  # None: an ensemble
    run_uuid: str
    score: float
    standard_error: float | None
    returns_sha256: str  # hash of the session returns of all windows
    data_fingerprint: str
    deployable: str  # origin of the policy at the top of the folder
    versions: dict[str, str]  # versions with which the bundle replayed bit for bit
    trained_with: dict[str, str]
    commit: str | None
    files: dict[str, dict[str, Any]]  # path in the bundle -> bytes, sha256
    trained_until: str | None = None  # first session after the training of the deployable policy
    eligible_from: str | None = None  # first session after all data of the study
    members: list[str] = field(default_factory=list)  # of an ensemble, such as "trial 7 seed 2"

    @property
    def title(self) -> str:
        """Return the trial, or the members of an ensemble."""
        return title_with(self.trial, self.members)


def verify_bundle(folder: Path) -> Manifest:
    """Verify the manifest and the content of every file; raise BadInputError with the file's name."""
    try:
        return _verified(folder)
    except PermissionError as error:
        raise _unreadable(error, folder) from None


def _unreadable(error: PermissionError, path: Path) -> BadInputError:
    """Return the error for a file of a bundle that this user may not read."""
    return BadInputError(
        f"{error.filename or path} cannot be read ({error.strerror}): ask its owner to let this user "
        "read the whole bundle"
    )


def _verified(folder: Path) -> Manifest:
    """Return the manifest of a bundle whose files are exactly the listed ones."""
    manifest = read_manifest(folder)
    found = dict(_walk(folder))
    for name in sorted(manifest.files.keys() - found.keys()):
        raise BadInputError(f"{folder / name} is missing from the bundle: copy or export the bundle again")
    for name in sorted(found.keys() - manifest.files.keys() - {MANIFEST_FILE}):
        raise BadInputError(f"{folder / name} is not part of the bundle: remove it, or export again")
    for name, entry in manifest.files.items():
        if found[name] != entry["bytes"] or hash_file(folder / name) != entry["sha256"]:
            raise BadInputError(
                f"{folder / name} was changed (its size or SHA-256 is not that of {MANIFEST_FILE}): "
                "export it again"
            )
        if name.endswith((".npz", ".zip")):
            refuse_bomb(folder / name, MOST_TRAINED_BYTES if name.endswith(".zip") else MOST_UNPACKED_BYTES)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest; refuse one whose own digest does not match."""
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        beside = sorted(path.name for path in folder.parent.glob("[0-9]*_trial_*") if path.is_dir())
        remedy = (
            f"{folder.parent} has {', '.join(beside)}" if beside else "walkforge export name=STUDY makes one"
        )
        raise BadInputError(f"bundle={folder}: no such folder; {remedy}")
    if not path.is_file() or path.is_symlink():
        raise BadInputError(f"{path} is missing: {folder} is not a bundle; name a folder under exports/")
    plain = read_json(path)
    stated = plain.pop("manifest_sha256", None)
    problem = _problem(plain)
    if problem is not None:
        raise BadInputError(f"{path} is damaged ({problem}): export the bundle again")
    manifest = Manifest(**plain)
    if stated != hash_object(plain) or _render(manifest) != path.read_bytes():
        raise BadInputError(f"{path} was changed: export the bundle again")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of all files in the folder, with a digest of itself."""
    files = {
        name: {"bytes": size, "sha256": hash_file(folder / name)}
        for name, size in sorted(_walk(folder))
        if name != MANIFEST_FILE
    }
    (folder / MANIFEST_FILE).write_bytes(_render(dataclasses.replace(manifest, files=files)))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a bundle; raise BadInputError if the file holds none."""
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise ValueError(f"it has more than {MOST_JSON_BYTES >> 20} MB")
        plain = json.loads(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise _unreadable(error, path) from None
    except (OSError, ValueError, RecursionError) as error:  # RecursionError: nested thousands deep
        raise BadInputError(f"{path} is damaged ({error}): export the bundle again") from None
    if not isinstance(plain, dict):
        raise BadInputError(f"{path} is damaged (it holds no JSON object): export the bundle again")
    return plain


def refuse_bomb(path: Path, most: int) -> None:
    """Raise BadInputError if a zip archive is damaged, or unpacks to more than `most` bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path} is not a zip archive ({error}): export the bundle again") from None
    if unpacked > most:
        raise BadInputError(
            f"{path} unpacks to {unpacked >> 20} MB, but at most {most >> 20} MB are allowed: "
            "no export writes such a file, so do not trust this bundle"
        )


def _walk(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the relative path and the size of every file; refuse links, devices and files too large."""
    for parent, folders, names in os.walk(folder):
        for name in [*names, *(each for each in folders if (Path(parent) / each).is_symlink())]:
            path = Path(parent) / name
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise BadInputError(f"{path} is not an ordinary file, but a link or device: remove it")
            if status.st_size > MOST_BYTES:
                raise BadInputError(
                    f"{path} has more than {MOST_BYTES >> 30} GB: no export writes such a file"
                )
            yield path.relative_to(folder).as_posix(), status.st_size


def _problem(plain: dict[str, Any]) -> str | None:
    """Return the first error of a manifest, None if it is valid."""
    stated = plain.get("format")
    if type(stated) is not int or stated not in READ_FORMATS:
        return f"its format is {str(stated)[:40]}, not {FORMAT}"
    fields = {field.name: field.type for field in dataclasses.fields(Manifest)}
    fields = {name: kind for name, kind in fields.items() if LATER_FIELDS.get(name, 1) <= stated}
    for name in sorted(fields.keys() ^ plain.keys()):
        return f"{name[:40]!r} is {'missing' if name in fields else 'unknown'}"
    for name, kind in fields.items():
        if not _fits(plain[name], VALUE_KINDS[kind]):
            return f"{name} is not of type {getattr(kind, '__name__', kind)}"
    return _problem_of_files(plain["files"])


def _problem_of_files(files: dict[str, Any]) -> str | None:
    """Return the first error of a list of files, None if it is valid."""
    if len(files) > MANY_FILES:
        return f"it lists {len(files)} files"
    for name, entry in files.items():
        parts = PurePosixPath(name).parts
        inside = parts and not name.startswith("/") and ".." not in parts and "\0" not in name
        if not inside or PurePosixPath(name).as_posix() != name:
            return f"{name[:80]!r} is not a path inside the bundle"
        size, digest = entry.get("bytes"), entry.get("sha256")
        if (
            set(entry) != {"bytes", "sha256"}
            or not _fits(size, COUNT_KIND)
            or not SHA256.fullmatch(str(digest))
        ):
            return f"the entry of {name[:80]!r} holds no bytes and sha256"
    return None


def _fits(value: Any, kind: int) -> bool:
    """Return whether a JSON value has the type."""
    if value is None:
        return kind in (MAYBE_TEXT, MAYBE_NUMBER, MAYBE_COUNT)
    if kind in (COUNT_KIND, MAYBE_COUNT):
        return type(value) is int and 0 <= value < 2**63
    if kind in (TEXT_KIND, MAYBE_TEXT):
        return isinstance(value, str)
    if kind in (NUMBER_KIND, MAYBE_NUMBER):
        return type(value) is float and math.isfinite(value)
    if kind == TEXT_LIST:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    values = value.values() if isinstance(value, dict) else [None]
    return isinstance(value, dict) and all(isinstance(v, str if kind == TEXTS else dict) for v in values)


def _render(manifest: Manifest) -> bytes:
    plain = dataclasses.asdict(manifest)
    plain = {name: value for name, value in plain.items() if LATER_FIELDS.get(name, 1) <= manifest.format}
    content = plain | {"manifest_sha256": hash_object(plain)}
    return f"{json.dumps(content, indent=2, sort_keys=True, allow_nan=False)}\n".encode()
