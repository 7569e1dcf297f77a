"""Changes that a resumed study refuses, and events that must not cost a trial."""

import dataclasses
import json
from pathlib import Path

import pytest
from optuna.trial import TrialState

from optimize.errors import BadInputError
from optimize.evaluate.windows import WindowSpec
from optimize.results.event_log import events
from optimize.results.events import NoteFailed
from optimize.results.queries import without_note
from optimize.study.context import enroll, open_study
from optimize.study.dashboard import attach
from optimize.study.spec import resolve
from optimize.walkforward.markets import build_windowed_market
from tests.optimize.study.bundles import tiny_spec, write_prices
from tests.optimize.study.studies import opened, play, small_spec


def test_an_edited_window_file_is_another_exam(tmp_path: Path) -> None:
    prices = write_prices(tmp_path / "prices.parquet")
    file = tmp_path / "windows.json"
    span = {"train_start": "2022-01-03", "train_end": "2022-01-20"}
    file.write_text(json.dumps([span | {"test_start": "2022-01-20", "test_end": "2022-01-30"}]))
    windows = WindowSpec(file=str(file), min_train_bars=50)
    spec = tiny_spec(tmp_path, prices, window=windows)
    enroll(open_study(spec), build_windowed_market(spec, None))
    file.write_text(json.dumps([span | {"test_start": "2022-01-21", "test_end": "2022-01-30"}]))
    edited = resolve(dataclasses.replace(spec, window=windows))
    with pytest.raises(BadInputError, match=r"window\.spans"):
        enroll(open_study(edited), build_windowed_market(edited, None))


def test_a_study_stays_in_its_folder(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, write_prices(tmp_path / "prices.parquet"))
    enroll(open_study(spec), build_windowed_market(spec, None))
    moved = dataclasses.replace(spec, output_dir=str(tmp_path / "elsewhere"))
    with pytest.raises(BadInputError, match="output_dir"):
        enroll(open_study(moved), build_windowed_market(moved, None))


def test_a_picture_that_fails_costs_no_trial_and_is_one_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    context = opened(small_spec(tmp_path, n_trials=1))
    play(context)
    with monkeypatch.context() as patch:
        patch.setattr(attach, "attach_report", full_disk)
        assert attach.attach_reports(context) == attach.attach_reports(context) == 1
    (trial,) = context.study.get_trials()
    assert trial.state == TrialState.COMPLETE
    with context.engine.connect() as conn:
        (event,) = events(conn, "small", NoteFailed)
        assert "No space left" in event.message
        assert without_note(conn, "small") == [0]
    assert attach.attach_reports(context) == 1
    with context.engine.connect() as conn:
        assert without_note(conn, "small") == []
