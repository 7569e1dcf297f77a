"""The doctor: what it finds, what it mends, and what it leaves alone."""

import shutil
from collections import Counter
from pathlib import Path

import optuna
import pytest
from sqlalchemy import text, update

from optimize.database import DatabaseSpec, is_sqlite, open_engine
from optimize.errors import BadInputError
from optimize.results import leases
from optimize.results.records import ExportRecord, Outcome, load_exports, save_export
from optimize.results.runs import finish_run
from optimize.results.tables import LEASES, STUDIES
from optimize.results.trash import put_back
from optimize.study.claims.caps import Verdict
from optimize.study.devices import THREAD_VARIABLES
from optimize.study.doctor import machine
from optimize.study.doctor.audit import TRASH
from optimize.study.doctor.examination import Treatment, treat
from optimize.study.doctor.findings import FAIL, OK, WARN
from optimize.study.handle import Handle
from optimize.study.place import mark_folder
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import claimed, expire, opened, play, rows, states

MACHINE = {"cores", "memory", "gpu", "threads", "disk"}


def launched(handle: Handle) -> Handle:
    handle.spec.folder.mkdir(parents=True, exist_ok=True)
    mark_folder(handle)
    return handle


def treated(handle: Handle, repair: bool = False, name: str | None = None) -> list[Treatment]:
    """Return what the doctor says of anything but the machine, which is busy with tests."""
    found = treat(handle.spec.database, handle.spec.output_dir, name, repair)
    return [each for each in found if each.finding.check not in MACHINE]


def levels(found: list[Treatment]) -> Counter[str]:
    return Counter(each.level for each in found)


def only(found: list[Treatment], level: str) -> Treatment:
    (treatment,) = [each for each in found if each.finding.level == level]
    return treatment


def test_a_sound_study_is_all_ok(small: Small) -> None:
    handle = launched(opened(small(n_trials=1)))
    play(handle)
    found = treated(handle)
    assert set(levels(found)) == {OK}, found
    checks = {each.finding.check for each in found}
    assert checks >= {"database", "rows", "leases", "folders", "files", "versions"}
    assert checks >= ({"journal"} if is_sqlite(handle.spec.database.url) else {"clock", "connections"})
    assert not any(each.done for each in treated(handle, repair=True))


def test_stale_leases_are_given_back_without_a_loss(small: Small) -> None:
    handle = launched(opened(small(n_trials=1)))
    claimed(handle)
    assert set(levels(treated(handle))) == {OK}  # it lives
    orphan(handle)
    assert "1 leases are stale (trials 0)" in only(treated(handle), WARN).finding.said
    assert only(treated(handle, repair=True), WARN).done == "released the leases of 0"
    assert set(levels(treated(handle))) == {OK}
    assert claimed(handle).lease.losses == 0


def orphan(handle: Handle) -> None:
    """Make every lease look as if its owner had died."""
    with handle.engine.begin() as conn:
        conn.execute(update(LEASES).values(process_started=1.0))


def test_a_lease_that_is_renewed_while_it_is_looked_at_is_left_alone(small: Small) -> None:
    handle = launched(opened(small(n_trials=1)))
    lease = claimed(handle).lease
    orphan(handle)
    (found,) = [each.finding for each in treated(handle) if each.finding.check == "leases"]
    with handle.engine.begin() as conn:
        conn.execute(update(LEASES).values(process_started=lease.process_started))
    assert found.mend is not None
    assert found.mend() == "released the leases of none any more"
    with handle.engine.begin() as conn:
        leases.renew(conn, lease, 1e10)


def test_a_recorded_trial_is_told_through_optuna(small: Small) -> None:
    handle = launched(opened(small(n_trials=1)))
    found = claimed(handle)
    with handle.engine.begin() as conn:
        finish_run(conn, found.lease, Outcome("COMPLETE", 1.0, score=1.25))
    assert set(levels(treated(handle))) == {OK}  # its owner lives and tells it itself
    expire(handle.spec, 0)
    assert any("recorded and not told to Optuna (0)" in each.finding.said for each in treated(handle))
    done = [each.done for each in treated(handle, repair=True) if each.done]
    assert done[0] == "told 0"
    assert states(handle) == {"COMPLETE": 1}
    assert handle.study.best_value == 1.25
    assert set(levels(treated(handle))) == {OK}
    assert not rows(handle.spec, "SELECT * FROM wf_leases")


def test_rows_that_belong_to_nothing_are_moved_aside_and_no_others(small: Small) -> None:
    handle = launched(opened(small(n_trials=2)))
    play(handle)
    gone = opened(small(name="gone", n_trials=1))
    play(gone)
    claimed(opened(small(name="gone", n_trials=2)))
    kept = len(rows(handle.spec, "SELECT * FROM wf_windows")) - 2
    optuna.delete_study(study_name="gone", storage=handle.storage)  # as its own tools do, past our tables
    found = only(treated(handle, name="small"), WARN)
    assert "1 of wf_leases, 2 of wf_runs" in found.finding.said
    assert "wf_studies" in str(only(treated(handle, repair=True, name="small"), WARN).done)
    assert set(levels(treated(handle, name="small"))) == {OK}
    assert len(rows(handle.spec, "SELECT * FROM wf_windows")) == kept == 4
    assert rows(handle.spec, "SELECT study_name FROM wf_studies") == [("small",)]
    assert play(handle) is Verdict.FULL
    with handle.engine.begin() as conn:  # nothing of them was lost
        assert (put_back(conn, "wf_runs"), put_back(conn, "wf_windows")) == (2, 2)
    assert len(rows(handle.spec, "SELECT * FROM wf_windows")) == kept + 2


def test_folders_without_rows_are_moved_and_never_deleted(small: Small) -> None:
    handle = launched(opened(small(n_trials=1)))
    play(handle)
    stray = handle.spec.folder / "trials" / "0007_0badcafe"
    stray.mkdir()
    (stray / "precious.txt").write_text("mine")
    (handle.spec.folder / "trials" / "notes").mkdir()  # no folder of a run
    assert "1 folders of runs have no row (0007_0badcafe)" in only(treated(handle), WARN).finding.said
    assert stray.is_dir()
    assert only(treated(handle, repair=True), WARN).done
    (moved,) = (Path(handle.spec.output_dir) / TRASH).glob("*/small/0007_0badcafe/precious.txt")
    assert moved.read_text() == "mine"
    assert set(levels(treated(handle))) == {OK}


def test_folders_of_another_database_are_left_alone(small: Small) -> None:
    handle = opened(small(n_trials=1))  # a name that another database has a study of
    stray = handle.spec.folder / "trials" / "0000_0badcafe"
    stray.mkdir(parents=True)
    other = Path(handle.spec.output_dir) / "stranger"
    other.mkdir()
    (other / "config.json").write_text("{}")
    found = [each for each in treated(handle, repair=True) if each.finding.level == WARN]
    assert ["another database may own" in each.finding.remedy for each in found] == [True, False]
    assert "does not (stranger)" in found[1].finding.said
    assert not any(each.done for each in found)
    assert stray.is_dir()
    assert other.is_dir()


def test_returns_that_are_gone_fail_until_it_is_recorded(small: Small, tmp_path: Path) -> None:
    handle = launched(opened(small(n_trials=2)))
    play(handle)
    ((path,),) = rows(
        handle.spec, "SELECT returns_path FROM wf_windows JOIN wf_runs USING (run_uuid) "
        "WHERE trial_number = 1 AND \"window\" = 0"
    )  # fmt: skip
    (handle.spec.folder / path).unlink()
    found = only(treated(handle), FAIL)
    assert "the returns of 1 of 4 windows are gone (trials 1)" in found.finding.said
    assert "put the files back" in found.finding.remedy
    assert only(treated(handle, repair=True), FAIL).level == OK
    assert set(levels(treated(handle))) == {OK}
    shutil.move(handle.spec.output_dir, tmp_path / "elsewhere")
    found = only(treated(handle, repair=True), FAIL)  # a wrong folder must not cost the records
    assert (found.done, "output_dir=" in found.finding.remedy) == (None, True)


def test_bundles_are_compared_with_what_was_exported(small: Small, tmp_path: Path) -> None:
    handle = launched(opened(small()))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("changed")
    with handle.engine.begin() as conn:
        for folder in (bundle, tmp_path / "gone", tmp_path / "unmounted" / "bundle"):
            save_export(conn, ExportRecord(str(folder), "small", 0, "x", 1, 1.0, "00"))
    assert "not what was exported" in only(treated(handle), FAIL).finding.said
    assert "export makes them anew" in only(treated(handle), WARN).finding.remedy
    assert "forgot 1 bundles" in str(only(treated(handle, repair=True), WARN).done)
    with handle.engine.connect() as conn:  # where nothing is mounted nothing can be said to be gone
        assert [each.bundle for each in load_exports(conn, "small")] == [
            str(bundle),
            str(tmp_path / "unmounted" / "bundle"),
        ]


def test_other_packages_are_a_warning(small: Small) -> None:
    handle = launched(opened(small()))
    with handle.engine.begin() as conn:
        conn.execute(update(STUDIES).values(versions={"numpy": "0.1"}))
    assert "numpy 0.1 there" in only(treated(handle), WARN).finding.said


def test_a_database_that_is_away_damaged_or_not_there_yet(tmp_path: Path) -> None:
    def database(url: str) -> list[Treatment]:
        found = treat(DatabaseSpec(url=url), str(tmp_path / "studies"), None, repair=False)
        return [each for each in found if each.finding.check not in MACHINE]

    away = only(database("postgresql://nobody@127.0.0.1:1/none"), FAIL)
    assert "start the server" in away.finding.said
    assert "\n" not in away.finding.said
    new = only(database(f"sqlite:///{tmp_path / 'new.db'}"), OK)
    assert "none yet" in new.finding.said
    assert not (tmp_path / "new.db").exists()
    (tmp_path / "text.db").write_text("no database at all" * 100)
    assert "no SQLite database" in only(database(f"sqlite:///{tmp_path / 'text.db'}"), FAIL).finding.said


def test_damage_inside_the_file_is_found(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'damaged.db'}"
    engine = open_engine(url)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE numbers (n INTEGER, name TEXT)"))
        conn.execute(text("CREATE INDEX by_name ON numbers (name)"))
        for n in range(300):
            conn.execute(text("INSERT INTO numbers VALUES (:n, :name)"), {"n": n, "name": f"name {n}" * 5})
    with engine.connect() as conn:
        conn.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    engine.dispose()
    content = bytearray((tmp_path / "damaged.db").read_bytes())
    place = content.rindex(b"name 150")
    content[place : place + 8] = b"gone 150"
    (tmp_path / "damaged.db").write_bytes(content)
    found = [each for each in treat(DatabaseSpec(url=url), str(tmp_path), None, False) if each.level == FAIL]
    assert "damaged" in found[0].finding.said


def test_one_study_is_named_or_refused(small: Small) -> None:
    handle = launched(opened(small(n_trials=1)))
    opened(small(name="other"))
    assert not any("other:" in each.finding.said for each in treated(handle, name="small"))
    assert any("other:" in each.finding.said for each in treated(handle))
    with pytest.raises(BadInputError, match="did you mean small"):
        treated(handle, name="smal")


def test_a_repair_that_fails_hides_no_other(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = launched(opened(small(n_trials=1)))
    claimed(handle)
    orphan(handle)
    (handle.spec.folder / "trials" / "0007_0badcafe").mkdir(parents=True)

    def refuse(*args: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(leases, "abandon", refuse)
    failed, moved = [each for each in treated(handle, repair=True) if each.finding.level == WARN]
    assert (failed.failed, failed.level, bool(moved.done)) == ("the disk is full", WARN, True)


def test_the_machine_is_judged_by_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> dict[str, str]:
        return {each.check: each.level for each in machine.examine_machine({"studies": tmp_path / "new"})}

    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (1.0, 1.0, 1.0))
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(machine, "count_gpus", lambda: 0)
    monkeypatch.setattr(machine, "LITTLE_MEMORY", 1.0)
    monkeypatch.setattr(machine, "LITTLE_DISK", 1.0)
    monkeypatch.setattr(machine, "NO_DISK", 0.0)
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert set(look().values()) == {OK}
    monkeypatch.setattr("os.getloadavg", lambda: (9.0, 1.0, 1.0))
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(machine, "LITTLE_MEMORY", 1e18)
    monkeypatch.setattr(machine, "LITTLE_DISK", 1e18)
    assert set(look().values()) == {WARN}
    monkeypatch.setattr(machine, "NO_DISK", 1e17)
    assert look()["disk"] == FAIL


def test_a_lease_of_an_ended_trial_is_released(small: Small) -> None:
    handle = launched(opened(small(n_trials=1)))
    found = claimed(handle)
    handle.study.tell(found.trial.number, state=optuna.trial.TrialState.FAIL)
    orphan(handle)
    assert only(treated(handle, repair=True), WARN).done
    assert not rows(handle.spec, "SELECT * FROM wf_leases")
