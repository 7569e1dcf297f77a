"""The quality report before a study and before a walk-forward."""

import dataclasses
import io
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from optimize.study.context import StudyContext, enroll, open_study
from optimize.study.launch import run as runner
from optimize.study.launch.run import run_study
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import build_windowed_market
from tests.optimize.cli.conftest import Run
from tests.optimize.cli.conftest import run as run  # the fixture
from tests.optimize.study.studies import small_spec


def write_bars(path: Path, split: int) -> None:
    """Write 60 days of hours, five of them missing, that halve at row `split`."""
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, 1440)))
    close[split:] /= 2
    open_ = np.concatenate([[100.0], close[:-1]])
    open_[split:] = np.concatenate([[open_[split] / 2], open_[split + 1 :]])
    stamps = pd.date_range("2024-01-01", periods=1440, freq="h", tz="UTC")
    high, low = np.maximum(open_, close) * 1.002, np.minimum(open_, close) / 1.002
    prices = {"open": open_, "high": high, "low": low, "close": close}
    frame = pd.DataFrame({"timestamp": stamps, **prices, "volume": rng.lognormal(5, 0.4, 1440)})
    frame.drop(index=range(100, 105)).to_parquet(path)


def spec_on(folder: Path, **data: Any) -> StudySpec:
    write_bars(folder / "btc.parquet", split=700)
    return small_spec(folder, data=DataSpec(provider="file", path=str(folder / "btc.parquet"), **data))


def test_a_finding_that_refuses_stops_a_study_before_any_work(tmp_path: Path) -> None:
    said = Console(file=io.StringIO(), width=400)
    with pytest.raises(
        BadInputError, match=r"btc\.parquet: 1 jump like a split .*data.severity.split=warn"
    ) as caught:
        run_study(spec_on(tmp_path), said)
    assert caught.value.exit_code == 2
    told = said.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert re.search(r"^warn gaps BTC: 1 gap in open market time", told, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == ["btc.parquet"]


def test_a_finding_that_warns_is_a_line_and_the_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run_phase(spec: StudySpec, *_: object, **__: object) -> Mock:
        ran.append(spec.name)
        return Mock(spec=StudyContext)

    monkeypatch.setattr(runner, "run_phase", run_phase)
    said = Console(file=io.StringIO(), width=400)
    run_study(spec_on(tmp_path, severity={"split": "warn", "gaps": "ignore", "seen_open": "ignore"}), said)
    assert ran == ["small"]
    lines = said.file.getvalue().splitlines()  # type: ignore[attr-defined]  # a StringIO
    source, finding, remedies = lines
    assert source == "BTC: 1h bars of btc.parquet, 2024-01-01 to 2024-02-29"
    assert finding.startswith("warn split BTC: 1 jump like a split (2:1 at 2024-01-30")
    assert remedies == "dates and remedies: walkforge data data.check=true, with the same data keys"


def test_a_study_may_be_resumed_under_another_judgement(tmp_path: Path) -> None:
    spec = spec_on(tmp_path)
    windowed = build_windowed_market(spec, None)
    context = open_study(spec)
    enroll(context, windowed)
    settings: dict[str, Any] = {
        "severity": {"split": "warn"},
        "max_age": 3.0,
        "max_gap_days": 2.0,
        "refresh": True,
    }
    judged = dataclasses.replace(spec, data=dataclasses.replace(spec.data, **settings))
    enroll(dataclasses.replace(context, spec=judged), windowed)
    nan = dataclasses.replace(spec, data=dataclasses.replace(spec.data, drop_nan=True))
    with pytest.raises(BadInputError, match=r"data\.drop_nan"):
        enroll(dataclasses.replace(context, spec=nan), windowed)


def test_walk_forward_refuses_and_warns_alike(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "btc.parquet", split=700)
    command = ["walk-forward", "name=x", "data=file", "data.path=btc.parquet", "dry_run=true"]
    code, out, err = run(*command, "window.count=2")
    assert (code, err.count("\n")) == (2, 1)
    assert "warn gaps BTC" in out
    assert "jump like a split" in err
    code, out, err = run(*command, "window.count=2", "data.severity.split=warn")
    assert "warn split BTC" in out
    assert "jump like a split" not in err
