"""The report of one trial, or of the bundle that was exported from one."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from optimize.evaluate.captions import LINEAR_PROBE, baseline_label
from optimize.evaluate.metrics import sharpe_ratio
from optimize.evaluate.trades import Trades
from optimize.report.equity import Curve
from optimize.report.format import format_score, number, percent, probability, share
from optimize.report.html.losses import losses_section
from optimize.report.html.page import (
    Section,
    Tile,
    code_line,
    figure_html,
    paragraph,
    render_page,
    table_html,
)
from optimize.report.html.series import (
    cost_sensitivity,
    luck_band,
    monthly_returns,
    rolling_sharpe,
)
from optimize.report.html.trial_figures import (
    activity_figure,
    cost_figure,
    equity_figure_of,
    interval_figure,
    rolling_figure,
    windows_figure,
)
from optimize.report.html.window_table import window_table
from optimize.report.notes import SCORES
from optimize.report.tables import ZERO_COST, short
from optimize.results.luck import LuckRecord
from optimize.results.records import BaselineRecord, RunRecord, WindowRecord

MOST_TRADES = 400
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Year")
FULL_COLOR = 0.10  # monthly return of the strongest color


@dataclass(frozen=True)
class FeatureEffect:
    """Loss of Sharpe ratio where a feature's blocks are shuffled, with the span of 95 % of the shuffles."""

    feature: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class TrialContent:
    """Everything that the report of a trial shows."""

    title: str
    market: str
    run: RunRecord
    windows: Sequence[WindowRecord]
    curves: Mapping[int, Curve]  # by repeat, net of costs
    free: Mapping[int, Curve]  # the same actions without costs
    holds: Mapping[str, Curve]
    baselines: Sequence[BaselineRecord]
    trades: Trades | None
    sessions_per_year: float
    commands: Sequence[str]
    luck: LuckRecord | None = None
    features: Sequence[FeatureEffect] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    verdict: Sequence[str] = ()  # lines on luck, as of the export of a bundle

    @property
    def risk_free(self) -> float:
        """Return the annual rate that the score subtracts."""
        return float(self.run.spec.get("score", {}).get("risk_free", 0.0))

    @property
    def shown(self) -> int:
        """Return the repeat of the lower median Sharpe ratio."""
        ratios = {
            repeat: sharpe_ratio(curve.returns, self.sessions_per_year, self.risk_free)
            for repeat, curve in self.curves.items()
        }
        ranked = sorted(ratios, key=lambda repeat: (np.nan_to_num(ratios[repeat], nan=-np.inf), repeat))
        return ranked[(len(ranked) - 1) // 2]


def trial_page(content: TrialContent) -> str:
    """Return the page of a trial."""
    lead = f'<p class="lead">{escape(content.market)}</p>{"".join(map(paragraph, content.notes))}'
    if content.verdict:
        lead += f'<div class="verdict">{"".join(map(paragraph, content.verdict))}</div>'
    return render_page(content.title, lead, list(_tiles(content)), list(_sections(content)))


def _tiles(content: TrialContent) -> Iterator[Tile]:
    run, metrics, luck = content.run, content.run.metrics or {}, content.luck
    error = metrics.get("score_error", run.standard_error)
    yield Tile("score", format_score(run.score), f"standard error {number()(error)}")
    yield Tile("zero-cost Sharpe", format_score(metrics.get("sharpe_zero_cost")), "the same actions")
    yield Tile("buy and hold", format_score(metrics.get("buy_and_hold")), "its score on these windows")
    yield Tile(LINEAR_PROBE, format_score(metrics.get("probe_score")), "on the same inputs")
    yield Tile("return", percent(metrics.get("total_return")), "net, over the test windows")
    yield Tile("drawdown (sessions)", percent(metrics.get("max_drawdown")), "over session closes")
    yield Tile("drawdown (bars)", percent(metrics.get("max_drawdown_bars")), "over bar closes")
    yield Tile("cost", share(metrics.get("cost")), f"{number(0)(metrics.get('trades'))} trades")
    yield Tile("state", run.state, _state_note(run))
    if run.random_quantile is not None:
        yield Tile("random policies", share(run.random_quantile), "of equal turnover score lower")
    if luck is not None:
        if luck.sharpe_low is not None and luck.sharpe_high is not None:
            interval = f"{format_score(luck.sharpe_low)} to {format_score(luck.sharpe_high)}"
            yield Tile("95 % interval", interval, "of its Sharpe ratio")
        yield Tile("chance shows", format_score(luck.chance_sharpe), f"as the best of {luck.n_tries} tries")
        yield Tile("deflated Sharpe", probability(luck.deflated_sharpe_ratio), f"PSR {probability(luck.psr)}")
        yield Tile(
            "p against flat", probability(luck.p_flat), f"buy and hold: {probability(luck.p_buy_and_hold)}"
        )


def _state_note(run: RunRecord) -> str:
    if run.gate is not None:
        return f"blocked by the gate {run.gate}"
    return run.reason or run.failure_kind or run.flags or ""


def _sections(content: TrialContent) -> Iterator[Section]:
    if content.curves:
        yield from _return_sections(content)
    else:
        yield Section("Equity", paragraph("The files with the returns of this trial are gone."))
    if content.windows:
        yield Section(
            "Windows",
            figure_html(windows_figure(content.windows), "Sharpe ratio of each window", 260)
            + window_table(content.run, content.windows),
        )
        yield Section(
            "Exposure and turnover",
            figure_html(activity_figure(content.windows), "exposure and turnover of each window", 240),
        )
    if content.baselines:
        yield Section("Baselines", baseline_table(content.baselines))
    if content.features:
        yield Section("Feature importance", _features(content.features))
    if content.trades is not None:
        yield Section("Trades", _trade_table(content.trades))
    rows = [[key, str(value)] for key, value in sorted(content.run.parameters.items())]
    yield Section("Parameters", table_html(["key", "value"], rows, left=2) if rows else "")
    yield Section("Again", "".join(map(code_line, content.commands)))


def _return_sections(content: TrialContent) -> Iterator[Section]:
    curve, year = content.curves[content.shown], content.sessions_per_year
    free = content.free.get(content.shown)
    borders = sorted({str(row.test_start) for row in content.windows})[1:]
    band = luck_band(curve.returns)
    figure = equity_figure_of(content.curves, content.shown, content.holds, free, band, borders)
    yield Section(
        "Equity",
        figure_html(figure, "equity over the test windows", 400)
        + paragraph(
            "Luck band: the span of 95 % of equity paths that have the same sessions in random blocks and no "
            "mean return; equity inside it cannot be told from luck. Dotted lines: a new window "
            f"begins. A click on a name hides its line. Score: {_meaning(content)}; {ZERO_COST}."
        ),
    )
    yield losses_section(curve)
    rolling = rolling_sharpe(curve.sessions, curve.returns, year, content.risk_free)
    if rolling is not None:
        yield Section(
            "Rolling Sharpe ratio", figure_html(rolling_figure(rolling), "rolling Sharpe ratio", 280)
        )
    yield Section("Months", _month_table(curve))
    if free is not None:
        points = cost_sensitivity(curve.returns, free.returns, year, content.risk_free)
        yield Section(
            "Cost sensitivity",
            figure_html(cost_figure(points), "Sharpe ratio by cost", 260)
            + paragraph(
                "Measured at 0 and 1; at other multiples the cost of each session is scaled, and the actions "
                "stay the same."
            ),
        )


def _meaning(content: TrialContent) -> str:
    scored = content.run.spec.get("score", {})
    return SCORES[scored.get("kind", "joined")].format(k=scored.get("k", 1.0))


def _month_table(curve: Curve) -> str:
    table = monthly_returns(curve.sessions, curve.returns)
    head = "".join(f'<th class="r">{month}</th>' for month in MONTHS)
    lines = []
    for year, months in sorted(table.items()):
        cells = "".join(_month_cell(months.get(place % 13)) for place in range(1, 14))
        lines.append(f'<tr><td class="l">{year}</td>{cells}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr><th class="l">net</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _month_cell(value: float | None) -> str:
    if value is None:
        return "<td></td>"
    strength = min(abs(value) / FULL_COLOR, 1.0) * 0.45
    color = "good" if value > 0 else "bad"
    return f'<td class="r" style="background:rgba(var(--{color}),{strength:.2f})">{percent(value)}</td>'


def baseline_table(baselines: Sequence[BaselineRecord]) -> str:
    """Return the baselines of a study as a table."""
    rows = [
        [
            baseline_label(row.name, row.bought_anew),
            row.timeframe,
            format_score(row.score),
            format_score(row.sharpe_zero_cost),
            percent(row.total_return),
            share(row.cost),
            number(1)(row.turnover),
        ]
        for row in baselines
    ]
    header = ["baseline", "timeframe", "score", "zero-cost Sharpe", "return", "cost", "turnover"]
    return table_html(header, rows, left=2)


def _features(found: Sequence[FeatureEffect]) -> str:
    figure = interval_figure(
        [escape(each.feature) for each in found],
        [each.mean for each in found],
        [each.low for each in found],
        [each.high for each in found],
        "mean loss of Sharpe ratio",
        "95 % of the shuffles",
    )
    return figure_html(figure, "feature importance", 90 + 26 * len(found)) + paragraph(
        "Loss of Sharpe ratio where the blocks of one feature are shuffled in time over each test span, and "
        "the stored agents act on that. A feature whose interval contains zero is not shown to matter."
    )


def _trade_table(trades: Trades) -> str:
    first = trades.slice(0, MOST_TRADES).to_pylist()
    rows = [
        [
            row["timestamp"].strftime("%Y-%m-%d %H:%M"),
            str(row["symbol"]),
            str(row["side"]),
            short(row["quantity"]),
            f"{row['price']:.7g}",
            short(row["cost"]),
            "forced" if row["forced_exit"] else "",
        ]
        for row in first
    ]
    header = ["bar (UTC)", "symbol", "side", "quantity", "price", "cost", "exit"]
    more = f"The first {len(rows)} of {trades.num_rows} fills" if trades.num_rows > len(rows) else "All fills"
    return table_html(header, rows, left=3, long=True) + paragraph(
        f"{more} of the drawn repeat; quantity and cost are for each unit of starting equity."
    )


def words_of(*words: str) -> str:
    """Return a command line of words, quoted where a shell needs it."""
    return shlex.join(words)
