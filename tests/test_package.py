"""The built wheel carries everything, and no source file has grown past its room."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SOURCES = ("envs", "optimize", "tests", "benchmarks")
MOST_LINES = 400  # hard; 300 is the soft limit


def test_the_wheel_works_from_any_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    built = subprocess.run([*command, str(REPOSITORY)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("walkforge-*.whl")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = (
        "import optimize, envs, optimize.conf, optimize.queries as q; print(optimize.__file__, q.__file__)"
    )
    for arguments in (["-c", where], ["-m", "optimize", "study", "name=x", "--cfg", "job"]):
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=elsewhere,
            env=os.environ | {"PYTHONPATH": str(unpacked)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        if arguments[0] == "-c":
            assert ran.stdout.count(str(unpacked)) == 2
        else:
            assert "total_timesteps" in ran.stdout
    homes = {
        "envs": "envs",
        "optimize": "optimize",
        "conf": "optimize/conf",
        "databases/queries": "optimize/queries",
    }
    for source, home in homes.items():
        for file in (REPOSITORY / source).rglob("*"):
            if file.suffix in (".py", ".yaml", ".sql"):
                assert (unpacked / home / file.relative_to(REPOSITORY / source)).is_file(), file


@pytest.mark.parametrize("folder", SOURCES)
def test_no_file_is_over_400_lines(folder: str) -> None:
    files = list((REPOSITORY / folder).rglob("*.py"))
    long = {str(file): n for file in files if (n := len(file.read_text().splitlines())) > MOST_LINES}
    assert not long
