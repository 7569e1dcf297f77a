"""The doctor: its findings, its repairs, and healthy parts that it does not touch."""

import shutil
from collections import Counter
from pathlib import Path

import optuna
import pytest
from sqlalchemy import text, update

from optimize.database import DatabaseSpec, is_sqlite, open_engine
from optimize.doctor import machine
from optimize.doctor.examination import Treatment, treat
from optimize.doctor.findings import FAIL, OK, WARN
from optimize.doctor.study import TRASH_FOLDER
from optimize.errors import BadInputError
from optimize.results import leases
from optimize.results.orphans import put_back
from optimize.results.records import ExportRecord, Outcome, load_exports, save_export
from optimize.results.runs import finish_run
from optimize.results.states import RunState
from optimize.results.tables import LEASES, STUDIES
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial
from optimize.study.shared_folder import mark_folder
from optimize.study.workers.gpus import THREAD_VARIABLES
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import claimed, expire, opened, play, rows, states

MACHINE = {"cores", "memory", "gpu", "threads", "disk"}


def launched(context: StudyContext) -> StudyContext:
    context.spec.folder.mkdir(parents=True, exist_ok=True)
    mark_folder(context)
    return context


def treated(context: StudyContext, repair: bool = False, name: str | None = None) -> list[Treatment]:
    """Return the doctor's findings, without those of the machine, which is busy with tests."""
    found = treat(context.spec.database, context.spec.output_dir, name, repair)
    return [each for each in found if each.finding.check not in MACHINE]


def levels(found: list[Treatment]) -> Counter[str]:
    return Counter(each.level for each in found)


def only(found: list[Treatment], level: str) -> Treatment:
    (treatment,) = [each for each in found if each.finding.level == level]
    return treatment


def test_a_sound_study_is_all_ok(small: Small) -> None:
    context = launched(opened(small(n_trials=1)))
    play(context)
    found = treated(context)
    assert set(levels(found)) == {OK}, found
    checks = {each.finding.check for each in found}
    assert checks >= {"database", "rows", "leases", "folders", "files", "versions"}
    assert checks >= ({"journal"} if is_sqlite(context.spec.database.url) else {"clock", "connections"})
    assert not any(each.done for each in treated(context, repair=True))


def test_stale_leases_are_given_back_without_a_loss(small: Small) -> None:
    context = launched(opened(small(n_trials=1)))
    claimed(context)
    assert set(levels(treated(context))) == {OK}  # it lives
    orphan(context)
    assert "1 leases are stale (trials 0)" in only(treated(context), WARN).finding.said
    assert only(treated(context, repair=True), WARN).done == "released the leases of 0"
    assert set(levels(treated(context))) == {OK}
    assert claimed(context).lease.losses == 0


def orphan(context: StudyContext) -> None:
    """Make every lease look as if its owner had died."""
    with context.engine.begin() as conn:
        conn.execute(update(LEASES).values(process_started=1.0))


def test_a_lease_that_is_renewed_while_it_is_looked_at_is_left_alone(small: Small) -> None:
    context = launched(opened(small(n_trials=1)))
    lease = claimed(context).lease
    orphan(context)
    (found,) = [each.finding for each in treated(context) if each.finding.check == "leases"]
    with context.engine.begin() as conn:
        conn.execute(update(LEASES).values(process_started=lease.process_started))
    assert found.mend is not None
    assert found.mend() == "released the leases of none any more"
    with context.engine.begin() as conn:
        leases.renew(conn, lease, 1e10)


def test_a_recorded_trial_is_told_through_optuna(small: Small) -> None:
    context = launched(opened(small(n_trials=1)))
    found = claimed(context)
    with context.engine.begin() as conn:
        finish_run(conn, found.lease, Outcome(RunState.COMPLETE, 1.0, score=1.25))
    assert set(levels(treated(context))) == {OK}  # its owner lives and reports it itself
    expire(context.spec, 0)
    assert any("recorded and not reported to Optuna (0)" in each.finding.said for each in treated(context))
    done = [each.done for each in treated(context, repair=True) if each.done]
    assert done[0] == "reported 0"
    assert states(context) == {"COMPLETE": 1}
    assert context.study.best_value == 1.25
    assert set(levels(treated(context))) == {OK}
    assert not rows(context.spec, "SELECT * FROM wf_leases")


def test_rows_that_belong_to_nothing_are_moved_aside_and_no_others(small: Small) -> None:
    context = launched(opened(small(n_trials=2)))
    play(context)
    gone = opened(small(name="gone", n_trials=1))
    play(gone)
    claimed(opened(small(name="gone", n_trials=2)))
    kept = len(rows(context.spec, "SELECT * FROM wf_windows")) - 2
    optuna.delete_study(study_name="gone", storage=context.storage)  # as its own tools do, past our tables
    found = only(treated(context, name="small"), WARN)
    assert "1 of wf_leases, 2 of wf_runs" in found.finding.said
    assert "wf_studies" in str(only(treated(context, repair=True, name="small"), WARN).done)
    assert set(levels(treated(context, name="small"))) == {OK}
    assert len(rows(context.spec, "SELECT * FROM wf_windows")) == kept == 4
    assert rows(context.spec, "SELECT study_name FROM wf_studies") == [("small",)]
    assert play(context) is NoTrial.FULL
    with context.engine.begin() as conn:  # nothing of them was lost
        assert (put_back(conn, "wf_runs"), put_back(conn, "wf_windows")) == (2, 2)
    assert len(rows(context.spec, "SELECT * FROM wf_windows")) == kept + 2


def test_folders_without_rows_are_moved_and_never_deleted(small: Small) -> None:
    context = launched(opened(small(n_trials=1)))
    play(context)
    stray = context.spec.folder / "trials" / "0007_0badcafe"
    stray.mkdir()
    (stray / "precious.txt").write_text("mine")
    (context.spec.folder / "trials" / "notes").mkdir()  # no folder of a run
    assert "1 folders of runs have no row (0007_0badcafe)" in only(treated(context), WARN).finding.said
    assert stray.is_dir()
    assert only(treated(context, repair=True), WARN).done
    (moved,) = (Path(context.spec.output_dir) / TRASH_FOLDER).glob("*/small/0007_0badcafe/precious.txt")
    assert moved.read_text() == "mine"
    assert set(levels(treated(context))) == {OK}


def test_folders_of_another_database_are_left_alone(small: Small) -> None:
    context = opened(small(n_trials=1))  # a name that another database has a study of
    stray = context.spec.folder / "trials" / "0000_0badcafe"
    stray.mkdir(parents=True)
    other = Path(context.spec.output_dir) / "stranger"
    other.mkdir()
    (other / "config.json").write_text("{}")
    found = [each for each in treated(context, repair=True) if each.finding.level == WARN]
    assert ["another database may own" in each.finding.remedy for each in found] == [True, False]
    assert "does not (stranger)" in found[1].finding.said
    assert not any(each.done for each in found)
    assert stray.is_dir()
    assert other.is_dir()


def test_returns_that_are_gone_fail_until_it_is_recorded(small: Small, tmp_path: Path) -> None:
    context = launched(opened(small(n_trials=2)))
    play(context)
    ((path,),) = rows(
        context.spec, "SELECT returns_path FROM wf_windows JOIN wf_runs USING (run_uuid) "
        "WHERE trial_number = 1 AND \"window\" = 0"
    )  # fmt: skip
    (context.spec.folder / path).unlink()
    found = only(treated(context), FAIL)
    assert "the returns of 1 of 4 windows are gone (trials 1)" in found.finding.said
    assert "put the files back" in found.finding.remedy
    assert only(treated(context, repair=True), FAIL).level == OK
    assert set(levels(treated(context))) == {OK}
    shutil.move(context.spec.output_dir, tmp_path / "elsewhere")
    found = only(treated(context, repair=True), FAIL)  # a wrong folder must not cost the records
    assert (found.done, "output_dir=" in found.finding.remedy) == (None, True)


def test_bundles_are_compared_with_what_was_exported(small: Small, tmp_path: Path) -> None:
    context = launched(opened(small()))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("changed")
    with context.engine.begin() as conn:
        for folder in (bundle, tmp_path / "gone", tmp_path / "unmounted" / "bundle"):
            save_export(conn, ExportRecord(str(folder), "small", 0, "x", 1, 1.0, "00"))
    assert "not what was exported" in only(treated(context), FAIL).finding.said
    assert "export makes them anew" in only(treated(context), WARN).finding.remedy
    assert "forgot 1 bundles" in str(only(treated(context, repair=True), WARN).done)
    with context.engine.connect() as conn:  # an unmounted disk is no reason to call its files lost
        assert [each.bundle for each in load_exports(conn, "small")] == [
            str(bundle),
            str(tmp_path / "unmounted" / "bundle"),
        ]


def test_other_packages_are_a_warning(small: Small) -> None:
    context = launched(opened(small()))
    with context.engine.begin() as conn:
        conn.execute(update(STUDIES).values(versions={"numpy": "0.1"}))
    assert "numpy 0.1 there" in only(treated(context), WARN).finding.said


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
    assert "not an SQLite database" in only(database(f"sqlite:///{tmp_path / 'text.db'}"), FAIL).finding.said


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
    context = launched(opened(small(n_trials=1)))
    opened(small(name="other"))
    assert not any("other:" in each.finding.said for each in treated(context, name="small"))
    assert any("other:" in each.finding.said for each in treated(context))
    with pytest.raises(BadInputError, match="did you mean small"):
        treated(context, name="smal")


def test_a_repair_that_fails_hides_no_other(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    context = launched(opened(small(n_trials=1)))
    claimed(context)
    orphan(context)
    (context.spec.folder / "trials" / "0007_0badcafe").mkdir(parents=True)

    def refuse(*args: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(leases, "abandon", refuse)
    failed, moved = [each for each in treated(context, repair=True) if each.finding.level == WARN]
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
    context = launched(opened(small(n_trials=1)))
    found = claimed(context)
    context.study.tell(found.trial.number, state=optuna.trial.TrialState.FAIL)
    orphan(context)
    assert only(treated(context, repair=True), WARN).done
    assert not rows(context.spec, "SELECT * FROM wf_leases")
