"""The notes that people read beside a trial and a study, in Markdown."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from optimize.database.address import in_words
from optimize.evaluate.captions import baseline_label
from optimize.evaluate.summary import summarise_figures
from optimize.report.early_stopping import choice_of_weights, has_validation, train_settings
from optimize.report.format import SOLID, decimal, in_percent
from optimize.report.gates import mark_lines
from optimize.report.market_line import market_line
from optimize.report.probe import probe_line
from optimize.report.verdict import set_line
from optimize.results.luck import LuckRecord
from optimize.results.records import SCORE_ERROR, BaselineRecord, RunRecord, WindowRecord
from optimize.results.states import RunState
from optimize.walkforward.spec import RunSpec

TOTALS = ("total_return", "cost", "turnover", "trades")  # over all windows, median over repeats
SCORES = {
    "joined": "the annualised Sharpe ratio of the net session returns, joined over all test windows",
    "mean_window": "the mean over windows of the annualised Sharpe ratio of the net session returns",
    "median_window": "the median over windows of the annualised Sharpe ratio of the net session returns",
    "lower_bound": "the mean over windows of the annualised Sharpe ratio less {k:g} standard errors",
}
REASONS = {
    "ruin": "the account was ruined",
    "undefined_sharpe": "its returns have no Sharpe ratio",
    "min_trades": "it traded less than `score.min_trades`",
    "min_volatility": "its returns vary less than `score.min_volatility`",
}


def trial_note(
    run: RunRecord,
    windows: Sequence[WindowRecord],
    baselines: Sequence[BaselineRecord],
    picture: str | None = None,
    luck: LuckRecord | None = None,
) -> str:
    """Return the note of one trial: score, luck of its set, picture (its address), windows, costs, replay."""
    market = market_line(run.spec.get("data", {}), _tested(windows))
    paragraphs = [f"## {run.study_name}, trial {run.trial_number}", market, _verdict(run)]
    if luck is not None:
        subject = "" if luck.run_uuid == run.run_uuid else f" of its parameters, by trial {luck.trial_number}"
        paragraphs.append(f"Luck{subject}: {set_line(luck)}.")
    if (earned := probe_line("the trial", run.score, run.metrics or {})) is not None:
        paragraphs.append(f"{earned[0].upper()}{earned[1:]}.")
    if picture is not None:
        paragraphs.append(f"![Equity over the test windows]({picture})")
    if windows:
        paragraphs += ["### Test windows", _window_table(windows)]
        paragraphs += ["### In all", _comparison(run, windows, baselines)]
        paragraphs += ["### Train spans", _train_table(windows)]
    if has_validation(run, windows):
        paragraphs += [
            "### Early stopping",
            choice_of_weights(train_settings(run)),
            _validation_table(windows),
        ]
    paragraphs += ["### Again", _replay(run)]
    return "\n\n".join(paragraphs) + "\n"


def _tested(windows: Sequence[WindowRecord]) -> tuple[date, date] | None:
    """Return the first and last day of the test windows."""
    if not windows:
        return None
    return min(each.test_start for each in windows), max(each.test_end for each in windows)


def study_note(
    name: str, spec: RunSpec, space: Mapping[str, Any], n_trials: int, luck: Sequence[str] = ()
) -> str:
    """Return the note of a study: its verdict on luck, then its market, agent, score and costs."""
    meaning = SCORES[spec.score.kind].format(k=spec.score.k)
    repeats = f", median over {spec.score.repeats} repeats" if spec.score.repeats > 1 else ""
    cost = spec.cost
    verdict = "".join(f"- {line}\n" for line in luck)
    return (
        f"{verdict}{chr(10) * bool(verdict)}"
        f"{market_line(dataclasses.asdict(spec.data), timeframe=_searched_timeframes(space))}\n\n"
        f"**{name}** searches {spec.agent.name.upper()} agents, up to "
        f"{n_trials} trials (COMPLETE + PRUNED). The score is {meaning}{repeats}; "
        f"a trial below {_least_trades(spec)} is infeasible and PRUNED. Every figure is net of "
        f"{cost.describe()}, "
        f"{cost.borrow_rate:.2%} a year on borrowed cash and {cost.short_rate:.2%} on short value. "
        "The best of many trials is partly luck: compare it with buy-and-hold and with its own spread "
        "over the windows.\n"
    )


def _searched_timeframes(space: Mapping[str, Any]) -> str | None:
    """Return the timeframes that a study searches, None where it has one."""
    searched = space.get("data", {}) if isinstance(space, dict) else {}
    found = searched.get("timeframe") if isinstance(searched, dict) else None
    return ", ".join(map(str, found)) if isinstance(found, list) and len(found) > 1 else None


def _least_trades(spec: RunSpec) -> str:
    least = spec.score.min_trades
    return "one trade for each window" if least is None else f"{least} trades"


def _verdict(run: RunRecord) -> str:
    if run.state == RunState.FAIL:
        message = (run.failure_message or "").partition("\n")[0]
        return f"**FAIL** ({run.failure_kind}): {message}"
    if run.score is None:
        reason = run.reason or "no reason was stored"
        return f"**{run.state}**: {REASONS.get(reason, reason.removeprefix('pruner: '))}."
    kind = run.spec.get("score", {}).get("kind", "joined")
    meaning = "annualised Sharpe ratio" if kind == "joined" else f"{kind} of the annualised Sharpe ratio"
    error = (run.metrics or {}).get(SCORE_ERROR)  # an older version stored that of another figure
    marks = "".join(f"\n\n**{line}.**" for line in mark_lines(run.gate, run.flags))
    scored = f"**Score {decimal(run.score, 3)}** ({meaning})"
    return f"{scored}, standard error {decimal(error, 3)}, {run.state}.{marks}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column left and the others right."""
    rule = [":--", *["--:"] * (len(header) - 1)]
    padded = [[f"{SOLID}{cell}{SOLID}" for cell in cells] for cells in (header, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))


def _window_table(windows: Sequence[WindowRecord]) -> str:
    header = ["Window", "From", "To", "Bars", "Sharpe", "Zero-cost Sharpe", "Return"]
    header += ["Drawdown (sessions)", "Drawdown (bars)", "Trades", "Cost"]
    rows = [
        [
            _label(window, windows),
            _day(window.test_start),
            _day(window.test_end),
            str(window.test_bars),
            decimal(window.sharpe),
            decimal(window.sharpe_zero_cost),
            in_percent(window.total_return),
            in_percent(window.max_drawdown),
            in_percent(window.max_drawdown_bars),
            decimal(window.trades, 0),
            in_percent(window.cost, 2),
        ]
        for window in windows
    ]
    return _table(header, rows)


def _day(day: date) -> str:
    """Return a date as text that does not wrap in a narrow column."""
    return str(day).replace("-", "\N{NON-BREAKING HYPHEN}")


def _train_table(windows: Sequence[WindowRecord]) -> str:
    """Return the train span of every window: a table of its own, as one row for both would wrap."""
    first = [window for window in windows if window.repeat == windows[0].repeat]
    rows = [[str(w.window), _day(w.train_start), _day(w.train_end), str(w.train_bars)] for w in first]
    return _table(["Window", "From", "To", "Bars"], rows)


def _validation_table(windows: Sequence[WindowRecord]) -> str:
    """Return the steps of every training with the Sharpe ratio of its weights on the validation tail."""
    rows = [
        [_label(row, windows), decimal(row.trained_steps, 0), decimal(row.sharpe_validation)]
        for row in windows
    ]
    return _table(["Window", "Steps trained", "Validation Sharpe"], rows)


def _label(row: WindowRecord, windows: Sequence[WindowRecord]) -> str:
    """Return the number of a window, with its repeat where there are several."""
    repeated = any(window.repeat for window in windows)
    return f"{row.window}, repeat {row.repeat}" if repeated else str(row.window)


def _comparison(run: RunRecord, windows: Sequence[WindowRecord], baselines: Sequence[BaselineRecord]) -> str:
    """Return the whole of the trial beside the baselines of its timeframe."""
    metrics = run.metrics or {}
    whole: dict[str, float | None] = {key: metrics.get(key) for key in TOTALS}
    if None in whole.values():  # a trial that failed has windows and no figure over all of them
        whole = dict(summarise_figures(windows))
    own = [
        f"**trial {run.trial_number}**",
        decimal(run.score),
        decimal(metrics.get("sharpe_zero_cost")),
        in_percent(whole["total_return"]),
        in_percent(whole["cost"], 2),
        decimal(whole["turnover"], 1),
    ]
    header = ["", "Score", "Zero-cost Sharpe", "Return", "Cost", "Turnover"]
    table = _table(header, [own, *_baseline_rows(run, baselines)])
    trades = decimal(whole["trades"], 0)
    units = (
        "zero-cost Sharpe is of the same actions without any cost; drawdown is the deepest loss from a peak, "
        "over session closes and over bar closes; cost is in % of what a window starts with, turnover in "
        "units of equity; baselines are over all windows"
    )
    return f"{table}\n\n{trades} trades; {units}.{_among_random(run, baselines)}"


def _among_random(run: RunRecord, baselines: Sequence[BaselineRecord]) -> str:
    """Return where a trial stands among random policies, empty where that was not measured."""
    seeds = next((row.seeds for row in baselines if row.seeds is not None), None)
    if run.random_quantile is None or seeds is None:
        return ""
    return (
        f"\n\nIt scores above {in_percent(run.random_quantile)} of the random policies of its turnover; a "
        f"`random` baseline is the median of {seeds}."
    )


def _baseline_rows(run: RunRecord, baselines: Sequence[BaselineRecord]) -> Iterator[list[str]]:
    timeframe = run.spec.get("data", {}).get("timeframe")
    for row in baselines:
        if row.timeframe == timeframe:
            figures = [decimal(row.score), decimal(row.sharpe_zero_cost), in_percent(row.total_return)]
            name = baseline_label(row.name, row.bought_anew)
            yield [f"`{name}`", *figures, in_percent(row.cost, 2), decimal(row.turnover, 1)]


def _replay(run: RunRecord) -> str:
    return (
        f"Seed entropy `{list(run.entropy)}` (window and repeat are appended), run `{run.run_uuid}`, "
        f"data `{run.data_fingerprint[:12]}`.\n\n"
        f"    walkforge replay name={run.study_name} trial={run.trial_number}{_place(run)}"
    )


def _place(run: RunRecord) -> str:
    """Return the words of a command that name the database of a run."""
    return in_words(str(run.spec.get("database", {}).get("url", "")))
