"""The probe on random walks: zero is told from an edge, and a stopped run goes on."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import probe_noise
from benchmarks.battery_rows import read_rows
from benchmarks.probe_noise import INPUTS, NOISE, NoiseJob, probe_walk, probed, summed_up
from benchmarks.probe_noise_table import noise_table
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.probe import ProbeResult, evaluate_probe
from optimize.walkforward.spec import RunSpec

SHORT = 3000


def _jobs(walks: int) -> list[NoiseJob]:
    return [
        NoiseJob(noise, number, inputs, inputs, SHORT)
        for number in range(walks)
        for noise in NOISE
        for inputs in INPUTS
    ]


def _row(sharpe: float) -> dict[str, Any]:
    return {"sharpe": sharpe, "flat": 1, "windows": 4, "cpu_s": 0.5}


@pytest.mark.parametrize("noise", list(NOISE))
def test_a_walk_is_noise_that_can_be_made_again(noise: str) -> None:
    one, again, other = (NOISE[noise](number, SHORT) for number in (0, 0, 1))
    assert one.equals(again)
    assert not one["close"].equals(other["close"])
    returns = np.diff(np.log(one["close"]))
    assert abs(returns.mean()) < 4 * returns.std() / np.sqrt(SHORT)
    assert (one["high"] >= one[["open", "close"]].max(axis=1)).all()


def test_a_mean_is_told_from_zero_by_its_error() -> None:
    jobs, drawn = _jobs(100), np.random.default_rng(0)
    noise = {job.key: _row(float(drawn.normal())) for job in jobs}
    result = json.loads(json.dumps(summed_up(jobs, noise)))
    assert (result["probes"], result["asked"], result["bars"]) == (400, 400, SHORT)
    *cells, whole = result["cells"]
    assert [(each["noise"], each["inputs"]) for each in cells] == [(n, i) for n in NOISE for i in INPUTS]
    assert [(each["walks"], each["flat"]) for each in cells] == [(100, 0.25)] * 4
    assert whole["walks"] == 200
    assert whole["p_value"] > 0.05
    shown = noise_table(result)
    assert "400 of the 400 probes" in shown
    assert "**no**" not in shown
    skilled = {key: _row(row["sharpe"] + 0.5) for key, row in noise.items()}
    skilled.pop(jobs[-1].key)
    result = summed_up(jobs, skilled)
    assert (result["probes"], result["cells"][-1]["walks"]) == (399, 199)
    assert all(each["p_value"] < 0.01 for each in result["cells"])
    assert noise_table(result).count("**no**") == 5


def test_a_run_goes_on_with_the_walks_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[Any, ...]] = []

    def measure(job: NoiseJob) -> dict[str, Any]:
        ran.append(job.key)
        return {"key": list(job.key), **_row(0.1)}

    monkeypatch.setattr(probe_noise, "probe_walk", measure)
    asked = Namespace(walks=2, bars=SHORT, workers=1, raw=tmp_path / "walks.jsonl", count=False)
    assert probed(asked)["probes"] == len(ran) == 8
    ran.clear()
    asked.walks = 3
    assert probed(asked)["probes"] == 12
    assert len(ran) == 4
    asked.count, asked.walks = True, 4
    assert (probed(asked)["probes"], probed(asked)["asked"]) == (12, 16)
    assert len([row for row in read_rows(asked.raw) if "settings" in row]) == len(INPUTS)


def test_the_probe_of_a_walk_is_measured_without_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = []

    def noted(spec: RunSpec, windowed: WindowedMarket) -> ProbeResult:
        specs.append(spec)
        return evaluate_probe(spec, windowed)

    monkeypatch.setattr(probe_noise, "evaluate_probe", noted)
    row = probe_walk(NoiseJob("clusters and season", 0, "columns", "id", SHORT))
    (spec,) = specs
    assert (spec.cost.commission_bps, spec.cost.slippage_bps, spec.cost.borrow_rate) == (0.0, 0.0, 0.0)
    assert spec.feature.lookback == 4
    assert row["key"] == ["id", "clusters and season", 0, SHORT]
    assert row["windows"] == 4
    assert row["sharpe"] != 0.0 or row["flat"] == 4


@pytest.mark.slow
def test_the_short_form_ends_with_its_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["probe_noise.py", "--quick"])
    probe_noise.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["probes"] == result["asked"] == 12
