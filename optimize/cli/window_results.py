"""Results window by window, and their score beside the baselines: the tables of walk-forward and evaluate."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optimize.evaluate.baselines import Baseline
from optimize.evaluate.captions import BUY_AND_HOLD, ERROR_MEANINGS, baseline_label
from optimize.evaluate.random_policies import HIGH_SHARE, LOW_SHARE, RandomScores
from optimize.evaluate.summary import summarise
from optimize.evaluate.windows import Window
from optimize.report.early_stopping import VALIDATION
from optimize.report.figures_in_all import FIGURES_IN_ALL
from optimize.report.format import format_score, number, percent, plain_figure, share
from optimize.report.tables import (
    COST_UNIT,
    EXPOSURE,
    FIGURES,
    FILLS,
    IN_SAMPLE,
    PLAIN_WIDTH,
    RANDOM,
    TURNOVER,
    ZERO_COST,
    Column,
    say,
    short,
    show,
)
from optimize.study.launch.markets import traded_by
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import TrialResult, years_of
from optimize.walkforward.spec import RunSpec

WINDOW_COLUMNS = (
    Column("window", "window"),
    Column("repeat", "repeat"),
    Column("test", "test (end exclusive)", right=False, whole=True),
    Column("sharpe", "Sharpe", format_score),
    Column("sharpe_zero_cost", "zero-cost Sharpe", format_score),
    Column("sharpe_in_sample", "in-sample Sharpe", format_score),
    Column("total_return", "return", percent),
    Column("max_drawdown", "drawdown (sessions)", percent, detail=True),
    Column("max_drawdown_bars", "drawdown (bars)", percent),
    Column("cost", "cost", share),
    Column("trades", "trades", short),
    Column("exposure", "exposure", number(), detail=True),
    Column("seconds", "seconds", number(1), detail=True),
)
FORCED_COLUMN = Column("forced_exits", "forced exits", short)  # shown where sessions end flat
ACTIVE_COLUMN = Column("reward_active_share", "reward active", share)  # shown of a differential reward
VALIDATION_COLUMNS = (  # shown where a validation tail chose the weights
    Column("sharpe_validation", "validation Sharpe", format_score),
    Column("trained_steps", "steps trained", short),
)
YEAR_COLUMNS = (
    Column("year", "year"),
    Column("sessions", "sessions"),
    Column("sharpe", "Sharpe", format_score),
    Column("total_return", "return", percent),
    Column("volatility", "volatility", share),
    Column("max_drawdown", "drawdown (sessions)", percent),
    Column("hit_rate", "hit rate", share),
)
SUMMARY_COLUMNS = (
    Column("name", "policy", right=False),
    Column("score", "score", format_score),
    Column("standard_error", "standard error", number()),
    Column("sharpe_zero_cost", "zero-cost Sharpe", format_score),
    Column("total_return", "return", percent),
    Column("cost", "cost", share),
    Column("turnover", "turnover", number(1)),
)


def show_result(
    spec: RunSpec, windowed: WindowedMarket, result: TrialResult, baselines: Sequence[Baseline], title: str
) -> None:
    """Print the windows, then the score beside the baselines."""
    rows = _window_rows(windowed, result)
    anew = any(baseline.bought_anew for baseline in baselines)
    active, trained = (_known(rows, key) for key in ("reward_active_share", "sharpe_in_sample"))
    validated = spec.train.validation > 0 and _known(rows, "trained_steps")
    shown = [each for each in WINDOW_COLUMNS if trained or each.key != "sharpe_in_sample"]
    shown += [*VALIDATION_COLUMNS * validated, *[FORCED_COLUMN] * anew, *[ACTIVE_COLUMN] * active]
    show(rows, shown, "table", title)
    years = years_of(windowed, result.measured, spec.score.risk_free)
    if len(years) > 1:
        show([dataclasses.asdict(each) for each in years], YEAR_COLUMNS, "table", "by calendar year")
    hold = next((each for each in baselines if each.name == BUY_AND_HOLD), None)
    held = None if hold is None else np.concatenate(list(hold.returns))
    total = summarise(result.measured, windowed.market.sessions_per_year, spec.score.risk_free, held)
    agent = {"name": spec.agent.name, "score": result.score.value, **total}
    agent["standard_error"] = result.score.standard_error
    show([agent, *map(_baseline_row, baselines)], SUMMARY_COLUMNS, "table", "baselines, which learn nothing")
    for line in figure_lines(total):
        say(line)
    say(
        f"score ({spec.score.kind}): annualised Sharpe ratio of the session returns, net of all costs "
        f"({spec.cost.describe()}, and financing){FILLS[spec.env.fill]}"
    )
    say(f"standard error: {ERROR_MEANINGS[spec.score.kind]}")
    in_sample = f"{IN_SAMPLE}; " if trained else ""
    in_sample += f"{VALIDATION}; " if validated else ""
    say(f"{FIGURES}; {ZERO_COST}; {in_sample}{COST_UNIT}; {EXPOSURE}; {TURNOVER}")
    if any(baseline.turnover is not None for baseline in baselines):
        say(RANDOM)
    spreads = [_spread_of(each, each.random) for each in baselines if each.random is not None]
    if spreads:
        say(f"5 to 95 % of the scores of the random policies: {', '.join(spreads)}")
    if active:
        say(f"reward active: share of the training steps on which no bound of {spec.reward.name} bound")
    if result.score.reason is not None:
        say(f"no score: {result.score.reason}")


def _window_rows(windowed: WindowedMarket, result: TrialResult) -> list[dict[str, Any]]:
    """Return the figures of every window and repeat; those of a training are None for a stored model."""
    return [
        {
            **dataclasses.asdict(measured.metrics),
            "window": window.index,
            "repeat": repeat,
            "test": spell_test_span(window),
            "seconds": measured.seconds,
            "reward_active_share": measured.reward_active_share,
            "sharpe_validation": measured.sharpe_validation,
            "trained_steps": measured.trained_steps,
        }
        for repeat, row in enumerate(result.measured)
        for window, measured in zip(windowed.windows, row, strict=True)
    ]


def _known(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(row[key] is not None for row in rows)


def figure_lines(total: Mapping[str, float]) -> list[str]:
    """Return the further figures over all windows that were measured, as many on a line as fit."""
    lines = ["over all windows:"]
    for each in FIGURES_IN_ALL:
        if (written := plain_figure(each.write(total.get(each.key)))) == "-":
            continue
        figure = f"{each.label} {written}"
        if len(lines) > 1 and len(lines[-1]) + len(figure) + 3 <= PLAIN_WIDTH:  # "; " and another ";"
            lines[-1] += f"; {figure}"
        else:
            lines.append(f"  {figure}")
    return lines


def _baseline_row(baseline: Baseline) -> dict[str, Any]:
    return {
        "name": _label(baseline),
        "score": baseline.score,
        "sharpe_zero_cost": baseline.sharpe_zero_cost,
        "total_return": baseline.total_return,
        "cost": baseline.cost,
        "turnover": traded_by(baseline),
    }


def _spread_of(baseline: Baseline, random: RandomScores) -> str:
    low, high = format_score(random.quantile(LOW_SHARE)), format_score(random.quantile(HIGH_SHARE))
    return f"{_label(baseline)} {low} to {high}"


def _label(baseline: Baseline) -> str:
    name = baseline.name if baseline.turnover is None else f"{baseline.name}_{baseline.turnover:g}"
    return baseline_label(name, baseline.bought_anew)


def spell_test_span(window: Window) -> str:
    """Return the dates of a test span, the end exclusive."""
    return f"{window.dates.test_start} .. {window.dates.test_end}"
