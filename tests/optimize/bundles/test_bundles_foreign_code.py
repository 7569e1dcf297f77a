"""No command runs code that a foreign database names before a person has named it."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from optimize import extensions
from optimize.cli import main
from optimize.data.features.registry import FEATURES
from optimize.database import DatabaseSpec, open_engine
from optimize.database.sqlite import database_path
from optimize.errors import BadInputError
from optimize.results.records import load_study
from optimize.study.workers.machine_compatibility import MachineSettings, spec_on_machine
from tests.optimize.study.bundles import Exports

FOREIGN = '''
from pathlib import Path
from optimize.data.features import feature

Path(__file__).with_name("ran").touch()


@feature("foreign", warmup=1)
def foreign(bars):
    """Close over open."""
    return [bars.close / bars.open]
'''
READ = "read it, then add extensions=["


@pytest.fixture
def received(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a database whose study names a file beside it by a relative path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign.py").write_text(FOREIGN, encoding="utf-8")
    with exports.context.engine.connect() as conn:  # the copied file needs the rows of the log
        conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(database_path(exports.context.spec.database.url), tmp_path / "received.db")
    with closing(sqlite3.connect(tmp_path / "received.db")) as conn:
        for table in ("wf_studies", "wf_runs"):
            for row, text in conn.execute(f"SELECT rowid, spec_json FROM {table}").fetchall():
                spec = json.dumps(json.loads(text) | {"extensions": ["./foreign.py"]})
                conn.execute(f"UPDATE {table} SET spec_json = ? WHERE rowid = ?", (spec, row))
        conn.commit()
    return tmp_path


COMMANDS = [
    ["replay", "name=tiny", "trial=0"],
    ["export", "name=tiny", "top_n=3", "gate=none"],
    ["study", "name=tiny", "n_trials=4"],
]


@pytest.mark.parametrize("words", COMMANDS)
def test_no_command_runs_code_that_only_the_database_names(
    received: Path, exports: Exports, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["database.url=sqlite:///received.db"]
    folder = [] if words[0] == "replay" else [f'output_dir="{exports.output_dir}"']
    if words[0] == "export":  # nothing is to be written where the bundles of the other tests are
        shutil.copytree(exports.output_dir, received / "studies")
        shutil.rmtree(received / "studies" / "tiny" / "exports")
        folder = []
    assert main([*words, *place, *folder]) == 2
    assert READ in capsys.readouterr().err
    assert not (received / "ran").exists()


def test_no_worker_takes_such_a_study(received: Path) -> None:
    place = "sqlite:///received.db"
    with open_engine(place, read_only=True).connect() as conn:
        record = load_study(conn, "tiny")
    assert record is not None
    with pytest.raises(BadInputError, match="read it, then add extensions="):
        spec_on_machine(record, str(received), MachineSettings(DatabaseSpec(place)))
    machine = MachineSettings(DatabaseSpec(place), extensions=["foreign.py"])
    assert spec_on_machine(record, str(received), machine).extensions == [str(received / "foreign.py")]


def test_code_that_a_person_names_runs(
    received: Path, exports: Exports, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["replay", "name=tiny", "trial=0", "database.url=sqlite:///received.db"]
    assert main([*words, "extensions=[foreign.py]"]) == 0
    assert (received / "ran").exists()
    (received / "ran").unlink()
    FEATURES.pop("foreign")
    extensions._LOADED.clear()
    assert main(words) == 0  # it was named before
    assert (received / "ran").exists()
    assert "reproduced bit for bit" in capsys.readouterr().out
