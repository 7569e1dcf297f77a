"""Status lines of an unfinished study: its workers, and the command that resumes it."""

import dataclasses
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from envs.costs import CostSpec
from optimize import clock
from optimize.cli.dispatch import compose_configs
from optimize.cli.status import status, study_status
from optimize.database.address import in_words
from optimize.database.sqlite import database_path
from optimize.errors import BadInputError
from optimize.report.market_line import market_line
from optimize.results import leases
from optimize.results.event_log import events, log_event
from optimize.results.events import LaunchEvent
from optimize.results.launches import command_of, log_process, running_launch, time_left
from optimize.results.tables import LEASES
from optimize.schemas.records import StatusConfig
from optimize.secrets import storable
from optimize.study.context import StudyContext
from optimize.study.control import request_action
from optimize.study.launch.run import run_study
from optimize.study.shared_folder import mark_folder
from tests.optimize.study.studies import claimed, opened, play, rows, small_spec

TYPED = ["name=small", "seed=0", "space.agent.gamma=[0.9,0.99]"]


def command(context: StudyContext) -> str:
    """Return the quoted command that was typed, with its database."""
    where = in_words(context.spec.database.url)
    return f"`walkforge study name=small seed=0 'space.agent.gamma=[0.9,0.99]'{where}`"


@pytest.fixture
def context(tmp_path: Path) -> StudyContext:
    return opened(small_spec(tmp_path, n_trials=2))


def said(context: StudyContext, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    """Return the output of `walkforge status`."""
    capsys.readouterr()
    status(StatusConfig(name="small", database=context.spec.database, **changes))
    return capsys.readouterr().out


def test_secrets_are_not_stored_and_all_else_is() -> None:
    words = ["name=x", "database.url=postgresql://me:p@s:w@db/x", "agent=sac", "-cd", "my conf"]
    kept = ["name=x", "database.url=postgresql://me@db/x", "agent=sac", "-cd", "my conf"]
    hidden = ["notify.urls=[tgram://1:a/2]", "+notify.urls=[a]", "notify.on=[stop]"]
    assert storable([*words, *hidden]) == kept


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///databases/walkforge.db", ""),
        ("sqlite:////tmp/x.db", " database.url=sqlite:////tmp/x.db"),
        ("postgresql://localhost/walkforge", " database=postgresql"),
        ("postgresql+psycopg://me:secret@db/x", " database.url=postgresql://me@db/x"),
        ("postgresql://u@/x?port=54", " 'database.url=\"postgresql://u@/x?port=54\"'"),
    ],
)
def test_a_hint_names_the_database_where_it_is_not_the_default(url: str, words: str) -> None:
    assert in_words(url) == words


def test_the_refusal_names_the_command_and_every_key_that_differs(
    tmp_path: Path, context: StudyContext
) -> None:
    with log_process(context.engine, "small", LaunchEvent, "the launch", TYPED):
        pass
    other = small_spec(tmp_path, seed=1, cost=CostSpec(commission_bps=2.0))
    with pytest.raises(BadInputError) as refused:
        run_study(other, Console(quiet=True))
    line = str(refused.value)
    remedy, *lines = line.splitlines()
    assert "go on with it as it was by `walkforge study name=small database.url=" in remedy
    assert lines == [
        "  cost.commission_bps: started with 1.0, now 2.0",
        "  seed: started with 0, now 1",
    ]
    with context.engine.connect() as conn:
        assert command_of(conn, "small") == command(context)  # the refused launch left none
        assert [logged.event.state for logged in events(conn, "small", LaunchEvent)] == ["runs", "passed"]


def test_status_tells_a_launch_from_nobody(context: StudyContext, capsys: pytest.CaptureFixture[str]) -> None:
    where = in_words(context.spec.database.url)
    unknown = f"`walkforge study name=small{where}` with the settings of its launch goes on"
    assert f"no process runs trials of small now: {unknown}" in said(context, capsys)
    with log_process(context.engine, "small", LaunchEvent, "the launch", TYPED):
        assert f"small is being launched (pid {psutil.Process().pid} on " in said(context, capsys)
        play(context, limit=1)
        assert "no trial of small runs at this moment, its launch looks after it" in said(context, capsys)
    assert f"no process runs trials of small now: {command(context)} goes on" in said(context, capsys)
    with context.engine.begin() as conn:
        (first, *_) = events(conn, "small", LaunchEvent)
        gone = replace(first.event, process_started=psutil.Process().create_time() - 1000)
        log_event(conn, "small", "killed with -9", gone)
        assert running_launch(conn, "small") is None


def test_a_released_study_without_workers_says_by_what_it_goes_on(context: StudyContext) -> None:
    with log_process(context.engine, "small", LaunchEvent, "the launch", TYPED):
        request_action(context.engine, "small", "pause")
        assert request_action(context.engine, "small", "resume")[0].startswith("small is running now")
        request_action(context.engine, "small", "pause")
    (line,) = request_action(context.engine, "small", "resume")
    assert line.startswith("small is released, 0 of 2 trials done; no worker of a launch is there")
    assert command(context) in line


def test_running_are_those_with_a_living_worker_and_waiting_the_others(context: StudyContext) -> None:
    held, freed = claimed(context, 0), claimed(context, 1)
    counts = "SELECT running, waiting, remaining FROM study_health"
    assert rows(context.spec, counts) == [(2, 0, 0)]
    with context.engine.begin() as conn:
        leases.abandon(conn, freed.lease)
    assert rows(context.spec, counts) == [(1, 1, 0)]
    with context.engine.begin() as conn:  # its process is gone, and the lease has a while to run
        conn.execute(LEASES.update().values(process_started=1.0))
        assert held.lease.renewed_at + held.lease.lease_s > clock.now().timestamp()
    shown = study_status(context.engine, "small")
    assert (shown["running"], shown["waiting"], shown["state"]) == (0, 2, "running")


def test_a_study_at_its_cap_is_finished(context: StudyContext, capsys: pytest.CaptureFixture[str]) -> None:
    play(context)
    assert study_status(context.engine, "small")["state"] == "finished"
    assert "goes on" not in said(context, capsys)
    assert said(context, capsys, failures=True) == "small: 2 of 2 finished (100.0 %), 0 failed\n"


def test_the_time_left_comes_from_finished_trials_and_living_workers() -> None:
    assert time_left(8, 10.0, 2) == 40.0
    assert time_left(1, 10.0, 4) == 10.0  # one worker has the trial; the others wait
    assert time_left(0, None, 0) == 0.0
    assert time_left(3, 10.0, 0) is None
    assert time_left(3, None, 2) is None


def test_a_cap_that_moves_is_said(
    tmp_path: Path, context: StudyContext, capsys: pytest.CaptureFixture[str]
) -> None:
    play(context)
    run_study(dataclasses.replace(context.spec, n_trials=1), Console())
    out = capsys.readouterr().out
    assert "the cap of small was 2 and is now 1: 2 trials are done and kept" in out
    assert "small: building the market and windows of 1 timeframe x 1 lookback" in out
    assert "ppo trains on the stock engine: agent.engine=stock asks for it" in out


def test_a_watch_ends_with_ctrl_c_and_without_a_word(
    context: StudyContext, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("optimize.cli.status.time.sleep", interrupt)
    assert "small" in said(context, capsys, watch=True)


def test_the_command_of_a_launch_names_what_lies_elsewhere_from_here(
    tmp_path: Path, context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "launched").mkdir()
    (tmp_path / "looks").mkdir()
    url, output = context.spec.database.url, Path(context.spec.output_dir)
    mark_folder(context)
    cases = {
        tmp_path: ["output_dir=studies", f"database.url={in_words(url).partition('=')[2]}"],
        tmp_path / "looks": [f"output_dir={output}", in_words(url).strip()],
    }
    for words in (["name=small", "seed=0"], [*cases[tmp_path], "name=small", "seed=0"]):
        with log_process(context.engine, "small", LaunchEvent, "the launch", words):
            pass
        monkeypatch.chdir(tmp_path / "looks")
        (config,) = compose_configs("study", pasted(context))
        assert Path(config.output_dir).resolve() == output
        assert database_path(config.database.url) == database_path(url)
        assert (config.name, config.seed) == ("small", 0)
        monkeypatch.chdir(tmp_path)


def pasted(context: StudyContext) -> list[str]:
    """Return the words of the command that `walkforge status` shows, as a shell reads them."""
    return shlex.split(study_status(context.engine, "small")["command"])[2:]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"provider": "embedded", "symbols": [], "timeframe": "1h", "months": 12},
            "EURUSD: 1h bars of FOREX_EURUSD_1H_ASK.csv, last 12 months",
        ),
        ({"provider": "synthetic", "timeframe": None}, "SYNTH: bars of a synthetic market"),
        ({"provider": "file", "path": "bars.csv", "timeframe": "5m"}, "all symbols: 5m bars of bars.csv"),
        ({"provider": "ccxt", "symbols": ["A", "B"], "timeframe": "1d"}, "A, B: 1d bars of ccxt"),
    ],
)
def test_a_study_of_an_older_version_names_its_market_as_a_launch_does(
    data: dict[str, Any], line: str
) -> None:
    assert market_line(data) == line
