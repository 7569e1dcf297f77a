"""What people read of a bundle: its metrics, its card and its equity beside buy-and-hold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.bars import utc_text
from optimize.evaluate.baselines import HOLD, OVERNIGHT, Baseline, baseline_label, ends_flat
from optimize.evaluate.score import ERRORS
from optimize.evaluate.summary import summarise
from optimize.evaluate.windows import train_start
from optimize.results.records import RunRecord
from optimize.study.market_line import market_line
from optimize.study.pages.note import SCORES, percent, signed
from optimize.study.pages.picture import Curve, write_picture
from optimize.study.spec import StudySpec
from optimize.study.trial import Ground, Measured, conclude, yardsticks

TRUST = " trust=true"  # what a command adds for a bundle that carries the code of its features
LABEL = (
    "trained on the last window, first repeat; score not measured on this very model: "
    "it is the evidence of the models of all windows"
)


@dataclass(frozen=True)
class StudyBaseline:
    """The best baseline of a study over all its timeframes."""

    name: str
    timeframe: str
    score: float


@dataclass(frozen=True)
class Search:
    """What a trial was chosen from: the trials of all phases, and the baseline to beat; None: not known."""

    tries: int | None = None
    baseline: StudyBaseline | None = None


ALONE = Search()


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a bundle says about one trial."""

    spec: StudySpec
    run: RunRecord
    ground: Ground
    measured: tuple[tuple[Measured, ...], ...]  # [repeat][window]
    baselines: tuple[Baseline, ...]  # on the same windows at the same costs
    search: Search = ALONE

    @property
    def hold(self) -> Baseline:
        """Return buy_and_hold, under the same rules as the trial."""
        return next(each for each in self.baselines if each.name == HOLD)

    @property
    def best_baseline(self) -> Baseline | None:
        """Return the baseline of the highest score."""
        scored = [each for each in self.baselines if each.score is not None]
        return max(scored, key=lambda each: each.score or 0.0, default=None)


def gather(
    spec: StudySpec,
    run: RunRecord,
    ground: Ground,
    measured: Sequence[Sequence[Measured]],
    search: Search = ALONE,
) -> Evidence:
    """Join a trial's measurements with the baselines, which are evaluated here."""
    found = yardsticks(spec, ground)
    return Evidence(spec, run, ground, tuple(tuple(row) for row in measured), found, search)


def metrics_of(evidence: Evidence) -> dict[str, Any]:
    """Return the metrics as plain values: in all (median over repeats), per window, and buy-and-hold."""
    hold = evidence.hold
    score = conclude(evidence.spec, evidence.ground, evidence.measured, pruned_at=None).score
    year, search = evidence.ground.market.sessions_per_year, evidence.search
    in_all = summarise(evidence.measured, year, evidence.spec.score.risk_free)
    return {
        "score": evidence.run.score,
        "standard_error": evidence.run.standard_error,
        "score_kind": evidence.spec.score.kind,
        "window_scores": list(score.window_values),
        "in_all": {key: _finite(value) for key, value in in_all.items()},
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
        "baselines": {
            _label(each): {
                "score": each.score,
                "sharpe": each.sharpe,
                "sharpe_zero_cost": each.sharpe_zero_cost,
                "total_return": each.total_return,
                "cost": each.cost,
            }
            for each in evidence.baselines
        },
        "tries": search.tries,
        **({} if search.baseline is None else {"study_baseline": asdict(search.baseline)}),
        "parameters": dict(evidence.run.parameters),
        "entropy": list(evidence.run.entropy),
        "windows": _windows(evidence),
    }


def _label(baseline: Baseline) -> str:
    name = baseline.name if baseline.turnover is None else f"{baseline.name}_{baseline.turnover:g}"
    return baseline_label(name, baseline.bought_anew)


def card_of(evidence: Evidence, metrics: dict[str, Any]) -> str:
    """Return CARD.md; it says nothing that another export of the same run would say otherwise."""
    run, spec, market = evidence.run, evidence.spec, evidence.ground.market
    symbols, agent = ", ".join(market.symbols), spec.agent.name.upper()
    train_end = evidence.ground.windows[-1].dates.train_end
    cost, engine = spec.cost, run.versions.get("engine")  # None: of a version that did not store it
    sections = [
        f"# {run.study_name}, trial {run.trial_number}",
        f"A {agent} agent, found by Walkforge: {_source(evidence)}.",
        f"**Score {signed(run.score, 4)}**, standard error {signed(run.standard_error, 4)} "
        f"({ERRORS[spec.score.kind]}); "
        f"{_beside(evidence)}.\n"
        f"The score is {SCORES[spec.score.kind].format(k=spec.score.k)}"
        f"{f', median over {spec.score.repeats} repeats' if spec.score.repeats > 1 else ''}. "
        f"A year has {market.sessions_per_year:g} sessions. "
        "The best of many trials is partly luck: judge it by its spread over the windows.\n"
        f"{_luck(evidence, metrics)}",
        "![Equity against holding](equity.png)",
        "## Rules",
        _rules(evidence),
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
        "In this folder, without any database:\n\n    walkforge replay bundle=."
        f"{TRUST if spec.extensions else ''}\n\n"
        "evaluates every window again and compares each session return. If the data file moved, add "
        f"`data.path=FILE`. Run `{run.run_uuid}`, seed entropy `{list(run.entropy)}`.",
    ]
    return "\n\n".join(sections) + "\n"


def _source(evidence: Evidence) -> str:
    data = asdict(evidence.spec.data) | {"symbols": evidence.ground.market.symbols}
    dates = [window.dates for window in evidence.ground.windows]
    return market_line(data, (dates[0].test_start, dates[-1].test_end), evidence.ground.market.timeframe)


def _beside(evidence: Evidence) -> str:
    """Return the best baseline of the study and that of the trial's timeframe, and the score of holding."""
    best, whole, hold = evidence.best_baseline, evidence.search.baseline, evidence.hold
    parts = []
    if whole is not None and whole.timeframe != evidence.ground.market.timeframe:
        name = f"`{whole.name}` ({whole.timeframe})"
        parts.append(f"best baseline of the study {_against(evidence, name, whole.score)}")
    if best is not None:
        parts.append(f"best baseline {'at its timeframe ' * bool(parts)}"
                     f"{_against(evidence, f'`{_label(best)}`', best.score or 0.0)}")  # fmt: skip
        if hold is not best:
            parts.append(f"`{_label(hold)}` {signed(hold.score, 4)}")
    return "; ".join(parts) or "no baseline has a score"


def _against(evidence: Evidence, name: str, score: float) -> str:
    """Return a baseline with its score, and that the trial does not beat it where it does not."""
    beaten = evidence.run.score is not None and evidence.run.score > score
    return f"{name} {signed(score, 4)}{'' if beaten else ', which it does not beat'}"


def _luck(evidence: Evidence, metrics: dict[str, Any]) -> str:
    """Return from how many trials it was chosen, and how much of its return a single session brought."""
    own, tries = metrics["in_all"], evidence.search.tries
    chosen = "" if tries is None else f"Chosen from {tries} trials over all phases. "
    earned = (
        f"Return {percent(own['total_return'])}, of which {percent(own['best_session'])} in the best session"
    )
    depth = f"deepest loss {percent(own['max_drawdown'])} over session closes"
    bars = own["max_drawdown_bars"]
    return f"{chosen}{earned}; {depth}{'' if bars is None else f', {percent(bars)} over bar closes'}."


def _rules(evidence: Evidence) -> str:
    """Return what the agent was trained for and under which rules it trades."""
    spec, run, env, session = evidence.spec, evidence.run, evidence.spec.env, evidence.spec.session
    before = f"{session.exit_minutes_before_close} minutes before the close"
    exits = (
        f"positions end with the session, at the earlier of {session.exit_time} and {before}"
        if ends_flat(evidence.ground.market)
        else "positions are held from session to session"
    )
    parameters = ", ".join(f"`{key}={value}`" for key, value in sorted(run.parameters.items()))
    return (
        f"Parameters: {parameters or 'the defaults'}.\n"
        f"Reward `{spec.reward.name}`; actions `{env.action}`, leverage at most {env.max_leverage:g}, "
        f"rebalanced beyond {percent(env.rebalance_band)} of equity; {exits}."
    )


def draw_equity(path: Path, evidence: Evidence) -> None:
    """Draw the equity of every repeat, joined over the windows, beside the holding baselines."""
    dates = evidence.ground.market.session_date
    sessions = np.concatenate([dates[slice(*window.test_sessions)] for window in evidence.ground.windows])
    curves = {
        repeat: Curve(sessions, np.concatenate([window.returns for window in row]))
        for repeat, row in enumerate(evidence.measured)
    }
    holds = {
        _label(each): Curve(sessions, np.concatenate(each.returns))
        for each in evidence.baselines
        if each.name in (HOLD, OVERNIGHT)
    }
    borders = [window.dates.test_start for window in evidence.ground.windows[1:]]
    title = f"{evidence.run.study_name}, trial {evidence.run.trial_number}: net equity out of sample"
    write_picture(path, title, f"trial {evidence.run.trial_number}", curves, holds, borders)


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
    header = ["Window", "Repeat", "Test (end exclusive)", "Sharpe", "Zero-cost Sharpe", "buy_and_hold Sharpe"]
    header += ["Return", "Drawdown (sessions)", "Drawdown (bars)", "Trades", "Cost"]
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
            percent(window["max_drawdown_bars"]),
            str(window["trades"]),
            percent(window["cost"], 2),
        ]
        for window in metrics["windows"]
    ]
    return _table(header, rows)


def _total_table(metrics: dict[str, Any]) -> str:
    figures = {"this trial": metrics["in_all"] | {"score": metrics["score"]}, **metrics["baselines"]}
    rows = [
        [
            name,
            signed(part["score"], 4),
            signed(part["sharpe"]),
            signed(part["sharpe_zero_cost"]),
            percent(part["total_return"]),
            percent(part["cost"], 2),
        ]
        for name, part in figures.items()
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
