"""A whole study before each window: no later bar is read, a kill changes nothing, windows train once."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.types import FloatArray
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from optimize.evaluate.windows import Window, WindowSpec
from optimize.results.finalists import Finalist
from optimize.results.queries import best_models, run_query
from optimize.search.spec import StartSpec
from optimize.study.launch.refusals import check_study
from optimize.study.nested.plan import inner_study, outer_windows
from optimize.study.nested.run import base_market
from optimize.study.spec import StudySpec, WorkerSpec, resolve
from optimize.walkforward.markets import WindowedMarket
from tests.optimize.results.test_results_finalists import make_finalist
from tests.optimize.study.batches import KilledError
from tests.optimize.study.databases import Small
from tests.optimize.study.nested.worlds import make_world, nest, nested_spec, noise, traded
from tests.optimize.study.studies import expire, opened, rows


def test_windows_of_equal_trials_are_trained_once(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = make_world(monkeypatch, noise)
    spec = nested_spec(small)
    found = nest(spec)
    assert (found.windows, found.trials) == (3, 12)
    assert len(trained) == 4 * 4 + 3  # every window of the study itself, and the three trades
    assert all(name == "small" or ".trade_" in name for name, _ in trained)
    kinds = dict(rows(spec, "SELECT kind, COUNT(*) FROM wf_tries GROUP BY kind"))
    assert kinds == {"trial": 4, "nested": 3 * (4 + 1)}
    _, listed = run_query(opened(spec).engine, "nested", {"name": "small"})
    assert [row[2] for row in listed] == ["small.outer1", "small.outer2", "small.outer3"]
    assert [row[3] for row in listed] == [each.score for each in traded(spec)]
    trained.clear()
    assert nest(spec) == found  # a second launch runs nothing
    assert not trained
    apart = nested_spec(small, name="apart", nested=False)
    nest(apart, alone=True)
    assert len(trained) == 4 * 3 + 3  # of the study before the last window, which has all windows before
    assert [each.sharpe for each in traded(apart)] == [each.sharpe for each in traded(spec)]
    assert [each.parameters for each in traded(apart)] == [each.parameters for each in traded(spec)]


def test_a_walk_forward_that_is_killed_anywhere_resumes_to_the_same_returns(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        trained = make_world(patch, noise)
        whole = nest(nested_spec(small, name="whole", n_trials=2))
    trained = []
    died: set[int] = set()

    def fragile(spec: StudySpec, windowed: WindowedMarket, window: Window, seed: int) -> FloatArray:
        if len(trained) in (3, 8, 9) and len(trained) not in died:
            died.add(len(trained))
            raise KilledError
        return noise(spec, windowed, window, seed)

    trained = make_world(monkeypatch, fragile)
    spec = nested_spec(small, name="killed", n_trials=2)
    for _ in range(8):
        try:
            found = nest(spec)
            break
        except KilledError:
            for number in range(2):
                expire(spec, number)
    assert len(died) == 3
    assert dataclasses.replace(found, growth=0.0) == dataclasses.replace(whole, growth=0.0)
    assert found.growth == pytest.approx(whole.growth, abs=1e-15)


@pytest.mark.slow
def test_the_best_finalist_trades_where_the_study_asks_for_finalists(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_world(monkeypatch, noise)
    spec = nested_spec(small, n_trials=3, nested_finalists=2, nested_seeds=3)
    ranked: list[str] = []

    def rank(study: str) -> list[Finalist]:
        """Rank the second best set after the best one, which a gate blocks; the last study has no second."""
        ranked.append(study)
        best, second = best_models(opened(spec).engine, study, 2)
        blocked = make_finalist(1, trial_number=best.trial_number, gate="min_equity")
        passed = make_finalist(2, trial_number=second.trial_number, fresh_score=0.25)
        return [blocked] if study == "small.outer3" else [blocked, passed]

    found = nest(spec, rank=rank)
    assert (found.finalists, found.seeds) == (2, 3)
    assert ranked == ["small.outer1", "small.outer2", "small.outer3"]
    for each in traded(spec)[:2]:
        (_, second) = best_models(opened(spec).engine, each.inner, 2)
        assert each.score == 0.25
        assert each.parameters == pytest.approx(second.parameters)
    assert (traded(spec)[2].trader, traded(spec)[2].growth) == (None, 0.0)
    assert nest(spec, rank=rank) == found  # nothing is ranked again
    assert len(ranked) == 3
    plain = nest(dataclasses.replace(spec, nested_finalists=0))  # another rule trades every window again
    assert (plain.finalists, plain.seeds) == (0, 0)
    assert len(traded(spec)) == 6
    _, listed = run_query(opened(spec).engine, "nested", {"name": "small"})
    assert [row[7] for row in listed] == [each.trader for each in traded(spec)[3:]]


def test_the_studies_before_a_window_keep_the_bars_by_which_features_settle(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_world(monkeypatch, noise)
    data = dataclasses.replace(small().data, months=2)
    window = WindowSpec(count=2, train_ratio=2.0, min_train_bars=20)
    feature = FeatureSpec(lookback=2, indicators=["rsi"])
    spec = nested_spec(small, n_trials=1, data=data, feature=feature, window=window)
    market = base_market(spec).market
    assert str(np.datetime64(int(market.timestamp[0]), "ns"))[:10] > str(market.session_date[0])
    assert nest(spec).windows == 1


def test_finalists_before_a_window_are_refused_on_a_cluster(small: Small) -> None:
    spec = small(nested=True, nested_finalists=2, worker=WorkerSpec(kind="ray"))
    with pytest.raises(BadInputError, match="nested_finalists=2 is not allowed"):
        check_study(spec)


def bars(folder: Path, garbage_from: str | None = None) -> DataSpec:
    """Return a file of hourly bars, in which those from a date on are another random walk."""
    stamps = pd.date_range("2022-01-01", periods=1440, freq="h", tz="UTC")
    rng = np.random.default_rng(3)
    log_return = rng.normal(0, 0.002, len(stamps))
    other = np.random.default_rng(4).normal(0, 0.02, len(stamps))
    if garbage_from is not None:
        log_return = np.where(stamps >= pd.Timestamp(garbage_from, tz="UTC"), other, log_return)
    close = 100 * np.exp(np.cumsum(log_return))
    frame = pd.DataFrame({"timestamp": stamps, "open": np.r_[100.0, close[:-1]], "close": close})
    frame["high"], frame["low"] = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    path = folder / f"bars_{garbage_from}.csv"
    frame.assign(volume=1.0).to_csv(path, index=False)
    return DataSpec(provider="file", path=str(path), timeframe="1h", max_gap_days=30.0)


def curious(spec: StudySpec, windowed: WindowedMarket, window: Window, seed: int) -> FloatArray:
    """Return session returns that depend on every bar of the market: a later bar would change a choice."""
    every = int(np.abs(windowed.market.close).sum() * 1e6) % 2**32
    return noise(spec, windowed, window, (seed + every) % 2**32)


def test_no_bar_of_an_outer_window_or_later_is_read_before_it_is_traded(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}

    def watching(spec: StudySpec, windowed: WindowedMarket, window: Window, seed: int) -> FloatArray:
        seen[spec.name] = str(np.datetime64(int(windowed.market.timestamp[-1]), "ns"))
        return curious(spec, windowed, window, seed)

    make_world(monkeypatch, watching)
    window = WindowSpec(count=3, train_ratio=2.0, min_train_bars=20)
    spec = nested_spec(small, name="clean", data=bars(tmp_path), window=window)
    nest(spec, alone=True)
    clean = traded(spec)
    for each in clean:
        assert seen[each.inner] < each.test_start <= seen[each.trader or ""] < each.test_end
    # The last outer window begins at the garbage: the study before it chooses as if it were not there.
    dirty = nested_spec(small, name="dirty", data=bars(tmp_path, clean[-1].test_start), window=window)
    nest(dirty, alone=True)
    chosen = [(each.parameters, each.score) for each in traded(dirty)]
    assert chosen == [(each.parameters, each.score) for each in clean]
    assert [each.sharpe for each in traded(dirty)[:-1]] == [each.sharpe for each in clean[:-1]]
    assert traded(dirty)[-1].sharpe != clean[-1].sharpe
    # From the window before on, the last choice sees the garbage: this test can fail.
    early = nested_spec(small, name="early", data=bars(tmp_path, clean[-2].test_start), window=window)
    nest(early, alone=True)
    assert traded(early)[-1].score != clean[-1].score


def test_a_raised_cap_runs_the_rest(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = make_world(monkeypatch, noise)
    spec = nested_spec(small, n_trials=1, window=WindowSpec(count=2, train_ratio=2.0, min_train_bars=20))
    nest(spec)
    trained.clear()
    raised = nest(dataclasses.replace(spec, n_trials=2))
    assert (raised.n_trials, raised.trials) == (2, 2)
    assert trained
    _, listed = run_query(opened(spec).engine, "nested", {"name": "small"})
    assert [row[7] for row in listed] == [traded(spec)[-1].trader]  # the trade of the earlier cap is left out


@pytest.mark.slow
def test_real_training_gives_the_same_with_and_without_reuse(small: Small) -> None:
    window = WindowSpec(count=3, train_ratio=2.0, min_train_bars=20)
    spec = nested_spec(small, name="reused", n_trials=2, window=window)
    nest(spec)
    reused = rows(spec, "SELECT COUNT(*) FROM wf_windows w JOIN wf_runs r ON r.run_uuid = w.run_uuid "
                        "WHERE r.study_name LIKE 'reused.outer%' AND w.seconds = 0")  # fmt: skip
    assert reused == [(2 * 1 + 2 * 2,)]
    alone = nested_spec(small, name="alone", n_trials=2, window=window, nested=False)
    nest(alone, alone=True)  # the study itself is not run: its windows cannot be reused
    assert [each.sharpe for each in traded(alone)] == [each.sharpe for each in traded(spec)]
    assert [each.score for each in traded(alone)] == [each.score for each in traded(spec)]


def test_a_study_before_a_window_ends_before_it_and_takes_no_sets_of_another(small: Small) -> None:
    first_sets = StartSpec(start_from="other", enqueue=[{"agent.learning_rate": 0.001}])
    spec = nested_spec(small, search=first_sets)
    plan = base_market(spec).plan
    outer = outer_windows(spec, plan)[0]
    held = dataclasses.replace(spec.window, holdout=[str(plan.windows[-1].test_start), "2022-12-31"])
    months = dataclasses.replace(spec, data=dataclasses.replace(spec.data, months=1), window=held)
    inner = inner_study(months, plan, outer, "2022-01-15")
    assert inner.search.start_from is None
    assert inner.search.enqueue
    assert (inner.data.start, inner.data.months) == (
        "2022-01-15",
        None,
    )  # months would count from the new end
    assert (inner.data.end or "9") < outer.test_start.isoformat()
    assert (inner.window.kind, len(inner.window.spans), inner.nested) == ("canonical", outer.index, False)
    assert (inner.window.holdout, inner.window.holdout_share) == ([], 0.0)  # its bars end before that
    assert resolve(inner) == inner


def test_a_single_window_is_refused(small: Small) -> None:
    spec = small(nested=True, window=WindowSpec(count=1, train_ratio=2.0, min_train_bars=20))
    with pytest.raises(BadInputError, match=r"nested=true needs .* at least score\.min_periods=2"):
        outer_windows(spec, base_market(spec).plan)
