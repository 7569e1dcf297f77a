"""Files and folders are replaced whole or not at all, and the rests of killed processes are deleted."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.atomic import (
    ABANDONED_AFTER_S,
    append,
    partial_folder,
    partial_of,
    put_folder,
    remove_all_partials,
    replacing,
    replacing_folder,
)

OWN_MODULE = Path("optimize/atomic.py")
# The journal of a download cuts a torn file; it replaces nothing.
PRIMITIVES = re.compile(r"os\.(fsync|rename|replace)\(|\.rename\(\w*[a-z]\)|tempfile\.mk|NamedTemporaryFile")
NAMES_OF_COLUMNS = {"optimize/data/sources/files/read.py", "optimize/data/sources/files/columns.py"}


def test_an_error_leaves_the_old_file_and_no_partial_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path) as partial:
        (partial.write_text("half"), (tmp_path / "missing").read_text())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_when_the_block_ends(durable: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path, durable=durable) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.fixture
def _umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_modes_follow_the_umask(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as partial:
        partial.write_text("new")
    with replacing_folder(tmp_path / "b") as folder:
        (folder / "c").write_text("new")
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "b", "b/c")]
    assert modes == [0o640, 0o750, 0o640]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "market"
    for name in ("old", "new"):
        with replacing_folder(path) as partial:
            (partial / name).write_text(name)
        assert os.listdir(path) == [name]
    with pytest.raises(FileNotFoundError), replacing_folder(path) as partial:
        ((partial / "third").write_text("third"), (tmp_path / "missing").read_text())
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["market"]


def test_a_folder_that_was_renamed_is_kept(tmp_path: Path) -> None:
    with partial_folder(tmp_path / "bundle") as partial:
        put_folder(partial, tmp_path / "bundle")
    assert os.listdir(tmp_path) == ["bundle"]


def test_partial_files_of_others_are_deleted_once_they_were_abandoned(tmp_path: Path) -> None:
    path = tmp_path / "a"
    writing, abandoned, other = partial_of(path), partial_of(path), partial_of(tmp_path / "b")
    for each in (writing, abandoned, other):
        each.write_text("half")
    long_ago = time.time() - ABANDONED_AFTER_S - 60
    os.utime(abandoned, (long_ago, long_ago))
    os.utime(other, (long_ago, long_ago))
    with replacing(path) as partial:
        partial.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted(["a", writing.name, other.name])
    with replacing(path, alone=True) as partial:
        partial.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted(["a", other.name])


def test_a_folder_that_is_still_written_to_is_not_abandoned(tmp_path: Path) -> None:
    writing = partial_of(tmp_path / "run")
    writing.mkdir()
    (writing / "window").write_text("1")
    long_ago = time.time() - ABANDONED_AFTER_S - 60
    os.utime(writing, (long_ago, long_ago))
    with replacing_folder(tmp_path / "run") as partial:
        (partial / "window").write_text("2")
    assert writing.is_dir()
    remove_all_partials(tmp_path)
    assert os.listdir(tmp_path) == ["run"]


def test_bytes_are_appended(tmp_path: Path) -> None:
    append(tmp_path / "log", b"a")
    append(tmp_path / "log", b"b")
    assert (tmp_path / "log").read_bytes() == b"ab"


def test_one_module_alone_renames_and_flushes() -> None:
    found = {
        str(path)
        for path in Path("optimize").rglob("*.py")
        if path != OWN_MODULE and PRIMITIVES.search(path.read_text(encoding="utf-8"))
    }
    assert found <= NAMES_OF_COLUMNS
