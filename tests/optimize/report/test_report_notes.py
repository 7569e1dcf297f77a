"""The words of a study's note, of its conclusion and of its end."""

import dataclasses
from pathlib import Path

import pytest

from optimize.cli.study import study
from optimize.report.market_line import market_line
from optimize.report.notes import study_note
from optimize.schemas.studies import RunStudyConfig
from optimize.study.spec import StudySpec
from tests.optimize.study.studies import small_spec


def test_the_note_of_a_timeframe_phase_names_every_timeframe_that_it_searches() -> None:
    spec = StudySpec(name="x", space={"data": {"timeframe": ["1h", "2h"]}})
    assert study_note(spec.name, spec, spec.space, spec.n_trials).startswith("EURUSD: 1h, 2h bars of ")
    one = dataclasses.replace(spec, data=dataclasses.replace(spec.data, timeframe="1h"), space={})
    assert study_note(one.name, one, one.space, one.n_trials).startswith("EURUSD: 1h bars of ")


def test_the_line_of_a_market_names_its_file_without_the_folders() -> None:
    data = {
        "provider": "file",
        "path": "/home/someone/data/spy_1h.parquet",
        "symbols": ["SPY"],
        "timeframe": "1h",
    }
    assert market_line(data) == "SPY: 1h bars of spy_1h.parquet"


def test_a_study_that_ends_without_a_score_offers_no_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(tmp_path, n_trials=1)
    done = "small has no feasible trial, so there is nothing to export; of 1 finished: 1 PRUNED (min_trades)"
    monkeypatch.setattr("optimize.cli.study.to_spec", lambda config: spec)
    monkeypatch.setattr("optimize.cli.study.run_study", lambda *_: "small")
    monkeypatch.setattr("optimize.cli.study._outcome", lambda *_: (done, None))
    assert study(RunStudyConfig(name="small")) == 0
    out = capsys.readouterr().out
    assert done in out
    assert "walkforge export" not in out
