"""What a resumed study refuses to become, and what must not cost a trial."""

import dataclasses
import json
from pathlib import Path

import pytest
from optuna.trial import TrialState

from optimize.errors import BadInputError
from optimize.evaluate.windows import WindowSpec
from optimize.results.records import events
from optimize.study.claims import telling
from optimize.study.handle import enroll, open_study
from optimize.study.spec import resolve
from optimize.study.trial import lay_ground
from tests.optimize.study.bundles import run_all, tiny_spec, write_prices


def test_an_edited_window_file_is_another_exam(tmp_path: Path) -> None:
    prices = write_prices(tmp_path / "prices.parquet")
    file = tmp_path / "windows.json"
    span = {"train_start": "2022-01-03", "train_end": "2022-01-20"}
    file.write_text(json.dumps([span | {"test_start": "2022-01-20", "test_end": "2022-01-30"}]))
    windows = WindowSpec(file=str(file), min_train_bars=50)
    spec = tiny_spec(tmp_path, prices, window=windows)
    enroll(open_study(spec), lay_ground(spec, None))
    file.write_text(json.dumps([span | {"test_start": "2022-01-21", "test_end": "2022-01-30"}]))
    edited = resolve(dataclasses.replace(spec, window=windows))
    with pytest.raises(BadInputError, match=r"window\.spans"):
        enroll(open_study(edited), lay_ground(edited, None))


def test_a_study_stays_in_its_folder(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, write_prices(tmp_path / "prices.parquet"))
    enroll(open_study(spec), lay_ground(spec, None))
    moved = dataclasses.replace(spec, output_dir=str(tmp_path / "elsewhere"))
    with pytest.raises(BadInputError, match="output_dir"):
        enroll(open_study(moved), lay_ground(moved, None))


def test_a_picture_that_fails_costs_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(telling, "decorate", full_disk)
    handle = run_all(tiny_spec(tmp_path, write_prices(tmp_path / "prices.parquet"), n_trials=1))
    (trial,) = handle.study.get_trials()
    assert trial.state == TrialState.COMPLETE
    with handle.engine.connect() as conn:
        assert "No space left" in events(conn, "tiny", "note_failed")[0].message
