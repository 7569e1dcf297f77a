from datetime import date
from typing import Any

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.errors import BadInputError
from optimize.evaluate.metrics import sharpe_error, sharpe_ratio
from optimize.evaluate.score import Score, ScoreSpec, check_periods, running_score, score
from optimize.evaluate.windows import WindowDates, WindowPlan

YEAR = 252.0


def series(seed: int, windows: int = 3, sessions: int = 30) -> list[FloatArray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(0.001, 0.01, sessions) for _ in range(windows)]


def of(spec: ScoreSpec, *repeats: list[FloatArray], trades: int = 50, ruined: bool = False) -> Score:
    return score(
        spec,
        repeats,
        trades=[trades] * len(repeats),
        ruined=[False] * (len(repeats) - 1) + [ruined],
        sessions_per_year=YEAR,
    )


def test_joined_is_the_sharpe_of_the_joined_returns_median_over_repeats() -> None:
    repeats = [series(seed) for seed in range(3)]
    result = of(ScoreSpec(), *repeats)
    assert result.value == np.median([sharpe_ratio(np.concatenate(row), YEAR) for row in repeats])
    assert result.feasible
    assert result.reason is None


def test_window_statistics() -> None:
    row = series(1, windows=4)
    sharpes = [sharpe_ratio(window, YEAR) for window in row]
    error = np.std(sharpes, ddof=1) / 2
    assert of(ScoreSpec("mean_window"), row).value == pytest.approx(np.mean(sharpes), abs=1e-12)
    assert of(ScoreSpec("median_window"), row).value == pytest.approx(np.median(sharpes), abs=1e-12)
    bound = of(ScoreSpec("lower_bound", k=1.5), row)
    assert bound.value == pytest.approx(np.mean(sharpes) - 1.5 * error, abs=1e-12)
    assert bound.standard_error == pytest.approx(error, abs=1e-12)
    assert bound.window_values == tuple(sharpes)


def test_three_windows_give_no_error_of_their_mean() -> None:
    for kind in ("mean_window", "lower_bound", "median_window"):
        assert of(ScoreSpec(kind), series(1, windows=3)).standard_error is None
    assert of(ScoreSpec("median_window"), series(1, windows=5)).standard_error is None


def test_the_error_of_a_joined_score_is_that_of_its_sharpe_ratio() -> None:
    row = series(1, windows=1, sessions=428)
    error = of(ScoreSpec(), row).standard_error
    assert error == sharpe_error(row[0], YEAR)
    errors = [sharpe_error(series(seed, 1, 428)[0], YEAR) for seed in range(50)]
    assert np.mean(errors) == pytest.approx(
        np.sqrt(YEAR / 428), rel=0.05
    )  # Lo (2002), of a small daily ratio
    several = of(ScoreSpec(), *[series(seed) for seed in range(3)]).standard_error
    assert several == np.median([sharpe_error(np.concatenate(series(seed)), YEAR) for seed in range(3)])


@pytest.mark.parametrize(("sessions", "memory"), [(108, 0.0), (428, 0.0), (428, 0.2), (428, -0.2)])
def test_the_true_ratio_lies_within_two_errors_as_often_as_it_should(sessions: int, memory: float) -> None:
    rng, trials, mean = np.random.default_rng(7), 1500, 0.06
    drawn = rng.standard_normal((trials, sessions + 50)) * np.sqrt(1 - memory**2)
    for bar in range(1, sessions + 50):
        drawn[:, bar] += memory * drawn[:, bar - 1]
    returns = (drawn[:, 50:] + mean) * 0.01
    missed = [
        abs(sharpe_ratio(row, YEAR) - mean * np.sqrt(YEAR)) > 1.96 * sharpe_error(row, YEAR)
        for row in returns
    ]
    assert 0.03 < np.mean(missed) < 0.08


def test_risk_free_is_annual() -> None:
    row = series(2)
    joined = np.concatenate(row)
    expected = (joined.mean() - 0.03 / YEAR) / joined.std(ddof=1) * np.sqrt(YEAR)
    assert of(ScoreSpec(risk_free=0.03), row).value == pytest.approx(expected, rel=1e-12)


def test_infeasible_has_a_reason_and_no_value() -> None:
    flat, tiny = [np.zeros(30)] * 3, [window * 1e-4 for window in series(3)]
    cases = {
        "undefined_sharpe": of(ScoreSpec(), flat, trades=0),
        "min_trades": of(ScoreSpec(), series(3), trades=2),
        "min_volatility": of(ScoreSpec(), tiny),
        "ruin": of(ScoreSpec(), series(3), series(4), ruined=True),
    }
    for reason, result in cases.items():
        assert (result.value, result.feasible, result.reason) == (None, False, reason)
    assert cases["undefined_sharpe"].window_values == (None, None, None)
    assert cases["undefined_sharpe"].standard_error is None


def test_one_repeat_without_variance_is_infeasible() -> None:
    assert of(ScoreSpec(), series(1), [np.zeros(30)] * 3, series(2)).reason == "undefined_sharpe"


def test_flat_window_counts_as_zeros_in_joined_but_has_no_sharpe_of_its_own() -> None:
    row = [*series(5, windows=2), np.zeros(30)]
    joined = of(ScoreSpec(), row)
    assert joined.feasible
    assert joined.window_values[2] is None
    assert joined.standard_error is not None
    assert of(ScoreSpec("mean_window"), row).reason == "undefined_sharpe"


def test_running_score_waits_for_min_periods_and_ends_at_the_score() -> None:
    row = series(6, windows=3, sessions=12)
    spec = ScoreSpec(min_periods=24)
    assert running_score(spec, [], YEAR) is None
    assert running_score(spec, [row[:1]], YEAR) is None
    assert running_score(spec, [row[:2]], YEAR) == sharpe_ratio(np.concatenate(row[:2]), YEAR)
    assert running_score(spec, [row], YEAR) == of(spec, row).value
    assert running_score(spec, [[np.zeros(30)]], YEAR) is None
    assert running_score(ScoreSpec("lower_bound"), [series(1, windows=1)], YEAR) is None


def plan_of(*sessions: int) -> WindowPlan:
    day = date(2024, 1, 1)
    return WindowPlan(tuple(WindowDates(i, day, day, day, day, n) for i, n in enumerate(sessions)), None)


def test_too_few_periods_are_refused_with_a_remedy() -> None:
    check_periods(ScoreSpec(), plan_of(10, 10))
    with pytest.raises(BadInputError, match=r"19 test sessions in all.*needs 20.*data.months"):
        check_periods(ScoreSpec(), plan_of(10, 9))
    with pytest.raises(BadInputError, match="at least 2 windows"):
        check_periods(ScoreSpec("lower_bound"), plan_of(30))
    with pytest.raises(BadInputError, match="window 1 has 1"):
        check_periods(ScoreSpec("mean_window"), plan_of(30, 1))


@pytest.mark.parametrize("change", [{"kind": "dsr"}, {"repeats": 0}, {"min_periods": 1}, {"k": -1.0}])
def test_bad_values_name_their_key(change: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=f"score.{next(iter(change))}="):
        ScoreSpec(**change)
