"""The folder of a study: one alone, readable as the umask has it, and named where it cannot be read."""

import os
import stat
from pathlib import Path

import pytest
from rich.console import Console

from optimize.errors import BadInputError
from optimize.study import shared_folder as place
from optimize.study.launch.run import run_phase
from optimize.study.shared_folder import find_folder, mark_folder, refuse_second_folder
from optimize.walkforward.files import write_json
from tests.optimize.study.studies import opened, small_spec


def test_a_study_is_refused_a_second_folder_while_the_first_holds_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = small_spec(tmp_path, n_trials=1, output_dir="studies")
    mark_folder(opened(spec))
    refuse_second_folder(opened(spec))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(BadInputError, match=rf"keeps its files in {tmp_path}.*run it from {tmp_path}, or"):
        run_phase(spec, Console(quiet=True))
    assert not spec.folder.exists()


def test_a_folder_that_was_moved_or_deleted_may_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    context = opened(small_spec(tmp_path, n_trials=1, output_dir="studies"))
    mark_folder(context)
    (tmp_path / "first").rename(tmp_path / "second")
    monkeypatch.chdir(tmp_path / "second")
    refuse_second_folder(context)
    mark_folder(context)
    refuse_second_folder(context)


def test_a_folder_that_this_user_may_not_read_is_named_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small_spec(tmp_path))
    mark_folder(context)
    monkeypatch.setattr(place, "_token", lambda probe: None)

    def closed(probe: Path) -> str | None:
        return "ada" if probe.exists() else None

    monkeypatch.setattr(place, "_closed_by", closed)
    with (
        context.engine.connect() as conn,
        pytest.raises(BadInputError, match="belongs to user ada, and this"),
    ):
        find_folder(conn, "small", None, "nowhere")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_the_owner_of_a_closed_folder_is_found_by_another_user(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    probe = tmp_path / "closed" / place.PROBE
    probe.touch()
    owner = tmp_path.owner()
    os.seteuid(65534)
    try:
        found, missing = place._closed_by(probe), place._closed_by(Path("/nowhere") / place.PROBE)
    finally:
        os.seteuid(0)
    assert (found, missing) == (owner, None)
    assert place._closed_by(probe) is None


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_umask_decides_who_reads_a_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "config.json", {"a": 1})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == mode
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
