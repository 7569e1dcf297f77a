"""The battery: planted markets are as stated, its truth is the expected one, and rows are found again."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import battery_sweep
from benchmarks.battery_edges import EDGES
from benchmarks.battery_markets import KINDS, PLANTED, VOLATILITY, Place, frame_of, plant, write_bars
from benchmarks.battery_oracle import SAMPLE, oracle_at
from benchmarks.battery_rows import keep_row, read_rows
from benchmarks.battery_sweep import WalkJob, placed, read_sets, settings_id, spec_of, summary
from benchmarks.battery_table import sweep_table
from benchmarks.battery_truth import fresh_bars, truth_of_actions, truth_of_oracle

SHORT = 3000


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(battery_sweep, "SCRATCH", tmp_path / "scratch")
    return tmp_path / "scratch"


@pytest.mark.parametrize(("kind", "strength"), [("momentum_5", 3)])
def test_the_oracle_of_a_kind_earns_its_strength(kind: str, strength: int) -> None:
    stored = EDGES[kind][strength]
    found = oracle_at(kind, stored.edge, SAMPLE)
    assert found.sharpe == pytest.approx(strength, abs=0.03)
    assert found.band == stored.band


def test_every_planted_kind_has_three_strengths_that_rise() -> None:
    assert set(EDGES) == set(PLANTED)
    for kind, sizes in EDGES.items():
        assert list(sizes) == [2, 3, 4], kind
        edges = [each.edge for each in sizes.values()]
        assert edges == sorted(edges)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_drift_is_the_expected_return_of_its_bar(kind: str) -> None:
    planted = plant(kind, 0.1, 60_000, np.random.default_rng(1))
    shock = planted.returns - planted.drift
    size = VOLATILITY / np.sqrt(len(shock))
    assert np.abs(shock.mean(axis=0)).max() < 4 * size
    moving = planted.drift.std(axis=0) > 1e-9
    for asset in np.flatnonzero(moving):
        slope = np.polyfit(planted.drift[:, asset], planted.returns[:, asset], 1)[0]
        assert slope == pytest.approx(1.0, abs=0.2)
    assert (shock / planted.volatility).std() == pytest.approx(1.0, abs=0.05)


def test_bars_open_at_the_last_close_and_fresh_ones_are_others() -> None:
    place = Place("last", 3, 0)
    frame = frame_of(place.planted(SHORT), 0)
    assert (frame["open"].to_numpy()[1:] == frame["close"].to_numpy()[:-1]).all()
    assert (frame["high"] >= frame[["open", "close"]].max(axis=1)).all()
    assert (frame["low"] <= frame[["open", "close"]].min(axis=1)).all()
    assert place.planted(SHORT).returns == pytest.approx(place.planted(SHORT).returns)
    fresh = place.planted(SHORT, fresh=True).returns
    assert abs(np.corrcoef(fresh[:, 0], place.planted(SHORT).returns[:, 0])[0, 1]) < 0.1


def test_the_truth_of_the_oracle_is_its_strength_and_noise_alone_does_not_move_it(scratch: Path) -> None:
    place = Place("season_day", 4, 0)
    spec, _ = placed((), place, SHORT)
    fresh = fresh_bars(spec, place, scratch, 12_000)
    truth = truth_of_oracle(spec, fresh, place)
    assert truth.expected == pytest.approx(4, abs=0.4)
    always = truth_of_actions(spec, fresh, np.full((fresh.market.n_bars, 1), 0.5))
    assert abs(always.expected) < 0.3
    assert abs(truth.realised - truth.expected) > 0.01


def test_the_columns_of_a_kind_join_the_inputs_that_were_chosen(scratch: Path) -> None:
    place = Place("hidden", 3, 0)
    path = write_bars(place, place.planted(SHORT), scratch, "train")
    spec = spec_of(["feature.indicators=[returns]", "feature.lookback=1"], place, path)
    assert spec.feature.indicators == ["returns", "useless"]
    fresh = fresh_bars(spec, place, scratch, SHORT)
    useless = fresh.market.features[:, 0, 1:]
    assert useless.shape[1] == 40
    returns = np.log(fresh.market.close[1:, 0] / fresh.market.close[:-1, 0])
    assert np.abs([np.corrcoef(column, returns)[0, 1] for column in useless[:-1].T]).max() < 0.1


def test_a_set_is_found_again_unless_a_default_has_changed(tmp_path: Path) -> None:
    raw = tmp_path / "rows.jsonl"
    first = settings_id(["feature.lookback=2"], raw)
    assert settings_id(["feature.lookback=2"], raw) == first
    assert settings_id(["feature.lookback=4"], raw) != first
    rows = read_rows(raw)
    older = {key: value for key, value in rows[0]["settings"].items() if key != "feature.lookback"}
    raw.write_text("")
    keep_row(raw, {"settings_id": "older", "settings": older})
    assert settings_id(["feature.lookback=2"], raw) == "older"


def test_a_row_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    raw = tmp_path / "rows.jsonl"
    keep_row(raw, {"key": [1]})
    with raw.open("a") as stream:
        stream.write('{"key": [2')
    assert read_rows(raw) == [{"key": [1]}]


def test_sets_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "sets.yaml"
    path.write_text('defaults: ""\none: a.b=1 "c.d=[1, 2]"\n')
    assert read_sets(path) == {"defaults": (), "one": ("a.b=1", "c.d=[1, 2]")}
    assert read_sets(battery_sweep.SETS)


def test_the_lead_of_a_set_is_that_on_the_same_markets() -> None:
    places = [Place("last", 3, number) for number in range(3)]
    jobs = [WalkJob(name, (), place, 0, name, 1, 1) for place in places for name in ("first", "second")]
    truth = {"first": [1.0, 2.0, 3.0], "second": [1.5, 2.5, 3.5]}
    rows = {
        job.key: {
            "words": [], "expected": [truth[job.name][job.place.number]], "realised": [0.0],
            "oracle": [4.0, 4.0], "cpu_s": 1.0,
        }
        for job in jobs[:-1]
    }  # fmt: skip
    result = json.loads(json.dumps(summary(jobs, rows)))
    first, second = result["sets"]
    assert (first["expected"][0], first["share"]) == (2.0, 0.5)
    assert (second["walks"], second["lead"]) == (2, [0.5, 0.0])
    shown = sweep_table(result)
    assert "5 of the 6 walk-forwards" in shown
    assert "| second |  | 2 | +2.00 ± 0.50 | +0.50 ± 0.00 | 50% |" in shown
