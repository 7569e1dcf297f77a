"""The folder of compiled kernels: private, whole, and there for a user without a home."""

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.compiled import compile_kernel
from envs.kernel_cache import OTHERS_WRITE, is_private, kernel_folder, read_checked, temporary_folder
from tests.conftest import REPOSITORY

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")


class Trap:
    """Writes a file as soon as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_folder_of_ours_that_others_could_write_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "planted.nbi").touch()
    folder.chmod(0o777)
    assert is_private(folder)
    assert not list(folder.iterdir())
    assert not folder.stat().st_mode & OTHERS_WRITE


def test_a_link_or_a_file_is_no_folder_of_kernels(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "file").touch()
    assert not is_private(tmp_path / "link")
    assert not is_private(tmp_path / "file")


@AS_ROOT
def test_a_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "restored afterwards")
    monkeypatch.setenv("MPLCONFIGDIR", "kept")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "file").touch()
    (tmp_path / "tmp").mkdir()
    theirs = tmp_path / "preferred" / "kernels"
    theirs.mkdir(parents=True)
    (theirs / "planted.nbi").touch()
    os.chown(theirs, NOBODY, NOBODY)
    temporary_folder.cache_clear()
    found = kernel_folder("kernels", tmp_path / "preferred")
    assert found == tmp_path / "tmp" / "walkforge-0" / "kernels"
    assert (theirs / "planted.nbi").exists()
    assert os.environ["NUMBA_CACHE_DIR"] == str(found.parent)
    assert os.environ["MPLCONFIGDIR"] == "kept"
    (line,) = capsys.readouterr().err.splitlines()
    assert "set NUMBA_CACHE_DIR to a folder that lasts" in line
    temporary_folder.cache_clear()


def doubled(x: float) -> float:
    return 2.0 * x


def hits(cache: Path) -> int:
    """Call a kernel that is compiled anew or read from the cache; return how often it was read."""
    kernel: Any = compile_kernel(doubled, cache, {"cache": True})
    assert kernel(1.5) == 3.0
    return sum(kernel.stats.cache_hits.values())


@pytest.mark.parametrize("change", [lambda b: b[:-7], lambda b: b[:40], lambda b: b"", lambda b: b + b"x"])
def test_a_file_that_was_cut_or_changed_is_not_read(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    assert (hits(tmp_path), hits(tmp_path)) == (0, 1)
    for pattern in ("*.nbi", "*.nbc"):
        (path,) = tmp_path.rglob(pattern)
        path.write_bytes(change(path.read_bytes()))
        assert (hits(tmp_path), hits(tmp_path)) == (0, 1)


def test_a_kernel_that_cannot_be_kept_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("envs.kernel_cache.ChecksummedFiles._save_index", full)
    assert (hits(tmp_path), hits(tmp_path)) == (0, 0)


def test_a_planted_pickle_is_not_read(tmp_path: Path) -> None:
    planted = tmp_path / "planted.nbi"
    planted.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert read_checked(planted) is None
    assert not (tmp_path / "sprung").exists()


@AS_ROOT
def test_a_user_without_a_home_can_use_kernels(tmp_path: Path) -> None:
    """The other user may read everything, as this interpreter may lie in a home, and write no more."""
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.chmod(0o777)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    code = "import envs.costs, optimize.agents.kernels.bindings, os; print(os.environ['NUMBA_CACHE_DIR'])"
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*become, *read, sys.executable, "-c", code],
        capture_output=True, text=True, env=environment, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / f"walkforge-{NOBODY}")
    (line,) = done.stderr.splitlines()
    assert "set NUMBA_CACHE_DIR to a folder that lasts" in line
