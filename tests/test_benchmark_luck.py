"""The benchmark of luck runs in its short form, goes on after a stop, and its verdicts follow its limits."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import luck
from benchmarks.luck import Part, Values, reached, record, summed_up
from benchmarks.luck_simulation import ENDS, KINDS, SESSIONS, TRIALS, draw, family, stopped
from benchmarks.luck_table import luck as as_tables
from benchmarks.targets import luck_targets
from optimize.search.spec import PrunerSpec


@pytest.mark.slow
def test_the_short_form_ends_with_one_json_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "--quick",
        "--share",
        "0.5",
        "--only",
        "size",
        "power",
        "selection",
        "nested",
    ]
    monkeypatch.setattr(sys, "argv", ["luck.py", *words])
    luck.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["size"]) == set(result["power"]) == set(KINDS)
    planted, none = (result["selection"][case] for case in ("planted", "none"))
    assert planted["board"]["mean"] > none["board"]["mean"]
    assert "Size, families without skill" in as_tables(result)
    assert len(list(luck_targets(result))) == 4 * 2 + 4 * 2 + 2 * 2 + 2


def test_a_run_goes_on_where_it_was_stopped_and_fresh_seeds_are_added(tmp_path: Path) -> None:
    measured: list[int] = []

    def measure(folder: Path, case: str, seed: int) -> Values:
        measured.append(seed)
        return {"board": float(seed)}

    part, raw = Part(measure, {}, {}), tmp_path / "raw.jsonl"
    record(raw, "nested", part, "none", 3)
    found = record(raw, "nested", part, "none", 5)
    assert measured == [0, 1, 2, 3, 4]
    assert found == [{"board": float(seed)} for seed in range(5)]
    record(raw, "nested", part, "planted", 1)
    assert measured == [0, 1, 2, 3, 4, 0]


@pytest.mark.parametrize(("share", "met"), [(0.01, False), (0.05, True), (0.09, False)])
def test_a_size_outside_its_limits_is_missed(share: float, met: bool) -> None:
    found = [{"flat": float(n < 100 * share), "buy_and_hold": float(n < 5)} for n in range(100)]
    means = summed_up(found)
    assert reached("size", "normal", means) == {"flat": met, "buy_and_hold": True}
    assert means["buy_and_hold"]["error"] == pytest.approx(np.sqrt(0.05 * 0.95 / 99), abs=1e-4)


def test_a_number_is_centred_or_found_by_its_error() -> None:
    def of(mean: float) -> Any:
        return {"board": {"mean": mean, "error": 0.1}}

    assert reached("nested", "none", of(0.2)) == {"board": True}
    assert reached("nested", "none", of(-0.3)) == {"board": False}
    assert reached("nested", "planted", of(0.2)) == {"board": False}
    assert reached("nested", "planted", of(0.3)) == {"board": True}


@pytest.mark.parametrize("name", KINDS)
def test_the_families_have_mean_zero_and_the_stated_correlation(name: str) -> None:
    draws = [draw(KINDS[name], np.random.default_rng(seed)) for seed in range(40)]
    returns = np.concatenate(draws)
    assert abs(returns.mean()) < 4 * 0.01 * np.sqrt(0.5 / len(returns))
    assert returns.std() == pytest.approx(0.01, rel=0.05)
    beyond = returns[:, :-1] - returns[:, -1:]
    for each in (returns, beyond):
        pairs = np.asarray(np.corrcoef(each, rowvar=False))[np.triu_indices(each.shape[1], 1)]
        assert pairs.mean() == pytest.approx(0.5, abs=0.06)


def test_pruned_trials_have_no_score_and_other_studies_share_sessions() -> None:
    found = family(KINDS["pruned"], draw(KINDS["pruned"], np.random.default_rng(0)))
    stops = [run.pruned for run in found.runs]
    assert 10 < sum(stops) < TRIALS - 8
    for run, column in zip(found.runs, found.returns.T, strict=True):
        assert (run.score is None) == run.pruned == bool(np.isnan(column).any())
    overlapping = family(KINDS["overlapping"], draw(KINDS["overlapping"], np.random.default_rng(0)))
    assert {run.study_name for run in overlapping.runs} == {"simulated", "other"}
    assert (np.isfinite(overlapping.returns).sum(axis=0) == SESSIONS).all()


def test_the_pruner_stops_the_worse_half_and_clears_later_windows() -> None:
    returns = np.random.default_rng(0).standard_normal((SESSIONS, 12)) * 0.01
    returns[:, 10] += 0.02
    returns[:, 11] -= 0.02
    ended = stopped(returns, PrunerSpec(n_startup_trials=4), ENDS)
    assert not ended[:4].any()
    assert (bool(ended[10]), bool(ended[11])) == (False, True)
    assert np.isfinite(returns[: ENDS[1], 11]).all()
    assert np.isnan(returns[ENDS[1] :, 11]).all()
