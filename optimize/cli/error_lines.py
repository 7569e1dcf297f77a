"""Every exception as one line (cause, place, remedy) with its exit code."""

import errno
import os
import re
import sys
import traceback as tracebacks
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from optimize.errors import OtherStudyError, WalkforgeError, first_filled_line
from optimize.secrets import hide_secrets

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
ALL_OF_IT = "debug.traceback=true shows the traceback"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")  # a terminal would obey these
FULL = {errno.ENOSPC, errno.EDQUOT}
# Messages of pyarrow and numpy, which set no errno.
SHORT_WRITE = re.compile(r"errno 28|No space left|requested and \d+ written", re.I)
SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
# Local variables that name the file which a frame was reading.
LOCAL_NAMES = (
    "path",
    "file",
    "folder",
    "place",
    "source",
    "partial",
)
DATABASE_SIGNS: tuple[tuple[str, int, str], ...] = (
    (r"readonly|read-only", EXIT_BAD_INPUT, "it is read-only here: make the file and its folder writable"),
    (r"permission denied|must be owner", EXIT_BAD_INPUT, "this user may not do that: ask for the right"),
    (r"unable to open", EXIT_BAD_INPUT, "see that its folder exists, may be written to and is not a link"),
    (r"is locked|lock timeout|deadlock", EXIT_FAILED, "another process holds it: try again later"),
    (r"is full|no space|disk i/o", EXIT_FAILED, "free space on its disk and run the same command again"),
    (
        r"malformed|not a database|corrupt|invalid page",
        EXIT_FAILED,
        "it is damaged: restore a copy, or save what can be read with `sqlite3 FILE .recover`",
    ),
    (
        r"no such (table|column|view)|does not exist|has no column|undefined",
        EXIT_BAD_INPUT,
        "it was made by another program or version: `walkforge doctor` examines it",
    ),
)


@dataclass(frozen=True)
class CommandFailure:
    """The end of a command: its line for a person (None: nothing to print) and its exit code."""

    line: str
    code: int


def describe(error: BaseException, words: Sequence[str] = ()) -> CommandFailure:
    """Return any exception as a line for the person who typed the command."""
    told = next((found for test in TESTS if (found := test(error)) is not None), None) or _defect(error)
    text = hide_secrets(told.line, words)
    if isinstance(error, OtherStudyError):
        return CommandFailure("\n".join(map(plain, text.split("\n"))), told.code)
    return CommandFailure(plain(text), told.code)


def report(failure: CommandFailure, error: BaseException, words: Sequence[str], *, traceback: bool) -> int:
    """Print a failure to stderr, the traceback before it where it is asked for, and return the exit code."""
    try:
        if traceback and failure.line:
            text = "".join(tracebacks.format_exception(error))
            print(hide_secrets(text, words), end="", file=sys.stderr)
        if failure.line:
            print(f"walkforge: {failure.line}", file=sys.stderr)
        sys.stderr.flush()
    except OSError:  # no stream is left to print to; the exit code remains
        _discard(sys.stderr.fileno())
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout.fileno())
    return failure.code


def open_streams() -> None:
    """Open the standard streams that the caller closed, so that no file takes their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
            setattr(sys, f"__{name}__", getattr(sys, name))


def plain(text: str) -> str:
    """Return a text as one line without control characters."""
    return CONTROL.sub("?", " ".join(text.split("\n")).replace("\t", " "))


def _own(error: BaseException) -> CommandFailure | None:
    return CommandFailure(str(error), error.exit_code) if isinstance(error, WalkforgeError) else None


def _left(error: BaseException) -> CommandFailure | None:
    if isinstance(error, KeyboardInterrupt):
        return CommandFailure("interrupted", EXIT_FAILED)
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
        return CommandFailure("", 0)
    if isinstance(error, SystemExit):
        code = error.code
        return CommandFailure("" if isinstance(code, int) or code is None else str(code), _exit_code(code))
    return None


def _exit_code(code: object) -> int:
    return code if isinstance(code, int) else 0 if code is None else EXIT_FAILED


def _short_of_room(error: BaseException) -> CommandFailure | None:
    if isinstance(error, MemoryError):
        return CommandFailure(
            "out of memory: use fewer workers, a shorter span or a smaller agent", EXIT_FAILED
        )
    if isinstance(error, RecursionError):
        return CommandFailure(f"a value or file is nested too deeply; {ALL_OF_IT}", EXIT_BAD_INPUT)
    return None


def _of_files(error: BaseException) -> CommandFailure | None:
    if not isinstance(error, OSError):
        return None
    where = error.filename if error.filename is not None else _path_in(error.__traceback__)
    said = error.strerror or first_filled_line(str(error)) or type(error).__name__
    what = said if where is None else f"{where}: {said}"
    if error.errno in FULL or (error.errno is None and SHORT_WRITE.search(said)):
        return CommandFailure(f"{what}: free space and run the same command again", EXIT_FAILED)
    if error.errno in SCARCE:
        return CommandFailure(f"{what}: use fewer workers, or raise the limit (ulimit -a)", EXIT_FAILED)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return CommandFailure(f"{what}: change its permissions, or name another place", EXIT_BAD_INPUT)
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG):
        return CommandFailure(f"{what}: name another path; {ALL_OF_IT}", EXIT_BAD_INPUT)
    return CommandFailure(f"{what}; {ALL_OF_IT}", EXIT_FAILED)


def _of_the_database(error: BaseException) -> CommandFailure | None:
    kind = type(error)
    names = {each.__module__.partition(".")[0] for each in kind.__mro__}
    if not names & {"sqlalchemy", "sqlite3", "psycopg", "alembic"}:
        return None
    said = first_filled_line(str(getattr(error, "orig", None) or error)) or kind.__name__
    for sign, code, remedy in DATABASE_SIGNS:
        if re.search(sign, said, re.IGNORECASE):
            return CommandFailure(f"database.url: {said}: {remedy}", code)
    return CommandFailure(f"database.url: {said}: `walkforge doctor` examines it; {ALL_OF_IT}", EXIT_FAILED)


def _of_content(error: BaseException) -> CommandFailure | None:
    """Describe a file whose content cannot be read: Parquet, zip, JSON, YAML, text."""
    room = type(error).__module__.partition(".")[0]
    damaged = room in ("pyarrow", "yaml", "json", "safetensors", "safetensors_rust")
    if not damaged and not isinstance(error, (zipfile.BadZipFile, UnicodeError)):
        return None
    where = _path_in(error.__traceback__)
    name = "a file" if where is None else str(where)
    said = first_filled_line(str(error)) or type(error).__name__
    return CommandFailure(
        f"{name} cannot be read ({said}): restore it or move it away; {ALL_OF_IT}", EXIT_FAILED
    )


def _defect(error: BaseException) -> CommandFailure:
    """Describe an unforeseen exception, which is a defect of Walkforge."""
    frames = [
        frame
        for frame in tracebacks.extract_tb(error.__traceback__)
        if {"optimize", "envs"} & set(Path(frame.filename).parts)
    ]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    said = first_filled_line(str(error))
    what = f"{type(error).__name__}{where}" + (f": {said}" if said else "")
    return CommandFailure(
        f"a defect of walkforge ({what}): {ALL_OF_IT}; please report it with the command", EXIT_FAILED
    )


def _path_in(traceback: TracebackType | None) -> str | None:
    """Return the path in a local variable of the innermost frame that has one."""
    found = None
    for frame, _ in tracebacks.walk_tb(traceback):
        for name in LOCAL_NAMES:
            value = frame.f_locals.get(name)
            if isinstance(value, Path) or (isinstance(value, str) and os.sep in value):
                found = str(value)
    return found


def _discard(number: int) -> None:
    """Send a stream without a reader to the null device, so that the process ends silently."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


TESTS: tuple[Callable[[BaseException], CommandFailure | None], ...] = (
    _own,
    _left,
    _short_of_room,
    _of_the_database,
    _of_content,
    _of_files,
)
