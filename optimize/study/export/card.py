"""What people read of a bundle: its metrics, its card and its equity beside buy-and-hold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.bars import utc_text
from optimize.evaluate.baselines import BOUGHT_ANEW, Baseline
from optimize.evaluate.metrics import max_drawdown, sharpe_ratio, total_return
from optimize.evaluate.windows import train_start
from optimize.results.records import RunRecord
from optimize.study.pages.note import SCORES, percent, signed
from optimize.study.pages.picture import BUY_AND_HOLD, Curve, write_picture
from optimize.study.spec import StudySpec
from optimize.study.trial import Ground, Measured, conclude, yardsticks

LABEL = (
    "trained on the last window, first repeat; score not measured on this very model: "
    "it is the evidence of the models of all windows"
)
SUMMED = ("cost", "turnover", "trades")


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a bundle says about one trial."""

    spec: StudySpec
    run: RunRecord
    ground: Ground
    measured: tuple[tuple[Measured, ...], ...]  # [repeat][window]
    hold: Baseline  # buy-and-hold on the same windows at the same costs


def gather(
    spec: StudySpec, run: RunRecord, ground: Ground, measured: Sequence[Sequence[Measured]]
) -> Evidence:
    """Join a trial's measurements with buy-and-hold, which is evaluated here."""
    found = yardsticks(spec, ground, turnovers=())
    hold = next(baseline for baseline in found if baseline.name == BUY_AND_HOLD)
    return Evidence(spec, run, ground, tuple(tuple(row) for row in measured), hold)


def metrics_of(evidence: Evidence) -> dict[str, Any]:
    """Return the metrics as plain values: in all (median over repeats), per window, and buy-and-hold."""
    hold = evidence.hold
    score = conclude(evidence.spec, evidence.ground, evidence.measured, pruned_at=None).score
    year = evidence.ground.market.sessions_per_year
    rows = [_in_all(repeat, year) for repeat in evidence.measured]
    return {
        "score": evidence.run.score,
        "standard_error": evidence.run.standard_error,
        "score_kind": evidence.spec.score.kind,
        "window_scores": list(score.window_values),
        "in_all": {key: _finite(float(np.median([row[key] for row in rows]))) for key in rows[0]},
        "costs": asdict(evidence.spec.cost),
        "buy_and_hold": {
            "bought_anew": hold.bought_anew,
            "score": hold.score,
            "sharpe": hold.sharpe,
            "sharpe_zero_cost": hold.sharpe_zero_cost,
            "total_return": hold.total_return,
            "cost": hold.cost,
            "windows": [asdict(window) for window in hold.windows],
        },
        "windows": _windows(evidence),
    }


def card_of(evidence: Evidence, metrics: dict[str, Any]) -> str:
    """Return CARD.md; it says nothing that another export of the same run would say otherwise."""
    run, spec, market = evidence.run, evidence.spec, evidence.ground.market
    symbols, agent, hold = ", ".join(market.symbols), spec.agent.name.upper(), metrics["buy_and_hold"]
    train_end = evidence.ground.windows[-1].dates.train_end
    cost, engine = spec.cost, run.versions.get("engine")  # None: of a version that did not store it
    sections = [
        f"# {run.study_name}, trial {run.trial_number}",
        f"A {agent} agent for {symbols} at {market.timeframe}, found by Walkforge.",
        f"**Score {signed(run.score, 4)}**, standard error over windows {signed(run.standard_error, 4)}; "
        f"buy-and-hold {signed(hold['score'], 4)}"
        f"{f' ({BOUGHT_ANEW})' if evidence.hold.bought_anew else ''}.\n"
        f"The score is {SCORES[spec.score.kind].format(k=spec.score.k)}"
        f"{f', median over {spec.score.repeats} repeats' if spec.score.repeats > 1 else ''}. "
        "The best of many trials is partly luck: judge it by its spread over the windows.",
        "![Equity against buy-and-hold](equity.png)",
        "## Windows",
        _window_table(metrics),
        "## In all",
        _total_table(metrics),
        f"Costs: {cost.describe()}, "
        f"{percent(cost.borrow_rate, 2)} a year on borrowed cash, {percent(cost.short_rate, 2)} on short "
        f"value; orders fill at the {'next open' if spec.env.fill == 'open' else 'close that was observed'}.",
        "## Data",
        f"`{spec.data.provider}`, {symbols}, {market.timeframe}, {market.n_bars} bars from "
        f"{utc_text(market.timestamp[0])} to {utc_text(market.timestamp[-1])}, "
        f"{len(market.session_date)} sessions, {_holdout(evidence)}.\nFingerprint `{market.fingerprint}`.",
        "## The deployable policy",
        f"`policy.safetensors`, `spec.json`, `scaler.npz` and `model.zip` at the top: {LABEL}. "
        f"Its training ended before {train_end}. `features.json` lists its {len(market.feature_names)} "
        f"features in order; it sees the last {spec.feature.lookback} bars of them."
        f"{f' Its training ran on the engine `{engine}`.' if engine else ''}",
        "## Replay",
        "In this folder, without any database:\n\n    walkforge replay bundle=.\n\n"
        "evaluates every window again and compares each session return. If the data file moved, add "
        f"`data_path=FILE`. Run `{run.run_uuid}`, seed entropy `{list(run.entropy)}`.",
    ]
    return "\n\n".join(sections) + "\n"


def draw_equity(path: Path, evidence: Evidence) -> None:
    """Draw the equity of every repeat, joined over the windows, beside buy-and-hold."""
    dates = evidence.ground.market.session_date
    sessions = np.concatenate([dates[slice(*window.test_sessions)] for window in evidence.ground.windows])
    curves = {
        repeat: Curve(sessions, np.concatenate([window.returns for window in row]))
        for repeat, row in enumerate(evidence.measured)
    }
    hold = Curve(sessions, np.concatenate(evidence.hold.returns))
    borders = [window.dates.test_start for window in evidence.ground.windows[1:]]
    title = f"{evidence.run.study_name}, trial {evidence.run.trial_number}: net equity out of sample"
    write_picture(path, title, f"trial {evidence.run.trial_number}", curves, hold, borders)


def _in_all(windows: Sequence[Measured], year: float) -> dict[str, float]:
    returns = np.concatenate([window.returns for window in windows])
    free = np.concatenate([window.free_returns for window in windows])
    sums = {key: float(sum(getattr(window.metrics, key) for window in windows)) for key in SUMMED}
    return sums | {
        "sharpe": sharpe_ratio(returns, year),
        "sharpe_zero_cost": sharpe_ratio(free, year),
        "total_return": total_return(returns),
        "total_return_zero_cost": total_return(free),
        "max_drawdown": max_drawdown(returns),
    }


def _windows(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        {
            "window": window.index,
            "repeat": repeat,
            "train_start": str(train_start(window, evidence.ground.market)),
            "train_end": str(window.dates.train_end),
            "test_start": str(window.dates.test_start),
            "test_end": str(window.dates.test_end),
            "buy_and_hold_sharpe": evidence.hold.windows[place].sharpe,
            **asdict(row[place].metrics),
        }
        for place, window in enumerate(evidence.ground.windows)
        for repeat, row in enumerate(evidence.measured)
    ]


def _window_table(metrics: dict[str, Any]) -> str:
    header = ["Window", "Repeat", "Test (end exclusive)", "Sharpe", "Zero-cost Sharpe", "Buy-and-hold Sharpe"]
    header += ["Return", "Drawdown", "Trades", "Cost"]
    rows = [
        [
            str(window["window"]),
            str(window["repeat"]),
            f"{window['test_start']} to {window['test_end']}",
            signed(window["sharpe"]),
            signed(window["sharpe_zero_cost"]),
            signed(window["buy_and_hold_sharpe"]),
            percent(window["total_return"]),
            percent(window["max_drawdown"]),
            str(window["trades"]),
            percent(window["cost"], 2),
        ]
        for window in metrics["windows"]
    ]
    return _table(header, rows)


def _total_table(metrics: dict[str, Any]) -> str:
    own, hold = metrics["in_all"], metrics["buy_and_hold"]
    figures = [(metrics["score"], own), (hold["score"], hold)]
    rows = [
        [
            name,
            signed(score, 4),
            signed(part["sharpe"]),
            signed(part["sharpe_zero_cost"]),
            percent(part["total_return"]),
            percent(part["cost"], 2),
        ]
        for name, (score, part) in zip(("this trial", "buy-and-hold"), figures, strict=True)
    ]
    return _table(["", "Score", "Sharpe", "Zero-cost Sharpe", "Return", "Cost"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _holdout(evidence: Evidence) -> str:
    span = evidence.ground.plan.holdout
    return f"holdout {span[0]} to {span[1]} in no window" if span else "no holdout"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
