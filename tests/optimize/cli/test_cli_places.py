"""Databases, folders and files that cannot be used are one line and exit code 2, before any training."""

from pathlib import Path

import pytest

from optimize.cli import main


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said, said
    return said


def test_a_text_file_is_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.db").write_text("not a database, however long it may be " * 20)
    for verb in ("study", "status", "leaderboard"):
        said = refused([verb, "name=x", "database.url=sqlite:///text.db"], capsys)
        assert "not an SQLite database" in said


def test_a_folder_is_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a folder" in refused(["study", "name=x", f"database.url=sqlite:///{tmp_path}"], capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "name=x", "failures=true"],
        ["leaderboard", "name=x"],
        ["query", "sql=best_models", "name=x"],
        ["report", "name=x"],
        ["dashboard"],
        ["dashboard", "name=x"],
        ["finalists", "name=x"],
        ["export", "name=x"],
        ["replay", "name=x", "trial=0"],
        ["worker", "name=x", "wait_s=0"],
        ["study", "name=x", "action=stop"],
        ["prune", "name=x"],
        ["prune", "name=x", "confirm=true"],
        ["delete", "name=x"],
        ["delete", "name=x", "confirm=true"],
    ],
    ids=" ".join,
)
def test_a_database_that_is_not_there_is_not_made(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no database" in refused([*words, "database.url=sqlite:///databases/none.db"], capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_output_dir_that_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    assert "output_dir" in refused(["study", "name=x", "output_dir=taken"], capsys)


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("seed=99999999999999999999999", "seed"),
        ("data.months=99999999", "data.months"),
        ("space=5", "space=5 is not allowed: the choices are a2c, dqn"),
    ],
)
def test_values_out_of_bounds(argument: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert word in refused(["study", "name=x", argument], capsys)


def write_stamps(path: Path, last: str) -> Path:
    rows = [f"{1577836800 + 3600 * hour},1,1,1,1" for hour in range(50)]
    path.write_text("\n".join(["timestamp,open,high,low,close", *rows, f"{last},1,1,1,1"]) + "\n")
    return path


def test_a_stamp_without_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_stamps(tmp_path / "epoch.csv", "inf")
    assert "timestamp" in refused(["data", "data=file", f"data.path={file}"], capsys)


def test_a_stamp_of_another_unit_is_refused_by_its_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_stamps(tmp_path / "epoch.csv", "1000000000000000")  # microseconds: 2001
    assert main(["data", "data=file", f"data.path={file}"]) == 2
    assert "  refuse order EPOCH: unsorted: 1 bar stamped before the one above" in capsys.readouterr().out


def test_stamps_beyond_the_range_of_nanoseconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "far.csv"
    file.write_text("timestamp,open,high,low,close\n2024-01-01,1,1,1,1\n2917-01-01,1,1,1,1\n")
    assert "timestamp" in refused(["data", "data=file", f"data.path={file}"], capsys)
