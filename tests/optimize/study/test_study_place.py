"""The folder of a study: one alone, readable as the umask has it, and named where it cannot be read."""

import dataclasses
import os
import stat
from pathlib import Path

import pytest
from rich.console import Console

from optimize.errors import BadInputError
from optimize.study import place
from optimize.study.files import write_json
from optimize.study.place import find_folder, mark_folder, refuse_second_folder
from optimize.study.runner import run_phase
from tests.optimize.study.studies import opened, small_spec


def test_a_study_is_refused_a_second_folder_while_the_first_holds_its_token(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=1)
    mark_folder(opened(spec))
    elsewhere = dataclasses.replace(spec, output_dir=str(tmp_path / "other" / "studies"))
    with pytest.raises(
        BadInputError, match=rf"keeps its files in .*write output_dir={tmp_path / 'studies'},"
    ):
        run_phase(elsewhere, Console(quiet=True))
    assert not elsewhere.folder.exists()
    refuse_second_folder(opened(spec))
    relative = dataclasses.replace(spec, output_dir=os.path.relpath(spec.output_dir))
    refuse_second_folder(opened(relative))


def test_a_folder_that_was_moved_or_deleted_may_be_followed(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=1)
    mark_folder(opened(spec))
    (tmp_path / "moved").mkdir()
    spec.folder.rename(tmp_path / "moved" / spec.name)
    moved = opened(dataclasses.replace(spec, output_dir=str(tmp_path / "moved")))
    refuse_second_folder(moved)
    mark_folder(moved)
    refuse_second_folder(moved)


def test_a_folder_that_this_user_may_not_read_is_named_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = opened(small_spec(tmp_path))
    mark_folder(handle)
    monkeypatch.setattr(place, "_token", lambda probe: None)

    def closed(probe: Path) -> str | None:
        return "ada" if probe.exists() else None

    monkeypatch.setattr(place, "_closed_by", closed)
    with handle.engine.connect() as conn, pytest.raises(BadInputError, match="belongs to user ada, and this"):
        find_folder(conn, "small", None, "nowhere")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_umask_decides_who_reads_a_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "config.json", {"a": 1})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == mode
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
