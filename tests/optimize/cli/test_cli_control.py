"""The verbs that look after a study: status failures=true, study action=..., worker, doctor."""

import json
import re
from pathlib import Path

import pytest

from optimize.cli.dispatch import command_jobs, compose_configs
from optimize.database import open_engine
from optimize.database.address import in_words
from optimize.results.event_log import log_event
from optimize.results.events import FolderMarked
from optimize.results.processes import this_host
from optimize.results.records import Outcome
from optimize.results.states import RunState
from optimize.schemas.studies import WorkerConfig
from optimize.study.shared_folder import PROBE
from tests.optimize.cli.conftest import Run
from tests.optimize.results.factories import STUDY, run_to_end


def test_status_tells_causes_actions_and_the_verdict(run: Run, filled: str) -> None:
    code, out, err = run("status", "name=btc", "failures=true", filled)
    assert (code, err) == (0, "")
    for words in (
        "oom",
        "out of memory",
        "1 skipped (it failed again)",
        "2 of 8 finished (25.0 %), 1 failed",
    ):
        assert words in out
    assert "btc.model: random: 1 of 3 ended trials failed (33.3 %), and no cause repeats itself" in out
    (study,) = json.loads(run("status", "name=btc", "failures=true", "format=json", filled)[1])["studies"]
    assert (study["verdict"], study["failed_trials"], study["stopped"]) == ("random", 1, False)
    (cause,) = study["causes"]
    assert (cause["kind"], cause["count"], cause["first_message"]) == ("oom", 1, "out of memory")


def test_a_row_of_one_cause_is_systematic(
    run: Run, filled: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")  # the actions fit on one line
    engine = open_engine(database_url)
    for number in (3, 4, 5, 6):
        message = f"ValueError: batch {number} is empty\nand more"
        failed = Outcome(RunState.FAIL, 1.0, failure_kind="bug", failure_message=message)
        run_to_end(engine, number, failed)
    engine.dispose()
    out = run("status", "name=btc", "failures=true", filled)[1]
    assert "ValueError: batch 3 is empty" in out
    assert "and more" not in out
    assert "btc.model: systematic: 5 trials in a row failed" in out
    assert "4 skipped (the same parameters and seeds would fail again)" in out
    assert "2 retried" not in run("query", "sql=failures", "name=btc", filled)[1]


def test_an_action_needs_a_name_and_a_database_and_nothing_else(run: Run, filled: str) -> None:
    code, out, err = run("study", "name=btc", "action=pause", filled)
    assert (code, err) == (0, "")
    assert out.startswith("btc.model is paused now, 2 of 8 trials done; no trial runs")
    (study,) = json.loads(run("status", "name=btc", "format=json", filled)[1])["studies"]
    assert study["state"] == "paused"
    where = in_words(filled.removeprefix("database.url="))
    starts = f"then `walkforge study name=btc{where}` with the settings of its launch goes on"
    assert (
        f"btc.model is paused: `walkforge study name=btc{where} action=resume` releases it; "
        f"no worker of a launch is there: {starts}\n"
    ) in run("status", "name=btc", filled)[1]
    assert run("study", "name=btc.model", "action=resume", filled)[0] == 0
    assert run("study", "name=btc", "action=stop", filled)[1].startswith("btc.model is stopped now")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["name=bt", "action=stop"], "name='bt': this database holds no such study.*did you mean btc"),
        (["action=stop"], "name is missing"),
        (["name=btc", "action=halt"], "action='halt' is not allowed: action must be one of run, pause"),
    ],
)
def test_a_wrong_action_is_refused_in_one_line(
    run: Run, filled: str, arguments: list[str], words: str
) -> None:
    code, out, err = run("study", *arguments, filled)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(words, err)


def test_an_action_makes_no_database(run: Run, tmp_path: Path) -> None:
    code, _, err = run("study", "name=x", "action=stop")
    assert (code, "there is no database" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_takes_nothing_of_the_study_from_the_command_line(run: Run, filled: str) -> None:
    (config,) = compose_configs(
        "worker", ["name=btc", "worker.count=4", "data.path=bars.csv", "output_dir=shared"]
    )
    assert isinstance(config, WorkerConfig)
    assert (config.worker.count, config.data.path, config.output_dir) == (4, "bars.csv", "shared")
    for key in ("n_trials=3", "seed=1", "agent.net=tiny", "versions=maybe"):
        code, _, err = run("worker", "name=btc", key, filled)
        assert (code, err.count("\n")) == (2, 1), err
    code, _, err = run("worker", "name=bt", filled)
    assert (code, "no such study" in err) == (2, True)
    code, _, err = run("worker", "name=btc", "wait_s=0", filled)
    assert (code, "was not ready for workers" in err) == (1, True)


def test_doctor_says_one_line_a_check_and_what_to_do(run: Run, filled: str, tmp_path: Path) -> None:
    code, out, err = run("doctor", "name=btc", filled)
    assert err == ""
    # Its stored runs name files that nobody wrote, in a folder that no launch marked.
    assert code == 1
    assert "FAIL  files       btc.model: the returns of 5 of 5 windows are not in studies/btc.model" in out
    assert all(line.split()[0] in ("ok", "warn", "FAIL") for line in out.splitlines())
    report = json.loads(run("doctor", "name=btc", "format=json", filled)[1])
    assert report["failed"] == 1
    assert {each["check"] for each in report["findings"]} >= {
        "cores",
        "gpu",
        "database",
        "leases",
        "versions",
    }
    code, _, err = run("doctor", "name=bt", filled)
    assert (code, "did you mean btc" in err) == (2, True)


def test_doctor_before_the_first_study_is_content_and_makes_nothing(run: Run, tmp_path: Path) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert "none yet" in out
    assert list(tmp_path.iterdir()) == []


def test_doctor_repairs_and_the_second_look_is_clean(run: Run, filled: str, tmp_path: Path) -> None:
    code, out, _ = run("doctor", "name=btc", "repair=true", filled)
    assert (code, "are not in studies/btc.model" in out, "mended" in out) == (1, True, False)
    mark_as_launched(filled.partition("=")[2], tmp_path / "studies" / STUDY)
    code, out, _ = run("doctor", "name=btc", "repair=true", filled)
    assert (code, "mended: recorded that the returns of 5 windows are lost" in out) == (0, True)
    code, out, _ = run("doctor", "name=btc", "repair=true", filled)
    assert (code, "mended" in out) == (0, False)


def mark_as_launched(database_url: str, folder: Path) -> None:
    """Leave the token of a launch in the study's folder and in its database."""
    folder.mkdir(parents=True)
    (folder / PROBE).write_text(json.dumps({"token": "of the launch"}))
    marked = FolderMarked("of the launch", str(folder.parent), this_host())
    engine = open_engine(database_url)
    with engine.begin() as conn:
        log_event(conn, STUDY, "marked", marked)
    engine.dispose()


def test_a_shown_configuration_hides_passwords_and_tokens(run: Run) -> None:
    secret = "database.url=postgresql://me:sesame@host/db"
    tokens = "notify.urls=[tgram://123:sesame/45,mailto://u:sesame@x.y]"
    for flags in (["--cfg", "job"], ["-c", "job"], ["--cfg=job"], ["--help"]):
        code, out, _ = run("study", "name=x", "database=postgresql", secret, tokens, *flags)
        assert code == 0
        assert "sesame" not in out, flags
    code, out, err = run("study", "name=x", "database=postgresql", secret, tokens.replace("]", ""))
    assert (code, "sesame" in err) == (2, False)
    out = run("study", "name=x", "database=postgresql", secret, tokens, "--cfg", "job")[1]
    assert "url: postgresql://me:***@host/db" in out
    assert "- tgram://***" in out
    assert "sqlite:///databases/walkforge.db" in run("study", "name=x", "--cfg", "job")[1]


@pytest.mark.parametrize("flags", [["-m"], ["--multirun"], ["hydra.mode=MULTIRUN"]])
def test_a_sweep_leaves_no_secret_on_the_disk(run: Run, tmp_path: Path, flags: list[str]) -> None:
    secret = "database.url=postgresql://me:sesame@127.0.0.1:1/db"
    words = ["name=x,y", "database=postgresql", secret, "notify.urls=[tgram://123:sesame/45]"]
    first, second = compose_configs("study", [*words, *flags])
    assert (first.name, second.name) == ("x", "y")
    typed = [job.typed for job in command_jobs("study", [*words, *flags])]
    assert [each[0] for each in typed] == ["name=x", "name=y"]
    assert first.notify.urls == ["tgram://123:sesame/45"]
    assert list(tmp_path.iterdir()) == []
