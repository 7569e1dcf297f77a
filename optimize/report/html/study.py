"""The report of a study: best models, course of the search, importance of keys, evidence of phase 1."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from optimize.evaluate.captions import LINEAR_PROBE
from optimize.report.equity import Curve
from optimize.report.figures import equity_figure, timeframe_figure, window_figure
from optimize.report.format import format_score, number, percent, probability, share
from optimize.report.html.page import Figure, Section, Tile, figure_html, paragraph, render_page, table_html
from optimize.report.html.series import luck_band
from optimize.report.html.study_figures import cost_scatter, history_figure
from optimize.report.html.trial import baseline_table
from optimize.report.html.trial_figures import interval_figure, luck_traces
from optimize.report.tables import FIGURES, ZERO_COST, spell
from optimize.report.timeframe_phase import verdict_lines
from optimize.report.verdict import LUCK_LEGEND, interval_of
from optimize.results.finalists import Finalist, FinalistHoldout, StressRecord
from optimize.results.luck import LuckTest
from optimize.results.queries import LeaderboardRow
from optimize.results.records import BaselineRecord, RunRecord, WindowRecord
from optimize.results.states import FINISHED
from optimize.results.timeframe_verdict import Verdict


@dataclass(frozen=True)
class SearchedKey:
    """Importance of a searched key, beside that of the same trials with shuffled scores."""

    key: str
    value: float
    shuffled_mean: float
    shuffled_high: float


@dataclass(frozen=True, eq=False)
class StudyContent:
    """Everything that the report of a study shows."""

    name: str
    market: str
    lines: Sequence[str]  # verdict, selection walk-forward and meaning of the score
    rows: Sequence[LeaderboardRow]  # best first
    runs: Sequence[RunRecord]  # all that ended, by trial
    windows: Mapping[str, Sequence[WindowRecord]]  # of the best runs, by uuid
    curves: Mapping[str, Curve]  # of the best trials, by name
    holds: Mapping[str, Curve]
    baselines: Sequence[BaselineRecord]
    keys: Sequence[SearchedKey]
    luck: LuckTest | None = None
    evidence: Verdict | None = None
    finalists: Sequence[Finalist] = ()
    stress: Sequence[StressRecord] = ()
    holdout: Sequence[FinalistHoldout] = ()
    searched: str = ""


def study_page(content: StudyContent) -> str:
    """Return the page of a study."""
    verdict = "".join(map(paragraph, content.lines))
    lead = f'<p class="lead">{escape(content.market)}</p>'
    if verdict:
        lead += f'<div class="verdict">{verdict}</div>'
    return render_page(f"study {content.name}", lead, list(_tiles(content)), list(_sections(content)))


def _tiles(content: StudyContent) -> Iterator[Tile]:
    if content.rows:
        best = content.rows[0]
        yield Tile("best score", format_score(best.score), f"trial {best.trial_number}, {best.seeds}")
        yield Tile("zero-cost Sharpe", format_score(best.sharpe_zero_cost), "of the best trial")
        yield Tile("buy and hold", format_score(best.buy_and_hold), "its score on these windows")
        yield Tile(LINEAR_PROBE, format_score(best.probe_score), "on the inputs of the best trial")
        yield Tile("return", percent(best.total_return), "of the best trial, net")
    ended = {state: sum(run.state == state for run in content.runs) for state in FINISHED}
    yield Tile(
        "trials",
        str(len(content.runs)),
        ", ".join(f"{count} {state}" for state, count in ended.items() if count),
    )
    luck = content.luck
    if luck is not None:
        yield Tile("chance shows", format_score(luck.chance_sharpe), f"as the best of {luck.n_tries} tries")
        if luck.p_flat is not None:
            yield Tile("p against flat", probability(luck.p_flat), f"trial {luck.trial_number}")
        yield Tile(
            "detectable", format_score(luck.detectable_sharpe), f"Sharpe ratio, {luck.n_sessions} sessions"
        )


def _sections(content: StudyContent) -> Iterator[Section]:
    if not content.rows:
        yield Section("Best models", paragraph("No trial has a score yet."))
    else:
        yield Section(
            "Best models", _board(content.rows) + paragraph(f"{FIGURES}; {ZERO_COST}; {LUCK_LEGEND}.")
        )
    if content.curves:
        figure = _plain(equity_figure(content.name, content.curves, content.holds))
        first = next(iter(content.curves.values()))
        shade = luck_traces(first, luck_band(first.returns), "luck band of the best")
        figure = {**figure, "data": [*shade, *figure["data"]]}
        yield Section(
            "Equity of the best",
            figure_html(figure, "equity of the best trials", 400)
            + paragraph(
                "Luck band: the span of 95 % of equity paths that have the sessions of the best trial in "
                "random blocks and no mean return. The best of many trials leaves it more easily than one."
            ),
        )
    yield from _search_sections(content)
    if content.evidence is not None:
        figure = _plain(timeframe_figure(content.evidence))
        yield Section(
            "Evidence of phase 1",
            figure_html(figure, "Sharpe ratio by timeframe and lookback", 380)
            + "".join(map(paragraph, verdict_lines(content.evidence))),
        )
    if content.finalists:
        yield Section("Finalists", _finalists(content.finalists, content.stress, content.holdout))
    if content.baselines:
        yield Section("Baselines", baseline_table(content.baselines))


def _search_sections(content: StudyContent) -> Iterator[Section]:
    scored = [run for run in content.runs if run.score is not None]
    if scored:
        yield Section(
            "Scores in the order of the search",
            figure_html(history_figure(content.runs), "score of each trial", 300)
            + paragraph(content.searched),
        )
        yield Section(
            "Cost",
            figure_html(cost_scatter(scored), "net score against zero-cost Sharpe", 320)
            + paragraph("Each dot is a trial; the distance below the line is lost to costs."),
        )
    shown = [run for run in scored if run.run_uuid in content.windows]
    if shown:
        shown.sort(key=lambda run: (-(run.score or 0.0), run.trial_number))
        windows = {run.run_uuid: list(content.windows[run.run_uuid]) for run in shown}
        figure = _plain(window_figure(content.name, shown, windows))
        yield Section(
            "Windows of the best", figure_html(figure, "Sharpe ratio by window", 120 + 24 * len(shown))
        )
    if content.keys:
        figure = importance_figure(content.keys)
        height = 90 + 30 * len(content.keys)
        yield Section(
            "Importance of the searched keys",
            figure_html(figure, "importance", height)
            + paragraph(
                "Share of each key in the difference between good and other trials (PED-ANOVA). The mark is "
                "the span of 95 % of the same measurement with shuffled scores: a bar within it is noise."
            ),
        )


def importance_figure(keys: Sequence[SearchedKey]) -> Figure:
    """Draw the importance of each key beside the span of 95 % of the same with shuffled scores."""
    return interval_figure(
        [escape(each.key) for each in keys],
        [each.value for each in keys],
        [0.0] * len(keys),
        [each.shuffled_high for each in keys],
        "importance",
        "95 % of shuffled scores",
    )


FINALIST_HEADER = (
    "rank", "trial", "search score", "fresh score", "lower bound", "upper bound", "seeds min / max", "seeds",
    "infeasible", "random quantile", "gate",
)  # fmt: skip


def _finalists(
    found: Sequence[Finalist], stress: Sequence[StressRecord], holdout: Sequence[FinalistHoldout]
) -> str:
    """Return the finalists with the score of the search beside that of fresh seeds."""
    lines = [
        [
            str(each.rank), str(each.trial_number), format_score(each.search_score),
            format_score(each.fresh_score), format_score(each.lower_bound), format_score(each.upper_bound),
            f"{format_score(each.score_min)} / {format_score(each.score_max)}", str(each.seeds),
            str(each.infeasible), number()(each.random_quantile), each.gate or "-",
        ]
        for each in found
    ]  # fmt: skip
    return (
        table_html(FINALIST_HEADER, lines, left=0)
        + _parameters([(each.trial_number, each.parameters) for each in found])
        + paragraph(
            "Trained again on fresh seeds and ranked by the lower bound; search less fresh score is the "
            "part of the score that choosing the best has added."
        )
        + _stress(found, stress)
        + _holdout(found, holdout)
    )


def _stress(found: Sequence[Finalist], stress: Sequence[StressRecord]) -> str:
    """Return the score of each finalist's median seed under each stress test."""
    scenarios = sorted({each.scenario for each in stress})
    scores = {(each.run_uuid, each.scenario): format_score(each.score) for each in stress}
    lines = [
        [str(each.trial_number), *(scores.get((str(each.run_uuid), name), "-") for name in scenarios)]
        for each in found
    ]
    return table_html(["stress test of trial", *scenarios], lines, left=0) if scenarios else ""


HOLDOUT_HEADER = ("holdout of trial", "score", "buy_and_hold", "return", "drawdown", "sessions")


def _holdout(found: Sequence[Finalist], holdout: Sequence[FinalistHoldout]) -> str:
    """Return the result of each finalist's median seed on the holdout, nothing where it stayed closed."""
    measured = {each.run_uuid: each for each in holdout}
    shown = [(each, measured[each.run_uuid]) for each in found if each.run_uuid in measured]
    lines = [
        [
            str(finalist.trial_number), format_score(each.score), format_score(each.buy_and_hold),
            percent(each.total_return), percent(each.max_drawdown), f"{each.first} to {each.end} (exclusive)",
        ]
        for finalist, each in shown
    ]  # fmt: skip
    return table_html(HOLDOUT_HEADER, lines, left=0) if lines else ""


BOARD: tuple[tuple[str, Callable[[LeaderboardRow], str]], ...] = (
    ("rank", lambda row: str(row.rank)),
    ("trial", lambda row: str(row.trial_number)),
    ("score", lambda row: format_score(row.score)),
    ("95 % interval", interval_of),
    ("deflated", lambda row: probability(row.deflated_sharpe_ratio)),
    ("p (flat)", lambda row: probability(row.p_flat)),
    ("p (hold)", lambda row: probability(row.p_buy_and_hold)),
    ("windows min / med / max", lambda row: " / ".join(map(format_score, _spread(row)))),
    ("zero-cost Sharpe", lambda row: format_score(row.sharpe_zero_cost)),
    ("cost", lambda row: share(row.cost)),
    ("return", lambda row: percent(row.total_return)),
    ("drawdown (bars)", lambda row: percent(row.max_drawdown_bars)),
    ("trades", lambda row: number(0)(row.trades)),
    ("exposure", lambda row: number()(row.exposure)),
    ("buy_and_hold", lambda row: format_score(row.buy_and_hold)),
    ("standard error", lambda row: number()(row.standard_error)),
    ("seeds", lambda row: row.seeds),
)


def _spread(row: LeaderboardRow) -> tuple[float | None, float | None, float | None]:
    return row.window_sharpe_min, row.window_sharpe_median, row.window_sharpe_max


def _board(rows: Sequence[LeaderboardRow]) -> str:
    lines = [[write(row) for _, write in BOARD] for row in rows]
    parameters = _parameters([(row.trial_number, row.parameters) for row in rows])
    return table_html([title for title, _ in BOARD], lines, left=0) + parameters


def _parameters(found: Sequence[tuple[int, Mapping[str, Any]]]) -> str:
    """Return the parameters of trials in a table of their own: beside the figures they would be cut off."""
    return table_html(
        ["trial", "parameters"], [[str(trial), spell(values)] for trial, values in found], left=2
    )


def _plain(figure: Any) -> Figure:
    """Return a Plotly figure as plain data without its own title, colors and size: the page sets those."""
    plain = json.loads(figure.to_json())
    layout = {
        key: value
        for key, value in plain["layout"].items()
        if key
        not in ("title", "height", "template", "paper_bgcolor", "plot_bgcolor", "font", "legend", "margin")
    }
    return {"data": plain["data"], "layout": layout}
