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
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import Trial, TrialState
from optuna_dashboard import get_note

from optimize.cli.dashboard import dashboard
from optimize.compose import DashboardConfig
from optimize.database import DatabaseSpec
from optimize.database.address import in_words
from optimize.errors import BadInputError
from optimize.results.records import Outcome, load_baselines
from optimize.results.runs import windows_of
from optimize.study.evidence import Combination, Evidence, record_evidence
from optimize.study.handle import Handle
from optimize.study.pages.dashboard import DashboardServer, decorate, decorate_study, serve
from optimize.study.pages.note import MINUS, NOTHING, percent, signed
from tests.optimize.study.gallery import (
    SESSIONS,
    WINDOWS,
    add_trial,
    close,
    complete,
    make_handle,
    record_trial,
)

PRUNED = Outcome("PRUNED", 1.0, reason="pruner: below the median after window 1")


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[Handle]:
    handle = make_handle(tmp_path)
    yield handle
    close(handle)


def decorate_recorded(
    handle: Handle, outcome: Outcome, *, windows: int = WINDOWS, repeats: int = 1
) -> tuple[Trial, str]:
    """Decorate a trial whose record is finished; return it, not yet told, with its note."""
    trial, run = record_trial(handle, outcome, windows=windows, repeats=repeats)
    with handle.engine.connect() as conn:
        stored, baselines = windows_of(conn, run.run_uuid), load_baselines(conn, handle.spec.name)
    decorate(handle, trial, run, stored, baselines)
    return trial, get_note(trial)


def artifacts(handle: Handle, trial: Trial) -> dict[str, Path]:
    folder = Path(handle.spec.output_dir) / "artifacts"
    return {meta.filename: folder / meta.artifact_id for meta in get_all_artifact_meta(trial)}


def figures(handle: Handle) -> dict[str, dict[str, list[dict[str, object]]]]:
    attributes = handle.study._storage.get_study_system_attrs(handle.study._study_id)
    found: dict[str, str] = {}
    for key in sorted(attributes, key=lambda key: (len(key), key)):
        if key.startswith("dashboard:plot_data:"):
            name = key.split(":")[2]
            found[name] = found.get(name, "") + attributes[key]
    return {name: json.loads(text) for name, text in found.items()}


def test_a_trial_carries_note_picture_and_table_before_it_is_told(handle: Handle) -> None:
    trial, note = decorate_recorded(handle, complete(1.234))
    handle.study.tell(trial, 1.234)
    assert "**Score 1.234** (annualised Sharpe ratio), standard error 0.420" in note
    assert f"![Equity over the test windows](/artifacts/{handle.study._study_id}/" in note
    assert note.count("2017\N{NON-BREAKING HYPHEN}01\N{NON-BREAKING HYPHEN}02") == WINDOWS
    assert "`buy_and_hold`" in note
    assert "Seed entropy `[0, 0]`" in note
    where = in_words(handle.spec.database.url)
    assert where
    assert f"walkforge replay name=gallery.model trial=0{where}" in note
    found = artifacts(handle, trial)
    assert set(found) == {"equity.png", "equity.csv"}
    height, width, _ = imread(found["equity.png"], format="png").shape
    assert (width, height) == (936, 559)


def test_the_table_compounds_the_returns_of_all_windows(handle: Handle) -> None:
    trial, _ = decorate_recorded(handle, complete(1.0))
    header, *lines = artifacts(handle, trial)["equity.csv"].read_text().splitlines()
    rows = [line.split(",") for line in lines]
    assert header == "session,equity,return,repeat"
    assert len(rows) == WINDOWS * SESSIONS
    assert rows[0][0] == "2017-06-01"
    assert float(rows[-1][1]) == pytest.approx(math.prod(1 + float(row[2]) for row in rows), rel=1e-12)


def test_decorating_again_uploads_nothing_and_finishes_what_was_cut_short(handle: Handle) -> None:
    trial, run = record_trial(handle, complete(1.0))
    with handle.engine.connect() as conn:
        windows, baselines = windows_of(conn, run.run_uuid), load_baselines(conn, handle.spec.name)
    decorate(handle, trial, run, windows, baselines)
    first = artifacts(handle, trial)
    first["equity.png"].unlink()  # as a kill between Optuna's row and its file leaves it
    decorate(handle, trial, run, windows, baselines)
    assert artifacts(handle, trial) == first
    assert first["equity.png"].is_file()
    handle.study.tell(trial, 1.0)
    decorate(handle, trial, run, windows, baselines)  # a finished trial that has everything is no error
    assert len(list(first["equity.png"].parent.iterdir())) == 2


def test_a_pruned_trial_says_why_and_shows_the_windows_it_finished(handle: Handle) -> None:
    trial, note = decorate_recorded(handle, PRUNED, windows=2, repeats=2)
    assert "**PRUNED**: below the median after window 1." in note
    assert "0, repeat 1" in note
    lines = artifacts(handle, trial)["equity.csv"].read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * SESSIONS
    infeasible = Outcome("PRUNED", 1.0, reason="min_trades")
    assert "it traded less than `score.min_trades`" in decorate_recorded(handle, infeasible)[1]


def test_a_failed_trial_without_windows_has_a_note_alone(handle: Handle) -> None:
    failure = Outcome("FAIL", 1.0, failure_kind="numeric", failure_message="NumericError: NaN\nmore")
    trial, note = decorate_recorded(handle, failure, windows=0)
    assert "**FAIL** (numeric): NumericError: NaN\n" in note
    assert "Test windows" not in note
    assert artifacts(handle, trial) == {}


@pytest.mark.parametrize(
    ("value", "text"), [(None, NOTHING), (math.nan, NOTHING), (-0.125, f"{MINUS}12.5\xa0%")]
)
def test_numbers_are_readable(value: float | None, text: str) -> None:
    assert percent(value) == text
    assert signed(-1.239) == f"{MINUS}1.24"


def test_a_study_carries_a_note_and_figures_that_a_relaunch_replaces(handle: Handle) -> None:
    decorate_study(handle)
    assert figures(handle) == {}
    note = get_note(handle.study)
    assert "up to 3 trials" in note
    assert "joined over all test windows" in note
    assert "1 bps commission" in note
    assert handle.study.metric_names == ["Sharpe ratio (joined)"]
    add_trial(handle, -0.4)
    decorate_study(handle)
    add_trial(handle, 1.23)
    decorate_study(handle)
    found = figures(handle)
    assert set(found) == {"equity", "windows"}
    lines = [trace["name"] for trace in found["equity"]["data"]]
    assert lines == ["trial 1 (1.23)", "trial 0 (-0.40)", "buy_and_hold"]
    assert found["windows"]["data"][0]["y"] == ["trial 1", "trial 0"]


def test_the_first_phase_compares_its_combinations_once_they_are_judged(tmp_path: Path) -> None:
    handle = make_handle(tmp_path, "gallery.timeframe")
    add_trial(handle, 1.0)
    decorate_study(handle)
    assert "timeframes" not in figures(handle)
    pairs = (
        Combination("1h", 4, 2, 2, (0.5, 1.5), 1.0, 0.5, 0.02),
        Combination("4h", 4, 2, 2, (2.0, 3.0), 2.5, 0.5, 1.0, kept=True),
        Combination("4h", 16, 2, 1, (1.8,), 1.8, reason="1 of 2 trials have a score"),
        Combination("1h", 16, 2, 0, reason="0 of 2 trials have a score"),
    )
    name = handle.spec.name
    record_evidence(
        handle.engine, Evidence(name, "0" * 64, "rule", 0.9, 1000, 2, 40, 0.1, pairs, ("4h",), (4,))
    )
    decorate_study(handle)
    figure = figures(handle)["timeframes"]
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
    close(handle)


def test_pruned_and_failed_trials_do_not_reach_the_figures(handle: Handle) -> None:
    trial, _ = decorate_recorded(handle, PRUNED, windows=1)
    handle.study.tell(trial, state=TrialState.PRUNED)
    decorate_study(handle)
    assert figures(handle) == {}


def test_bad_input_is_one_line(handle: Handle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    known = DashboardConfig(name="gallery", database=handle.spec.database, output_dir="studies")
    cases = {
        "name='other': this database holds no such study; it holds gallery.model": replace(
            known, name="other"
        ),
        "there is no database at": replace(known, database=DatabaseSpec(url="sqlite:///nowhere.db")),
        "host='192.0.2.1' is no address of this machine": replace(known, host="192.0.2.1"),
    }
    for message, config in cases.items():
        with pytest.raises(BadInputError) as caught:
            dashboard(config)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not Path("nowhere.db").exists()


def test_a_file_without_studies_and_a_port_in_use_are_bad_input(handle: Handle, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be taken for one" * 9)
    with pytest.raises(BadInputError, match="no SQLite database"):
        serve(f"sqlite:///{tmp_path / 'text.db'}", tmp_path, "127.0.0.1", 8080)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInputError, match=f"port={port} cannot be opened on 127.0.0.1 \\(in use\\)"):
            serve(handle.spec.database.url, handle.spec.output_dir, "127.0.0.1", port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(("name", "page"), [("gallery", "/dashboard/studies/1"), (None, "/dashboard")])
def test_the_page_is_announced_and_answers_until_ctrl_c(
    handle: Handle,
    name: str | None,
    page: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_trial(handle, 1.0)
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
    serve(handle.spec.database.url, handle.spec.output_dir, "0.0.0.0", port, name)
    out, err = capsys.readouterr()
    assert f"http://127.0.0.1:{port}{page}   (Ctrl-C stops it)" in out
    assert "optuna-dashboard has no password" in err
    assert "gallery.model" in answered[0]
