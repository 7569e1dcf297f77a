import json
import math
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from matplotlib.image import imread
from optuna.trial import Trial, TrialState
from optuna_dashboard import get_note

from optimize.cli.dashboard import dashboard
from optimize.database import DatabaseSpec
from optimize.database.address import in_words
from optimize.errors import BadInputError
from optimize.report.format import MINUS, NOTHING, decimal, in_percent
from optimize.results.records import Outcome, load_baselines
from optimize.results.runs import windows_of
from optimize.results.states import RunState
from optimize.results.timeframe_verdict import Combination, Verdict, record_evidence
from optimize.schemas.records import DashboardConfig
from optimize.search.storage import trial_id
from optimize.study.context import StudyContext
from optimize.study.dashboard.attach import attach_report, attach_study_report
from optimize.study.dashboard.serve import DashboardServer, serve
from tests.optimize.study.gallery import (
    SESSIONS,
    WINDOWS,
    add_trial,
    close,
    complete,
    make_context,
    record_trial,
)

PRUNED = Outcome(RunState.PRUNED, 1.0, reason="pruner: below the median after window 1")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[StudyContext]:
    context = make_context(tmp_path)
    yield context
    close(context)


def decorate_recorded(
    context: StudyContext, outcome: Outcome, *, windows: int = WINDOWS, repeats: int = 1
) -> tuple[Trial, str]:
    """Decorate a trial whose record is finished; return it, not yet reported to Optuna, with its note."""
    trial, run = record_trial(context, outcome, windows=windows, repeats=repeats)
    with context.engine.connect() as conn:
        stored, baselines = windows_of(conn, run.run_uuid), load_baselines(conn, context.spec.name)
    attach_report(context, run, stored, baselines)
    return trial, get_note(trial)


def artifacts(context: StudyContext, trial: Trial) -> dict[str, Path]:
    folder = Path(context.spec.output_dir) / "artifacts"
    study_id = context.storage.get_study_id_from_name(context.spec.name)
    attributes = context.storage.get_study_system_attrs(study_id)
    prefix = f"dashboard:artifacts:{trial_id(context.storage, context.spec.name, trial.number)}:"
    entries = [json.loads(value) for key, value in attributes.items() if key.startswith(prefix)]
    return {entry["filename"]: folder / entry["artifact_id"] for entry in entries}


def study_id(context: StudyContext) -> int:
    return context.storage.get_study_id_from_name(context.spec.name)


def figures(context: StudyContext) -> dict[str, dict[str, list[dict[str, object]]]]:
    attributes = context.storage.get_study_system_attrs(study_id(context))
    found: dict[str, str] = {}
    for key in sorted(attributes, key=lambda key: (len(key), key)):
        if key.startswith("dashboard:plot_data:"):
            name = key.split(":")[2]
            found[name] = found.get(name, "") + attributes[key]
    return {name: json.loads(text) for name, text in found.items()}


def test_a_trial_carries_note_picture_and_table_before_it_is_told(context: StudyContext) -> None:
    trial, note = decorate_recorded(context, complete(1.234))
    context.study.tell(trial, 1.234)
    assert "**Score 1.234** (annualised Sharpe ratio), standard error 0.420" in note
    assert f"![Equity over the test windows](/artifacts/{study_id(context)}/" in note
    assert note.count("2017\N{NON-BREAKING HYPHEN}01\N{NON-BREAKING HYPHEN}02") == WINDOWS
    assert "`buy_and_hold`" in note
    assert "Seed entropy `[0, 0]`" in note
    where = in_words(context.spec.database.url)
    assert where
    assert f"walkforge replay name=gallery.model trial=0{where}" in note
    found = artifacts(context, trial)
    assert set(found) == {"equity.png", "equity.csv"}
    height, width, _ = imread(found["equity.png"], format="png").shape
    assert (width, height) == (936, 559)


def test_the_table_compounds_the_returns_of_all_windows(context: StudyContext) -> None:
    trial, _ = decorate_recorded(context, complete(1.0))
    header, *lines = artifacts(context, trial)["equity.csv"].read_text().splitlines()
    rows = [line.split(",") for line in lines]
    assert header == "session,equity,return,repeat"
    assert len(rows) == WINDOWS * SESSIONS
    assert rows[0][0] == "2017-06-01"
    assert float(rows[-1][1]) == pytest.approx(math.prod(1 + float(row[2]) for row in rows), rel=1e-12)


def test_decorating_again_uploads_nothing_and_finishes_what_was_cut_short(context: StudyContext) -> None:
    trial, run = record_trial(context, complete(1.0))
    with context.engine.connect() as conn:
        windows, baselines = windows_of(conn, run.run_uuid), load_baselines(conn, context.spec.name)
    attach_report(context, run, windows, baselines)
    first = artifacts(context, trial)
    first["equity.png"].unlink()  # as a kill between Optuna's row and its file leaves it
    attach_report(context, run, windows, baselines)
    assert artifacts(context, trial) == first
    assert first["equity.png"].is_file()
    context.study.tell(trial, 1.0)
    attach_report(context, run, windows, baselines)  # a finished trial that has everything is no error
    assert len(list(first["equity.png"].parent.iterdir())) == 2


def test_a_pruned_trial_says_why_and_shows_the_windows_it_finished(context: StudyContext) -> None:
    trial, note = decorate_recorded(context, PRUNED, windows=2, repeats=2)
    assert "**PRUNED**: below the median after window 1." in note
    assert "0, repeat 1" in note
    lines = artifacts(context, trial)["equity.csv"].read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * SESSIONS
    infeasible = Outcome(RunState.PRUNED, 1.0, reason="min_trades")
    assert "it traded less than `score.min_trades`" in decorate_recorded(context, infeasible)[1]


def test_a_failed_trial_without_windows_has_a_note_alone(context: StudyContext) -> None:
    failure = Outcome(RunState.FAIL, 1.0, failure_kind="numeric", failure_message="NumericError: NaN\nmore")
    trial, note = decorate_recorded(context, failure, windows=0)
    assert "**FAIL** (numeric): NumericError: NaN\n" in note
    assert "Test windows" not in note
    assert artifacts(context, trial) == {}


@pytest.mark.parametrize(
    ("value", "text"), [(None, NOTHING), (math.nan, NOTHING), (-0.125, f"{MINUS}12.5\xa0%")]
)
def test_numbers_are_readable(value: float | None, text: str) -> None:
    assert in_percent(value) == text
    assert decimal(-1.239) == f"{MINUS}1.24"


def test_a_study_carries_a_note_and_figures_that_a_relaunch_replaces(context: StudyContext) -> None:
    attach_study_report(context)
    assert figures(context) == {}
    note = get_note(context.study)
    assert "up to 3 trials" in note
    assert "joined over all test windows" in note
    assert "1 bps commission" in note
    assert context.study.metric_names == ["Sharpe ratio (joined)"]
    add_trial(context, -0.4)
    attach_study_report(context)
    add_trial(context, 1.23)
    attach_study_report(context)
    found = figures(context)
    assert set(found) == {"costs", "equity", "windows"}
    lines = [trace["name"] for trace in found["equity"]["data"]]
    assert lines == ["trial 1 (+1.23)", "trial 0 (-0.40)", "buy_and_hold"]
    assert found["windows"]["data"][0]["y"] == ["trial 1", "trial 0"]


def test_the_first_phase_compares_its_combinations_once_they_are_judged(tmp_path: Path) -> None:
    context = make_context(tmp_path, "gallery.timeframe")
    add_trial(context, 1.0)
    attach_study_report(context)
    assert "timeframes" not in figures(context)
    pairs = (
        Combination("1h", 4, 2, 2, (0.5, 1.5), 1.0, 0.5, 0.02),
        Combination("4h", 4, 2, 2, (2.0, 3.0), 2.5, 0.5, 1.0, kept=True),
        Combination("4h", 16, 2, 1, (1.8,), 1.8, reason="1 of 2 trials have a score"),
        Combination("1h", 16, 2, 0, reason="0 of 2 trials have a score"),
    )
    name = context.spec.name
    evidence = Verdict(name, "0" * 64, "rule", 0.9, 1000, 2, 40, 0.1, pairs, ("4h",), (4,))
    record_evidence(context.engine, evidence, "4h is better")
    attach_study_report(context)
    figure = figures(context)["timeframes"]
    dots, kept, dropped, unjudged = figure["data"]
    assert dots["y"] == [2.0, 3.0, 1.8, 0.5, 1.5]  # the best combination first
    assert (kept["x"], kept["y"], kept["text"]) == (["4h x 4"], [2.5], [" p 1.00"])
    assert (dropped["x"], dropped["text"], dropped["name"]) == (
        ["1h x 4"],
        [" p 0.02"],
        "dropped, mean ± standard error",
    )
    assert (unjudged["x"], unjudged["text"]) == (["4h x 16"], [""])
    title = figure["layout"]["title"]["text"]  # type: ignore[call-overload]
    assert "4h is better than every other timeframe (1 of 4 combinations is kept)" in title
    assert "dropped where p is 0.1 or less" in title
    close(context)


def test_pruned_and_failed_trials_do_not_reach_the_figures(context: StudyContext) -> None:
    trial, _ = decorate_recorded(context, PRUNED, windows=1)
    context.study.tell(trial, state=TrialState.PRUNED)
    attach_study_report(context)
    assert figures(context) == {}


def test_bad_input_is_one_line(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    known = DashboardConfig(name="gallery", database=context.spec.database, output_dir="studies")
    cases = {
        "name='other': this database holds no such study; it holds gallery.model": replace(
            known, name="other"
        ),
        "there is no database at": replace(known, database=DatabaseSpec(url="sqlite:///nowhere.db")),
        "host='192.0.2.1' is not an address of this machine": replace(known, host="192.0.2.1"),
    }
    for message, config in cases.items():
        with pytest.raises(BadInputError) as caught:
            dashboard(config)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not Path("nowhere.db").exists()


def test_a_file_without_studies_and_a_port_in_use_are_bad_input(
    context: StudyContext, tmp_path: Path
) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be taken for one" * 9)
    with pytest.raises(BadInputError, match="not an SQLite database"):
        serve(f"sqlite:///{tmp_path / 'text.db'}", tmp_path, "127.0.0.1", 8080)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInputError, match=f"port={port} cannot be opened on 127.0.0.1 \\(in use\\)"):
            serve(context.spec.database.url, context.spec.output_dir, "127.0.0.1", port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(("name", "page"), [("gallery", "/dashboard/studies/1"), (None, "/dashboard")])
def test_the_page_is_announced_and_answers_until_ctrl_c(
    context: StudyContext,
    name: str | None,
    page: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_trial(context, 1.0)
    answered: list[str] = []

    def serve_once(server: DashboardServer) -> None:
        """Answer one request from another thread, then be interrupted."""
        address = f"http://127.0.0.1:{server.server_port}/api/studies"

        def ask() -> None:
            with urllib.request.urlopen(address, timeout=30) as reply:
                answered.append(reply.read().decode())

        client = Thread(target=ask)
        client.start()
        server.handle_request()
        client.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(DashboardServer, "serve_forever", serve_once)
    port = free_port()
    serve(context.spec.database.url, context.spec.output_dir, "0.0.0.0", port, name)
    out, err = capsys.readouterr()
    assert f"http://127.0.0.1:{port}{page}   (Ctrl-C stops it)" in out
    assert "optuna-dashboard has no password" in err
    assert "gallery.model" in answered[0]
