"""The battery: planted markets are as stated, its truth is the expected one, and rows are found again."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import battery, battery_contestants, battery_specs, battery_sweep
from benchmarks.battery import summed_up
from benchmarks.battery_boosting import Boosted, fit_boosting
from benchmarks.battery_contestants import OF_0_1, BatteryJob, contest, stock_words
from benchmarks.battery_edges import EDGES
from benchmarks.battery_markets import KINDS, PLANTED, VOLATILITY, Place, frame_of, plant
from benchmarks.battery_oracle import SAMPLE, oracle_at
from benchmarks.battery_rows import keep_row, read_rows
from benchmarks.battery_specs import alike, placed, settings_id, settings_of
from benchmarks.battery_sweep import WalkJob, read_sets, summary
from benchmarks.battery_table import battery_table, draw_battery, sweep_table
from benchmarks.battery_truth import fresh_bars, truth_of_actions, truth_of_oracle
from optimize.walkforward.markets import fit_to_window

SHORT = 3000


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (battery_contestants, battery_specs, battery_sweep):
        monkeypatch.setattr(module, "SCRATCH", tmp_path / "scratch")
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
    spec, _ = placed(("feature.indicators=[returns]", "feature.lookback=1"), place, SHORT)
    assert spec.feature.indicators == ["returns", "useless"]
    fresh = fresh_bars(spec, place, scratch, SHORT)
    useless = fresh.market.features[:, 0, 1:]
    assert useless.shape[1] == 40
    returns = np.log(fresh.market.close[1:, 0] / fresh.market.close[:-1, 0])
    assert np.abs([np.corrcoef(column, returns)[0, 1] for column in useless[:-1].T]).max() < 0.1


def test_settings_are_found_again_unless_a_default_has_changed(tmp_path: Path) -> None:
    raw = tmp_path / "rows.jsonl"
    now = {"feature.lookback": 2, "agent.gamma": 0.9, "space.agent.gamma": [0.5, 0.9]}
    first = settings_id(now, raw)
    assert settings_id(now | {"feature.newer": 0}, raw) == first
    assert settings_id(now | {"feature.lookback": 4}, raw) != first
    assert not alike(now, now | {"space.feature.newer": [0, 1]})
    assert len(read_rows(raw)) == 2


def test_the_settings_of_0_1_are_its_own_and_those_of_stock_are_stable_baselines3() -> None:
    of_0_1 = settings_of("study", OF_0_1)
    assert (of_0_1["feature.lookback"], of_0_1["agent.gamma"]) == (8, 0.99)
    assert "space.agent.vf_coef.high" in of_0_1
    assert not any(key.startswith("space.feature") for key in of_0_1)
    words = stock_words()
    assert {"agent.engine=stock", "agent.n_envs=1", "agent.n_steps=2048", "agent.batch_size=64"} <= set(words)


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


def battery_job(contestant: str, place: Place, **sizes: int) -> BatteryJob:
    return BatteryJob(contestant, place, 0, "id", SHORT, SHORT, **sizes)


def test_the_probe_finds_a_season_and_its_truth_is_that_of_its_last_window() -> None:
    (row,) = contest(battery_job("probe", Place("season_day", 4, 0)))
    assert row["key"] == ["probe", "id", "season_day", 4, 0, 0, SHORT, SHORT, 0, 0, 0]
    assert row["oracle"][0] == pytest.approx(4, abs=0.8)
    assert -8 < row["expected"] < row["oracle"][0] + 0.3
    assert row["cpu_s"] > 0


class Line:
    """A model with the interface of LightGBM: a regression line on each column."""

    def fit(self, observed: Any, label: Any) -> "Line":
        centred = observed - observed.mean(axis=0)
        self.weights = centred.T @ label / (np.square(centred).sum(axis=0) + 1.0)
        return self

    def predict(self, observed: Any) -> Any:
        return observed @ self.weights


def test_a_contestant_in_place_of_the_ridge_trades_by_the_rule_of_the_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", SimpleNamespace(LGBMRegressor=lambda **_: Line()))
    spec, windowed = placed(("feature.lookback=1",), Place("season_day", 4, 0), SHORT)
    window = windowed.windows[-1]
    _, market = fit_to_window(spec, windowed, window)
    fitted = fit_boosting(market, (window.train_first, window.train_last), spec)
    assert fitted is not None
    assert isinstance(fitted.fit, Boosted)
    actions = fitted.actions(market, window.test_first, window.test_last, spec.env)
    assert actions.shape == (window.test_last - window.test_first + 1, 1)
    assert np.isfinite(actions).all()


def test_results_become_tables_and_a_picture(tmp_path: Path) -> None:
    sizes = {"trials": 60, "finalists": 5, "seeds": 4}
    jobs = [
        battery_job(name, Place(kind, strength, number), **(sizes if name == "study" else {}))
        for kind, strength in (("last", 3), ("last", 4), ("noise", 0))
        for number in range(2)
        for name in ("probe", "study")
    ]
    rows = {
        job.key(name): {
            "expected": job.place.strength / 2 + job.place.number, "realised": 1.0, "cpu_s": 2.0,
            "oracle": [float(job.place.strength), 1.0],
        }
        for job in jobs
        for name in job.rows
    }  # fmt: skip
    del rows[jobs[-1].key("finalists")]
    result = json.loads(json.dumps(summed_up(jobs, rows) | {"seconds": 1}))
    assert (result["runs"], result["asked"]) == (17, 18)
    assert result["contestants"] == ["probe", "study", "finalists"]
    last = result["by_strength"]["4"]["probe"]
    assert (last["share"], last["share_error"], last["runs"]) == (0.625, 0.125, 2)
    shown = battery_table(result)
    assert "| last | 4 | 62% ± 12% | 62% ± 12% | 62% ± 12% |" in shown
    assert "17 of the 18 results" in shown
    assert "nan" not in shown
    draw_battery(result, tmp_path / "battery.svg")
    assert (tmp_path / "battery.svg").stat().st_size > 1000


@pytest.mark.slow
def test_a_study_its_finalists_a_run_and_the_probe_are_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["battery.py", "--quick"])
    battery.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["contestants"] == ["default run", "study", "finalists", "probe"]
    assert result["runs"] == result["asked"] == 4
