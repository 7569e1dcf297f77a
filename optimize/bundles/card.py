"""CARD.md of a bundle: score, luck, rules, windows, years, data and commands on one page."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from optimize.agents.train_spec import TrainSpec
from optimize.bundles.gates import ACCEPT, LUCK_GATES
from optimize.bundles.inputs import BundleInputs, label_of
from optimize.bundles.luck import luck_section
from optimize.bundles.observed import observed_words
from optimize.bundles.titles import members_of, title_of
from optimize.data.bars import utc_text
from optimize.evaluate.baselines import has_session_exits
from optimize.evaluate.captions import ERROR_MEANINGS
from optimize.report.early_stopping import choice_of_weights
from optimize.report.figures_in_all import FIGURES_IN_ALL
from optimize.report.format import FigureWriter, decimal, in_percent, number, probability
from optimize.report.market_line import market_line
from optimize.report.notes import SCORES
from optimize.report.probe import probe_line

GATE_FIGURES: dict[str, tuple[str, FigureWriter]] = {
    "min_finished_trials": ("finished trials of the study", number(0)),
    "min_selection_score": ("Sharpe ratio of the selection walk-forward", decimal),
    "min_score": ("score", decimal),
    "min_trades": ("trades", number(0)),
    "min_windows_positive": ("windows with a Sharpe ratio above 0", number(0)),
    "max_drawdown": ("largest loss from a peak", in_percent),
    "min_deflated_sharpe": ("deflated Sharpe ratio", probability),
    "max_luck_p": ("probability that chance alone shows the score", probability),
    "beat": ("score", decimal),
    ACCEPT: ("flags", decimal),
}
TRUST = " trust=true"  # argument of a command on a bundle with code of its features


def card_of(inputs: BundleInputs, metrics: dict[str, Any]) -> str:
    """Return CARD.md of a run, with the luck of its search at the time of the export."""
    run, spec, market, search = inputs.run, inputs.spec, inputs.windowed.market, inputs.search
    symbols, agent = ", ".join(market.symbols), spec.agent.name.upper()
    last = inputs.windowed.windows[-1].dates.train_end
    train_end = last if inputs.refit is None else inputs.refit.trained_until
    cost, engine = spec.cost, run.versions.get("engine")  # None: not stored by older versions
    sections = [
        f"# {run.study_name}, {title_of(run)}",
        f"A {agent} agent, found by Walkforge: {_source(inputs)}.",
        f"**Score {decimal(run.score, 4)}**, standard error {decimal(run.standard_error, 4)} "
        f"({ERROR_MEANINGS[spec.score.kind]}); "
        f"{_baseline_scores(inputs)}.\n"
        f"The score is {SCORES[spec.score.kind].format(k=spec.score.k)}"
        f"{f', median over {spec.score.repeats} repeats' if spec.score.repeats > 1 else ''}. "
        f"A year has {market.sessions_per_year:g} sessions. "
        "The best of many trials is partly luck: judge it by its spread over the windows.\n"
        f"{_selection_notes(inputs, metrics)}{_probe_note(inputs, metrics)}",
        *luck_section(search.luck, search.luck_of(run), run.run_uuid, search.cautions, search.earned),
        *_gate_section(inputs),
        "![Equity against holding](equity.png)",
        "## Rules",
        _trading_rules(inputs),
        "## Windows",
        _window_table(metrics),
        "## Years",
        _year_table(metrics),
        "## In all",
        _total_table(metrics),
        _figures_table(metrics),
        f"Costs: {cost.describe()}, "
        f"{in_percent(cost.borrow_rate, 2)} a year on borrowed cash, "
        f"{in_percent(cost.short_rate, 2)} on short value; orders fill at the "
        f"{'next open' if spec.env.fill == 'open' else 'close that was observed'}.",
        "## Data",
        f"`{spec.data.provider}`, {symbols}, {market.timeframe}, {market.n_bars} bars from "
        f"{utc_text(market.timestamp[0])} to {utc_text(market.timestamp[-1])}, "
        f"{len(market.session_date)} sessions, {_holdout(inputs)}.\nFingerprint `{market.fingerprint}`.",
        "## The deployable policy",
        f"`policy.safetensors`, `spec.json`, `scaler.npz` and `model.zip` at the top: {inputs.label}. "
        f"Its training ended before {train_end}. {observed_words(spec, market)}"
        f"{f' Its training ran on the engine `{engine}`.' if engine else ''}{_chosen_weights(spec.train)}",
        "## Replay",
        "In this folder, without any database:\n\n    walkforge replay bundle=."
        f"{TRUST if spec.extensions else ''}\n\n"
        "evaluates every window again and compares each session return. If the data file moved, add "
        f"`data.path=FILE`. Run `{run.run_uuid}`, seed entropy `{list(run.entropy)}`.",
    ]
    return "\n\n".join(sections) + "\n"


def _chosen_weights(train: TrainSpec) -> str:
    words = choice_of_weights(train)
    return f" {words}" if words else ""


def _source(inputs: BundleInputs) -> str:
    data = asdict(inputs.spec.data) | {"symbols": inputs.windowed.market.symbols}
    dates = [window.dates for window in inputs.windowed.windows]
    return market_line(data, (dates[0].test_start, dates[-1].test_end), inputs.windowed.market.timeframe)


def _baseline_scores(inputs: BundleInputs) -> str:
    """Return the best baselines of the study and of the trial's timeframe, and the score of buy-and-hold."""
    best, whole, hold = inputs.best_baseline, inputs.search.baseline, inputs.hold
    parts = []
    if whole is not None and whole.timeframe != inputs.windowed.market.timeframe:
        name = f"`{whole.name}` ({whole.timeframe})"
        parts.append(f"best baseline of the study {_versus(inputs, name, whole.score)}")
    if best is not None:
        parts.append(f"best baseline {'at its timeframe ' * bool(parts)}"
                     f"{_versus(inputs, f'`{label_of(best)}`', best.score or 0.0)}")  # fmt: skip
        if hold is not best:
            parts.append(f"`{label_of(hold)}` {decimal(hold.score, 4)}")
    return "; ".join(parts) or "no baseline has a score"


def _versus(inputs: BundleInputs, name: str, score: float) -> str:
    """Return a baseline with its score, and a remark if the trial does not beat it."""
    beaten = inputs.run.score is not None and inputs.run.score > score
    return f"{name} {decimal(score, 4)}{'' if beaten else ', which it does not beat'}"


def _selection_notes(inputs: BundleInputs, metrics: dict[str, Any]) -> str:
    """Return the trials behind the choice, return, best session, drawdown and place among random policies."""
    own, tries = metrics["in_all"], inputs.search.tries
    chosen = "" if tries is None else f"Chosen from {tries} trials over all phases. "
    whole, best = in_percent(own["total_return"]), in_percent(own["best_session"])
    earned = f"Return {whole}, of which {best} in the best session"
    depth = f"deepest loss {in_percent(own['max_drawdown'])} over session closes"
    bars = own["max_drawdown_bars"]
    at_bars = "" if bars is None else f", {in_percent(bars)} over bar closes"
    above = inputs.run.random_quantile
    random = "" if above is None else f" It beats {in_percent(above)} of the random policies of its turnover."
    return f"{chosen}{earned}; {depth}{at_bars}.{random}"


def _probe_note(inputs: BundleInputs, metrics: dict[str, Any]) -> str:
    """Return the sentence on a linear probe that the trial does not beat, else nothing."""
    earned = probe_line("this trial", inputs.run.score, metrics)
    return "" if earned is None else f"\n**{earned[0].upper()}{earned[1:]}.**"


def _gate_section(inputs: BundleInputs) -> list[str]:
    """Return the gates of the export with the figures that passed them; nothing where they are not stored."""
    if inputs.checks is None:
        return []
    if not inputs.checks:
        return ["## Gates", "The export had no gate: any trial with a score was let through."]
    of_members = " of the weakest member" if members_of(inputs.run) else ""
    rows = []
    order = list(GATE_FIGURES)  # that of metrics.json, from which a replay writes the card anew, is another
    for check in sorted(inputs.checks, key=lambda each: order.index(each.gate)):
        label, write = GATE_FIGURES[check.gate]
        figure = inputs.run.flags or "-" if check.gate == ACCEPT else write(check.figure)
        label += of_members * (check.gate in LUCK_GATES)
        rows.append([f"`{check.name}`", label, figure])
    intro = "The export that wrote this bundle let it through by these limits:"
    return ["## Gates", intro, _table(["Gate", "Figure", "Value"], rows)]


def _trading_rules(inputs: BundleInputs) -> str:
    """Return the parameters, reward and trading rules of the agent."""
    spec, run, env, session = inputs.spec, inputs.run, inputs.spec.env, inputs.spec.session
    before = f"{session.exit_minutes_before_close} minutes before the close"
    exits = (
        f"positions end with the session, at the earlier of {session.exit_time} and {before}"
        if has_session_exits(inputs.windowed.market)
        else "positions are held from session to session"
    )
    parameters = ", ".join(f"`{key}={value}`" for key, value in sorted(run.parameters.items()))
    return (
        f"Parameters: {parameters or 'the defaults'}.\n"
        f"Reward `{spec.reward.name}`; actions `{env.action}`, leverage at most {env.max_leverage:g}, "
        f"rebalanced beyond {in_percent(env.rebalance_band)} of equity; {exits}."
    )


def _window_table(metrics: dict[str, Any]) -> str:
    header = ["Window", "Repeat", "Test (end exclusive)", "Sharpe", "Zero-cost Sharpe", "buy_and_hold Sharpe"]
    header += ["Return", "Drawdown (sessions)", "Drawdown (bars)", "Trades", "Cost"]
    rows = [
        [
            str(window["window"]),
            str(window["repeat"]),
            f"{window['test_start']} to {window['test_end']}",
            decimal(window["sharpe"]),
            decimal(window["sharpe_zero_cost"]),
            decimal(window["buy_and_hold_sharpe"]),
            in_percent(window["total_return"]),
            in_percent(window["max_drawdown"]),
            in_percent(window["max_drawdown_bars"]),
            str(window["trades"]),
            in_percent(window["cost"], 2),
        ]
        for window in metrics["windows"]
    ]
    return _table(header, rows)


def _total_table(metrics: dict[str, Any]) -> str:
    figures = {"this trial": metrics["in_all"] | {"score": metrics["score"]}, **metrics["baselines"]}
    rows = [
        [
            name,
            decimal(part["score"], 4),
            decimal(part["sharpe"]),
            decimal(part["sharpe_zero_cost"]),
            in_percent(part["total_return"]),
            in_percent(part["cost"], 2),
        ]
        for name, part in figures.items()
    ]
    return _table(["", "Score", "Sharpe", "Zero-cost Sharpe", "Return", "Cost"], rows)


def _year_table(metrics: dict[str, Any]) -> str:
    header = ["Year", "Sessions", "Sharpe", "Return", "Volatility", "Drawdown (sessions)", "Hit rate"]
    rows = [
        [
            str(each["year"]),
            str(each["sessions"]),
            decimal(each["sharpe"]),
            in_percent(each["total_return"]),
            in_percent(each["volatility"]),
            in_percent(each["max_drawdown"]),
            in_percent(each["hit_rate"]),
        ]
        for each in metrics["years"]
    ]
    return _table(header, rows)


def _figures_table(metrics: dict[str, Any]) -> str:
    """Return the further figures of the trial over all windows, one a row."""
    rows = [[figure.label, figure.write(metrics["in_all"].get(figure.key))] for figure in FIGURES_IN_ALL]
    return _table(["Figure", "Over all windows"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _holdout(inputs: BundleInputs) -> str:
    span, count = inputs.windowed.plan.holdout, inputs.search.holdout_openings
    if span is None:
        return "no holdout"
    opened = "" if count is None else f", opened {count} time{'s' * (count != 1)} before this export"
    return f"holdout {span[0]} to {span[1]} in no window{opened}"
