"""The doctor on a damaged database: each is a finding, the rest is examined, repair loses nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from optimize.bundles.manifest import MANIFEST_FILE
from optimize.database import DatabaseSpec, open_engine
from optimize.doctor.examination import treat
from optimize.doctor.findings import FAIL, OK, WARN, Finding, guarded_findings
from optimize.errors import BadInputError
from optimize.results.records import ExportRecord, load_exports
from optimize.results.rows import replace_row, values_of
from optimize.results.tables import EXPORTS
from optimize.study.context import StudyContext
from tests.optimize.doctor.test_doctor import launched, levels, only, treated
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import opened, play, rows


@pytest.fixture
def context(small: Small) -> StudyContext:
    """Return a study of one finished trial."""
    context = launched(opened(small(n_trials=1)))
    play(context)
    return context


def change(context: StudyContext, sql: str) -> None:
    with context.engine.begin() as conn:
        conn.execute(text(sql))


def returns_of(context: StudyContext) -> list[Path]:
    found = rows(context.spec, "SELECT returns_path FROM wf_windows")
    return [context.spec.folder / path for (path,) in found]


def test_garbage_in_a_study_hides_no_other(context: StudyContext, small: Small) -> None:
    launched(opened(small(name="other", n_trials=1)))
    change(context, "UPDATE wf_studies SET spec_json = '{\"name\": ' WHERE study_name = 'small'")
    found = treated(context)
    damage = only(found, FAIL).finding
    assert "small: its row in wf_studies cannot be read" in damage.said
    assert {each.finding.check for each in found if "small:" in each.finding.said} >= {"leases", "files"}
    assert any("other: the packages are" in each.finding.said for each in found)


def test_garbage_in_a_run_is_named(context: StudyContext) -> None:
    change(context, "UPDATE wf_runs SET parameters_json = 'not json'")
    assert "runs in wf_runs cannot be read (trials 0)" in only(treated(context), FAIL).finding.said


def test_garbage_of_another_shape_is_one_finding(context: StudyContext) -> None:
    change(context, "UPDATE wf_studies SET versions_json = '[1, 2]', spec_json = '7'")
    found = treated(context)
    assert all("cannot be examined" in each.finding.said for each in found if each.level == FAIL)
    assert {each.finding.check for each in found if each.level == FAIL} == {"leases", "versions", "code"}
    assert any(each.finding.check == "files" and each.level == OK for each in found)


def test_a_cut_file_is_found_and_one_that_comes_back_too(context: StudyContext) -> None:
    first, second = returns_of(context)
    whole = first.read_bytes()
    first.write_bytes(whole[:-20])
    assert (
        "1 of 2 windows are gone, 1 of them cut short (trials 0)" in only(treated(context), FAIL).finding.said
    )
    assert only(treated(context, repair=True), FAIL).done
    assert set(levels(treated(context))) == {OK}
    first.write_bytes(whole)
    assert "were lost are there again" in only(treated(context), WARN).finding.said
    assert only(treated(context, repair=True), WARN).done
    assert sorted(returns_of(context)) == sorted([first, second])


def test_a_wrong_folder_costs_no_record(context: StudyContext, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    (wrong / "small" / "trials").mkdir(parents=True)
    before = returns_of(context)
    found = list(treat(context.spec.database, str(wrong), None, repair=True))
    (files,) = [each for each in found if each.finding.check == "files"]
    assert (files.level, files.done, "output_dir=" in files.finding.remedy) == (FAIL, None, True)
    assert returns_of(context) == before


def test_missing_tables_are_no_empty_database(context: StudyContext) -> None:
    change(context, "DROP VIEW trial_windows")
    change(context, "DROP VIEW best_models")
    change(context, "DROP TABLE wf_windows")
    assert "tables are missing: wf_windows" in only(treated(context), FAIL).finding.said


def test_a_view_that_was_dropped_is_made_anew(context: StudyContext) -> None:
    change(context, "DROP VIEW best_models")
    assert "another version: best_models" in only(treated(context), WARN).finding.said
    assert only(treated(context, repair=True), WARN).done == "made best_models"
    assert set(levels(treated(context))) == {OK}
    assert "best_models" in inspect(context.engine).get_view_names()


def test_a_relative_bundle_is_looked_for_and_never_forgotten(
    context: StudyContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = context.spec.folder / "exports" / "01_trial_0000"
    bundle.mkdir(parents=True)
    (bundle / MANIFEST_FILE).write_text("changed")
    relative = os.path.relpath(bundle, tmp_path)
    with context.engine.begin() as conn:  # as older versions did
        replace_row(conn, EXPORTS, values_of(ExportRecord(relative, "small", 0, "x", 1, 1.0, "00")))
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert "not what was exported" in only(treated(context), FAIL).finding.said
    (bundle / MANIFEST_FILE).unlink()
    assert set(levels(treated(context, repair=True))) == {OK}
    with context.engine.connect() as conn:
        assert [each.bundle for each in load_exports(conn, "small")] == [relative]


@pytest.mark.parametrize("name", [None, "x"])
def test_a_database_without_our_tables_holds_no_study(
    database_url: str, tmp_path: Path, name: str | None
) -> None:
    engine = open_engine(database_url)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE trades (a INTEGER)"))
    engine.dispose()
    found = treat(DatabaseSpec(url=database_url), str(tmp_path), name, repair=False)
    if name is None:
        assert [each.finding.said for each in found][-1] == "none yet in this database"
    else:
        with pytest.raises(BadInputError, match="name='x': this database holds no study yet"):
            list(found)


def test_an_error_of_the_database_is_shown_without_its_statement(context: StudyContext) -> None:
    def examine() -> Iterator[Finding]:
        with context.engine.connect() as conn:
            conn.execute(text("SELECT nowhere FROM wf_leases"))
        yield Finding("leases", OK, "never reached")

    (finding,) = guarded_findings("leases", "the leases", examine(), "restore them")
    assert "nowhere" in finding.said
    assert "SELECT" not in finding.said
    assert "sqlalche.me" not in finding.said
