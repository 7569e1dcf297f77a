"""Every surface shows the same figures of a trial and its baselines, for every score at a risk-free rate."""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.bundles.write import write_bundle
from optimize.cli.leaderboard import show_leaderboard
from optimize.evaluate.score import SCORE_KINDS, ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.report.equity import trial_curves
from optimize.report.format import decimal, format_score, in_percent, percent, signed
from optimize.report.notes import trial_note
from optimize.results.queries import LeaderboardRow, best_models
from optimize.results.records import BaselineRecord, RunRecord, WindowRecord, load_baselines
from optimize.results.runs import windows_of
from optimize.schemas.records import LeaderboardConfig
from optimize.study.context import StudyContext, enroll, open_study
from optimize.study.launch.markets import build_markets, store_baselines
from optimize.walkforward.files import read_returns, run_folder
from tests.optimize.study.bundles import tiny_spec, write_prices
from tests.optimize.study.studies import ground_of, play, rows, run_of

RATE, REPEATS, WINDOWS = 0.25, 3, 3  # a rate so high that a figure without it is another one
WHOLE = ("sharpe_zero_cost", "total_return", "max_drawdown", "cost", "trades", "turnover")
LATER = ("max_drawdown_bars", "exposure", "best_session")  # in the leaderboard's row, not in the view


@dataclasses.dataclass(frozen=True, eq=False)
class Surfaces:
    context: StudyContext
    run: RunRecord
    windows: list[WindowRecord]
    baselines: list[BaselineRecord]
    row: LeaderboardRow
    metrics: dict[str, Any]
    card: str
    note: str


@pytest.fixture(scope="module", params=SCORE_KINDS)
def surfaces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surfaces]:
    folder = tmp_path_factory.mktemp("figures")
    score = ScoreSpec(request.param, RATE, 2, min_trades=0, min_volatility=0.0, k=0.5, repeats=REPEATS)
    window = WindowSpec(count=WINDOWS, train_ratio=2.0, min_train_bars=50)
    spec = tiny_spec(folder, write_prices(folder / "prices.parquet"), n_trials=1, score=score, window=window)
    context = open_study(spec)
    markets = build_markets(spec, context.space)
    enroll(context, ground_of(context, spec))
    store_baselines(context, markets)
    play(context)
    run = run_of(context, 0)
    source = run_folder(spec.folder, 0, run.run_uuid)
    assert run.score is not None
    write_bundle(folder / "bundle", run, run.score, source, {})
    with context.engine.connect() as conn:
        windows, baselines = windows_of(conn, run.run_uuid), load_baselines(conn, spec.name)
    yield Surfaces(
        context=context,
        run=run,
        windows=windows,
        baselines=baselines,
        row=best_models(context.engine, spec.name)[0],
        metrics=json.loads((folder / "bundle" / "metrics.json").read_text(encoding="utf-8")),
        card=(folder / "bundle" / "CARD.md").read_text(encoding="utf-8"),
        note=trial_note(run, windows, baselines),
    )
    context.engine.dispose()


def sharpe(returns: FloatArray, year: float, rate: float = RATE) -> float:
    return float((returns.mean() - rate / year) / returns.std(ddof=1) * np.sqrt(year))


def by_hand(
    spec: ScoreSpec,
    returns: list[list[FloatArray]],
    year: float,
    rate: float = RATE,
    idle: float = np.nan,
) -> float:
    """Return the score of returns [repeat][window] from its definition."""
    values = []
    for repeat in returns:
        sharpes = np.array([sharpe(window, year, rate) if window.any() else idle for window in repeat])
        error = sharpes.std(ddof=1) / np.sqrt(len(sharpes))
        values.append(
            {
                "joined": sharpe(np.concatenate(repeat), year, rate),
                "mean_window": sharpes.mean(),
                "median_window": np.median(sharpes),
                "lower_bound": sharpes.mean() - spec.k * error,
            }[spec.kind]
        )
    return float(np.median(values))


def test_the_score_is_the_one_of_its_definition_and_the_same_everywhere(surfaces: Surfaces) -> None:
    context, run, metrics = surfaces.context, surfaces.run, surfaces.metrics
    spec, year = context.spec.score, ground_of(context, context.spec).market.sessions_per_year
    paths = {(each.repeat, each.window): str(each.returns_path) for each in surfaces.windows}
    returns = [
        [read_returns(context.spec.folder / paths[repeat, window])[1].returns for window in range(WINDOWS)]
        for repeat in range(REPEATS)
    ]
    expected = by_hand(spec, returns, year)
    assert run.score == pytest.approx(expected, rel=1e-12)
    assert abs(expected - by_hand(spec, returns, year, 0.0)) > 0.1
    (view,) = rows(context.spec, "SELECT score, standard_error FROM best_models")
    assert view == (run.score, run.standard_error)
    assert (surfaces.row.score, surfaces.row.standard_error) == view
    assert (metrics["score"], metrics["standard_error"]) == view
    assert context.study.trials[0].value == run.score
    assert surfaces.row.sessions_per_year == year
    assert f"A year has {year:g} sessions." in surfaces.card
    assert f"**Score {decimal(run.score, 4)}**" in surfaces.card
    assert f"**Score {decimal(run.score, 3)}**" in surfaces.note


def test_the_figures_of_the_whole_are_the_same_everywhere(surfaces: Surfaces) -> None:
    stored, in_all = surfaces.run.metrics or {}, surfaces.metrics["in_all"]
    assert {key: stored[key] for key in in_all} == in_all
    (view,) = rows(surfaces.context.spec, f"SELECT {', '.join(WHOLE)} FROM best_models")
    assert view == tuple(in_all[key] for key in WHOLE)
    assert [getattr(surfaces.row, key) for key in WHOLE + LATER] == [in_all[key] for key in WHOLE + LATER]
    if surfaces.metrics["score_kind"] == "joined":
        assert in_all["sharpe"] == surfaces.run.score
    figures = [
        decimal(surfaces.run.score, 4),
        decimal(in_all["sharpe"]),
        decimal(in_all["sharpe_zero_cost"]),
    ]
    assert cells(surfaces.card, "this trial")[:3] == figures
    ours = [
        decimal(surfaces.run.score),
        decimal(in_all["sharpe_zero_cost"]),
        in_percent(in_all["total_return"]),
    ]
    assert cells(surfaces.note, "**trial 0**")[:3] == ours


def test_the_windows_are_the_same_everywhere(surfaces: Surfaces) -> None:
    year = ground_of(surfaces.context, surfaces.context.spec).market.sessions_per_year
    stored = {(each.window, each.repeat): each for each in surfaces.windows}
    assert len(stored) == len(surfaces.metrics["windows"]) == WINDOWS * REPEATS
    shown = [line for line in surfaces.note.splitlines() if re.search(r"^\|.*, repeat", line)]
    assert len(shown) == WINDOWS * REPEATS
    for window in surfaces.metrics["windows"]:
        own = stored[window["window"], window["repeat"]]
        returns = read_returns(surfaces.context.spec.folder / str(own.returns_path))[1].returns
        assert own.sharpe == pytest.approx(sharpe(returns, year), rel=1e-12)
        for key in ("sharpe", "sharpe_zero_cost", "total_return", "max_drawdown", "trades", "cost"):
            assert getattr(own, key) == window[key], key
        assert decimal(own.sharpe) in cells(surfaces.note, f"{own.window}, repeat {own.repeat}")
        words = (
            f"| {own.window} | {own.repeat} | {own.test_start} to {own.test_end} | {decimal(own.sharpe)} |"
        )
        assert words in surfaces.card


def test_the_spread_over_windows_is_of_the_median_repeats(surfaces: Surfaces) -> None:
    sharpes = {(each.window, each.repeat): each.sharpe or 0.0 for each in surfaces.windows}
    medians = [
        float(np.median([sharpes[window, repeat] for repeat in range(REPEATS)])) for window in range(WINDOWS)
    ]
    assert surfaces.metrics["window_scores"] == medians
    row = surfaces.row
    spread = (row.window_sharpe_min, row.window_sharpe_median, row.window_sharpe_max)
    assert spread == (min(medians), np.median(medians), max(medians))
    joined = surfaces.metrics["score_kind"] == "joined"
    assert (row.standard_error is not None) == joined  # three windows are too few for the error of their mean


def test_the_baselines_are_the_same_everywhere(
    surfaces: Surfaces, capsys: pytest.CaptureFixture[str]
) -> None:
    context, year = (
        surfaces.context,
        ground_of(surfaces.context, surfaces.context.spec).market.sessions_per_year,
    )
    database = context.spec.database
    show_leaderboard(LeaderboardConfig(name=context.spec.name, database=database))
    printed = capsys.readouterr().out
    assert len(surfaces.baselines) == len(surfaces.metrics["baselines"]) - 1 >= 3  # and the linear probe
    for stored in surfaces.baselines:
        told = surfaces.metrics["baselines"][stored.name]
        same = ("score", "sharpe_zero_cost", "total_return", "cost")
        assert [getattr(stored, key) for key in same] == [told[key] for key in same]
        span = f"5 to 95 %: {format_score(stored.score_low)} to {format_score(stored.score_high)}"
        spread = f" (median of {stored.seeds} random policies, {span})" if stored.seeds else ""
        assert stored.name.startswith("random") == bool(spread)
        figures = f"score {signed()(stored.score)}{spread}, return {percent(stored.total_return)}"
        assert f"baseline {stored.name} at {stored.timeframe}: {figures}" in printed
        of_card = [
            decimal(stored.score, 4),
            decimal(told["sharpe"]),
            decimal(stored.sharpe_zero_cost),
        ]
        assert cells(surfaces.card, stored.name)[:3] == of_card
        ours = [
            decimal(stored.score),
            decimal(stored.sharpe_zero_cost),
            in_percent(stored.total_return),
        ]
        assert cells(surfaces.note, f"`{stored.name}`")[:3] == ours
        if stored.score is not None:
            returns = [np.array(window) for window in stored.windows["returns"]]
            idle = 0.0 if stored.seeds else np.nan  # the Sharpe ratio of a window without a trade
            expected = by_hand(context.spec.score, [returns], year, idle=idle)
            assert stored.score == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_holding_is_the_same_everywhere(surfaces: Surfaces) -> None:
    year = ground_of(surfaces.context, surfaces.context.spec).market.sessions_per_year
    (hold,) = (each for each in surfaces.baselines if each.name == "buy_and_hold")
    told = surfaces.metrics["buy_and_hold"]
    assert hold.score is not None
    assert [(surfaces.run.metrics or {})["buy_and_hold"], surfaces.row.buy_and_hold] == [hold.score] * 2
    assert rows(surfaces.context.spec, "SELECT buy_and_hold FROM best_models") == [(hold.score,)]
    assert (told["score"], told["sharpe_zero_cost"]) == (hold.score, hold.sharpe_zero_cost)
    assert f"`buy_and_hold` {decimal(hold.score, 4)}" in surfaces.card
    for place, returns in enumerate(hold.windows["returns"]):
        of_window = told["windows"][place]["sharpe"]
        assert of_window == pytest.approx(sharpe(np.array(returns), year), rel=1e-12)
        beside = [each for each in surfaces.metrics["windows"] if each["window"] == place]
        assert {each["buy_and_hold_sharpe"] for each in beside} == {of_window}


def cells(page: str, name: str) -> list[str]:
    """Return the cells of the table's row of that name, without the name."""
    found = [
        [cell.strip(" \N{NO-BREAK SPACE}") for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("|")
    ]
    (row,) = (each for each in found if each[0] == name)
    return row[1:]


def test_the_worst_session_is_the_stored_drawdown_over_bar_closes(surfaces: Surfaces) -> None:
    sql = (
        'SELECT "window", repeat, MIN(drawdown) AS worst FROM trial_returns '
        'GROUP BY "window", repeat ORDER BY repeat, "window"'
    )
    with surfaces.context.engine.connect() as conn:
        found = [tuple(row) for row in conn.exec_driver_sql(sql)]
    stored = sorted(surfaces.windows, key=lambda each: (each.repeat, each.window))
    assert found == [(each.window, each.repeat, each.max_drawdown_bars) for each in stored]
    curves = trial_curves(surfaces.context.spec.folder, surfaces.windows)
    worst = [curve.levels.drawdown.min() for curve in curves.values() if curve.levels is not None]
    assert len(worst) == REPEATS
    assert np.median(worst) == (surfaces.run.metrics or {})["max_drawdown_bars"]
