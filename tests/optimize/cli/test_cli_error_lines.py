"""Every exception ends in one line and exit code 1 or 2."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from sqlalchemy.exc import OperationalError

from optimize.cli import dispatch
from optimize.cli.error_lines import describe
from optimize.errors import BadInputError, WalkforgeError
from tests.conftest import REPOSITORY
from tests.optimize.cli.conftest import Run
from tests.tiers import mostly_slow


def refused(text: str) -> OperationalError:
    return OperationalError("SELECT 1", {}, sqlite3.OperationalError(text))


RAISED: list[tuple[BaseException, int, str]] = [
    (BadInputError("x is wrong"), 2, "x is wrong"),
    (WalkforgeError("two\nlines"), 1, "two lines"),
    (
        OSError(errno.ENOSPC, "No space left on device", "a.npy"),
        1,
        "a.npy: No space left on device: free space",
    ),
    (OSError("94176 requested and 61408 written"), 1, "free space"),  # as numpy words a full disk
    (OSError("[Errno 28] Error writing bytes to file"), 1, "free space"),  # as pyarrow does
    (OSError("Couldn't deserialize thrift"), 1, "Couldn't deserialize thrift; debug.traceback"),
    (PermissionError(errno.EACCES, "Permission denied", "a.db"), 2, "a.db: Permission denied: change its"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "aa"), 2, "name another path"),
    (OSError(errno.EMFILE, "Too many open files"), 1, "ulimit"),
    (refused("attempt to write a readonly database"), 2, "it is read-only here"),
    (refused("database disk image is malformed"), 1, "it is damaged"),
    (refused("no such column: runs.x"), 2, "another program or version"),
    (refused("database is locked"), 1, "another process holds it"),
    (pa.ArrowInvalid("Parquet magic bytes not found"), 1, "cannot be read (Parquet magic bytes not found)"),
    (yaml.YAMLError("a tab"), 1, "cannot be read"),
    (RecursionError("maximum recursion depth exceeded"), 2, "nested too deeply"),
    (MemoryError(), 1, "out of memory"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 1, "cannot be read"),
    (KeyboardInterrupt(), 1, "interrupted"),
    (ZeroDivisionError("division by zero"), 1, "a defect of walkforge (ZeroDivisionError"),
    (WalkforgeError("\x1b[31mred\x07"), 1, "?[31mred?"),
    (WalkforgeError("postgresql://me:sesame@db/x is away"), 1, "postgresql://me:***@db/x"),
]


@pytest.mark.parametrize(("error", "code", "words"), RAISED, ids=lambda value: type(value).__name__)
def test_every_exception_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(dispatch, "_run", fail)
    found, out, err = run("status", "name=x")
    assert (found, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith("walkforge: ")
    assert words in err
    assert "Traceback" not in err


def test_the_traceback_is_shown_where_it_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(dispatch, "_run", fail)
    assert "Traceback" in run("status", "debug.traceback=true")[2]
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in run("status")[2]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        raise pa.ArrowInvalid("Parquet magic bytes not found")

    with pytest.raises(pa.ArrowInvalid) as raised:
        read(tmp_path / "returns.parquet")
    assert str(tmp_path / "returns.parquet") in describe(raised.value).line


SHELL = [
    ("{walkforge} --help | head -1", 0),
    ("{walkforge} study --help >&-", 0),
    ("{walkforge} nothing 2>&-", 2),
    ("{walkforge} nothing <&- >&- 2>&-", 2),
    ("{walkforge} --help > /dev/full", 1),
]


@pytest.mark.parametrize(("line", "code"), mostly_slow(SHELL, SHELL[0]))
def test_closed_streams_leave_the_right_exit_code(tmp_path: Path, line: str, code: int) -> None:
    command = line.format(walkforge=f"{sys.executable} -m optimize")
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.count("\n") <= 1


@pytest.mark.slow
def test_a_directory_of_invocation_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m optimize study name=x"
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "walkforge: the directory of invocation is gone: change to another one\n"


@pytest.mark.slow
def test_another_package_called_envs_is_named(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "optimize", "status", "name=x"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert f"the package envs of {tmp_path / 'envs'} hides the one" in done.stderr
