"""Housekeeping: lower ranks are freed, studies are removed, and a killed call is finished by the next."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from sqlalchemy import func, select, text

from optimize.doctor.findings import OK
from optimize.errors import BadInputError, WalkforgeError
from optimize.results.events import LaunchEvent
from optimize.results.launches import log_process
from optimize.results.queries import all_studies, best_models
from optimize.results.records import ExportRecord, load_exports, save_export
from optimize.results.tables import METADATA, TRASH, TRIED_RUNS
from optimize.study.context import StudyContext
from optimize.study.dashboard.attach import REPORTS_LOCK, attach_reports
from optimize.study.removal import delete as deletion
from optimize.study.removal.delete import delete_study, find_deletable
from optimize.study.removal.prune import find_prunable, prune_runs
from optimize.walkforward.files import run_folder
from tests.optimize.doctor.test_doctor import launched, levels, treated
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import claimed, opened, play


def finished(small: Small, trials: int, name: str = "small") -> StudyContext:
    context = launched(opened(small(name=name, n_trials=trials, keep_models=trials)))
    for _ in range(trials):
        play(context)
    return context


def places(context: StudyContext) -> tuple[str, str]:
    return context.spec.database.url, context.spec.output_dir


def rows_of(context: StudyContext) -> dict[str, int]:
    """Return the number of rows of each table that has some."""
    with context.engine.connect() as conn:
        counts = {
            table.name: conn.execute(select(func.count()).select_from(table)).scalar_one()
            for table in METADATA.sorted_tables
        }
    return {name: count for name, count in counts.items() if count}


def test_prune_frees_the_files_below_the_kept_ranks_alone(small: Small) -> None:
    context = finished(small, 3)
    url, output_dir = places(context)
    best, *rest = best_models(context.engine, "small", 3)
    before = rows_of(context)
    listed = find_prunable(context.engine, output_dir, "small", 1)
    assert {run.run_uuid for run in listed} == {row.run_uuid for row in rest}
    assert all(run.folder.is_dir() and run.size_bytes > 0 for run in listed)

    assert prune_runs(context.engine, url, output_dir, "small", 1) == listed
    assert not any(run.folder.exists() for run in listed)
    assert run_folder(context.spec.folder, best.trial_number, str(best.run_uuid)).is_dir()
    assert best_models(context.engine, "small", 3) == [best, *rest]
    assert rows_of(context) == before
    assert set(levels(treated(context))) == {OK}
    assert find_prunable(context.engine, output_dir, "small", 1) == []
    assert prune_runs(context.engine, url, output_dir, "small", 1) == []


def test_returns_that_no_database_holds_stay(small: Small) -> None:
    context = finished(small, 2)
    url, output_dir = places(context)
    with context.engine.begin() as conn:
        conn.execute(text("DELETE FROM wf_returns"))
    pruned = prune_runs(context.engine, url, output_dir, "small", 0)
    left = {path.name for run in pruned for path in run.folder.rglob("*") if path.is_file()}
    assert (len(pruned), left) == (2, {"returns.parquet"})
    assert set(levels(treated(context))) == {OK}


def test_a_killed_prune_is_finished_by_the_next(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    context = finished(small, 2)
    url, output_dir = places(context)
    monkeypatch.setattr("optimize.study.removal.prune.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune_runs(context.engine, url, output_dir, "small", 0)
    monkeypatch.undo()
    assert set(levels(treated(context))) == {OK}
    assert len(prune_runs(context.engine, url, output_dir, "small", 0)) == 2
    assert set(levels(treated(context))) == {OK}


def killed(*arguments: object, **options: object) -> None:
    raise KeyboardInterrupt


def test_delete_removes_rows_and_files_and_keeps_tries_and_exports(small: Small) -> None:
    context = finished(small, 2)
    url, output_dir = places(context)
    bundle = context.spec.folder / "exports" / "01_trial_0000" / "manifest.json"
    bundle.parent.mkdir(parents=True)
    bundle.write_text("{}", encoding="utf-8")
    with context.engine.begin() as conn:
        save_export(conn, ExportRecord(str(bundle.parent), "small", 0, "run", 1, 1.0, "digest"))
        tries = conn.execute(select(func.count()).select_from(TRIED_RUNS)).scalar_one()
    (found,) = find_deletable(context.engine, output_dir, "small", exports=False)
    assert {"wf_runs", "wf_windows", "wf_returns", "wf_studies"} <= found.rows.keys()
    assert "exports" not in {path.name for path in found.paths}

    assert [one.study for one in delete_study(context.engine, url, output_dir, "small", False)] == ["small"]
    assert rows_of(context).keys() <= {"wf_tries", "wf_exports", "wf_holdouts"}
    assert rows_of(context).get("wf_tries", 0) == tries
    assert TRASH.name not in rows_of(context)
    assert all_studies(context.engine) == []
    assert [path.name for path in context.spec.folder.iterdir()] == ["exports"]
    assert set(levels(treated(context))) == {OK}


def test_delete_removes_the_pictures_of_its_trials_and_those_of_no_other_study(small: Small) -> None:
    context, other = finished(small, 2), finished(small, 1, name="other")
    url, output_dir = places(context)
    assert attach_reports(context) == 2
    assert attach_reports(other) == 1
    folder = Path(output_dir) / "artifacts"
    shared = {path.name for path in folder.iterdir() if path.name != REPORTS_LOCK}
    assert len(shared) == 6  # a picture and a table a trial
    (found,) = find_deletable(context.engine, output_dir, "small", exports=False)
    assert len(found.pictures) == 4
    delete_study(context.engine, url, output_dir, "small", exports=False)
    left = {path.name for path in folder.iterdir() if path.name != REPORTS_LOCK}
    assert left == shared - {path.name for path in found.pictures}


def test_delete_removes_exports_where_they_are_named(small: Small) -> None:
    context = finished(small, 1)
    url, output_dir = places(context)
    bundle = context.spec.folder / "exports" / "01_trial_0000"
    bundle.mkdir(parents=True)
    with context.engine.begin() as conn:
        save_export(conn, ExportRecord(str(bundle), "small", 0, "run", 1, 1.0, "digest"))
    delete_study(context.engine, url, output_dir, "small", exports=True)
    assert not context.spec.folder.exists()
    with context.engine.connect() as conn:
        assert load_exports(conn, "small") == []


@pytest.mark.parametrize("part", ["_delete_files", "delete_rows", "_delete_from_optuna"])
def test_a_killed_delete_is_finished_by_the_next(
    small: Small, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    context = finished(small, 1)
    url, output_dir = places(context)
    monkeypatch.setattr(deletion, part, killed)
    with pytest.raises(KeyboardInterrupt):
        delete_study(context.engine, url, output_dir, "small", exports=False)
    monkeypatch.undo()
    delete_study(context.engine, url, output_dir, "small", exports=False)
    assert all_studies(context.engine) == []
    assert not context.spec.folder.exists()
    assert rows_of(context).keys() <= {"wf_tries", "wf_holdouts"}
    with pytest.raises(BadInputError, match="holds no such study"):
        delete_study(context.engine, url, output_dir, "small", exports=False)


def test_a_study_at_work_is_left_alone(small: Small) -> None:
    context = finished(small, 2)
    url, output_dir = places(context)
    other = launched(opened(small(n_trials=3, keep_models=2)))
    claimed(other)
    before = sorted(context.spec.folder.rglob("*"))
    with pytest.raises(WalkforgeError, match=r"study small is at work \(1 trials run\).*action=stop"):
        prune_runs(context.engine, url, output_dir, "small", 0)
    with pytest.raises(WalkforgeError, match="is at work"):
        delete_study(context.engine, url, output_dir, "small", exports=True)
    assert sorted(context.spec.folder.rglob("*")) == before
    assert all_studies(context.engine) == ["small"]


def test_delete_removes_the_studies_of_a_nested_walk_forward_unless_one_runs(small: Small) -> None:
    context = finished(small, 1)
    for name in ("small.outer2", "small.outer2.trade_0123abcd", "smaller"):
        play(launched(opened(small(name=name, n_trials=1))))
    url, output_dir = places(context)
    family = ["small.outer2", "small.outer2.trade_0123abcd", "small"]
    with context.engine.connect() as conn:
        tries = conn.execute(select(func.count()).select_from(TRIED_RUNS)).scalar_one()
    with log_process(context.engine, "small.outer2", LaunchEvent, "the launch"):
        for name in family:
            with pytest.raises(WalkforgeError, match=r"study small\S* is at work"):
                delete_study(context.engine, url, output_dir, name, exports=False)
    assert set(all_studies(context.engine)) == {*family, "smaller"}
    assert [one.study for one in find_deletable(context.engine, output_dir, "small", False)] == family
    assert [one.study for one in delete_study(context.engine, url, output_dir, "small", False)] == family
    assert all_studies(context.engine) == ["smaller"]
    assert [path.name for path in Path(output_dir).iterdir()] == ["smaller"]
    assert rows_of(context)["wf_tries"] == tries


def test_delete_finds_the_nested_studies_of_a_study_that_is_gone(small: Small) -> None:
    context = launched(opened(small(name="small.outer2", n_trials=1)))
    url, output_dir = places(context)
    assert [one.study for one in delete_study(context.engine, url, output_dir, "small", False)] == [
        "small.outer2"
    ]
    assert all_studies(context.engine) == []


def test_the_folder_of_another_study_is_left_alone(small: Small, tmp_path: Path) -> None:
    context = finished(small, 1)
    url, _ = places(context)
    foreign = tmp_path / "elsewhere"
    shutil.copytree(context.spec.folder, foreign / "small")
    (foreign / "small" / "shared.json").write_text('{"token": "another"}', encoding="utf-8")
    for act in (
        lambda: prune_runs(context.engine, url, str(foreign), "small", 0),
        lambda: delete_study(context.engine, url, str(foreign), "small", exports=True),
        lambda: delete_study(context.engine, url, str(tmp_path / "nowhere"), "small", exports=True),
    ):
        with pytest.raises(BadInputError, match="is not the folder of study small: its launch put the files"):
            act()
    assert all_studies(context.engine) == ["small"]


@pytest.mark.parametrize(("part", "verb"), [("finalists", "finalists"), ("exports", "export")])
def test_a_study_whose_files_are_read_is_left_alone(small: Small, part: str, verb: str) -> None:
    context = finished(small, 2)
    url, output_dir = places(context)
    place = context.spec.folder / part
    place.mkdir()
    before = sorted(context.spec.folder.rglob("*"))
    with FileLock(place / ".lock"):
        for act in (
            lambda: prune_runs(context.engine, url, output_dir, "small", 0),
            lambda: delete_study(context.engine, url, output_dir, "small", exports=True),
        ):
            with pytest.raises(WalkforgeError, match=f"`walkforge {verb} name=small` runs"):
                act()
    assert set(before) <= set(context.spec.folder.rglob("*"))
    assert all_studies(context.engine) == ["small"]
    assert len(prune_runs(context.engine, url, output_dir, "small", 0)) == 2
    delete_study(context.engine, url, output_dir, "small", exports=True)
    assert not context.spec.folder.exists()


def test_a_folder_that_lies_on_another_disk_is_removed(small: Small, tmp_path: Path) -> None:
    context = finished(small, 1)
    url, output_dir = places(context)
    place, folder = tmp_path / "disk", context.spec.folder
    shutil.move(folder, place)
    folder.symlink_to(place)
    delete_study(context.engine, url, output_dir, "small", exports=True)
    assert all_studies(context.engine) == []
    assert not folder.is_symlink()
    assert not place.exists()
