"""Files that a user names: read only where they are regular files of a reasonable size."""

import os
import stat
from pathlib import Path

from optimize.errors import BadInputError

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
MB = 1_000_000


def check_file(path: str | Path, key: str) -> Path:
    """Return the path that a key names; BadInputError unless it is a regular file that can be read."""
    if "\0" in str(path):
        raise BadInputError(f"{key} contains a NUL character: write the path of a file")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise BadInputError(f"{key}: there is no file {path}") from None
    except OSError as error:
        raise BadInputError(f"{key}: cannot reach {path} ({error.strerror}): name a file") from None
    kind = next((words for is_kind, words in KINDS if is_kind(mode)), None)
    if kind is not None:
        raise BadInputError(f"{key}: {path} is {kind}: name a regular file")
    if not os.access(path, os.R_OK):
        raise BadInputError(f"{key}: {path} may not be read by this user: change its permissions")
    return Path(path)


def read_file(path: str | Path, key: str, most_bytes: int = 10 * MB) -> str:
    """Return the text of a regular UTF-8 file that a key names."""
    found = check_file(path, key)
    size = found.stat().st_size
    if size > most_bytes:
        raise BadInputError(f"{key}: {path} has {size:,} bytes: at most {most_bytes:,} are allowed")
    try:
        return found.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInputError(
            f"{key}: {path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None
    except OSError as error:
        raise BadInputError(f"{key}: cannot read {path} ({error.strerror})") from None
