"""Figures of a trial over all of its windows, with the label and the form of each."""

from dataclasses import dataclass

from optimize.report.format import FigureWriter, decimal, in_percent


@dataclass(frozen=True)
class FigureInAll:
    """One figure of the metrics of a run."""

    key: str
    label: str
    write: FigureWriter


def _whole(value: float | None) -> str:
    return decimal(value, 0)


FIGURES_IN_ALL = (
    FigureInAll("sharpe", "Sharpe ratio", decimal),
    FigureInAll("sharpe_in_sample", "Sharpe ratio in sample, mean of the train spans", decimal),
    FigureInAll("degradation", "degradation, in sample less out of sample", decimal),
    FigureInAll("walk_forward_efficiency", "walk-forward efficiency, out of sample over in sample", decimal),
    FigureInAll("window_spread", "spread of the Sharpe ratio over windows", decimal),
    FigureInAll("sortino", "Sortino ratio", decimal),
    FigureInAll("calmar", "Calmar ratio", decimal),
    FigureInAll("cagr", "annual growth", in_percent),
    FigureInAll("volatility", "annual volatility", in_percent),
    FigureInAll("max_drawdown", "drawdown over session closes", in_percent),
    FigureInAll("max_drawdown_bars", "drawdown over bar closes", in_percent),
    FigureInAll("drawdown_sessions", "longest time below a peak, in sessions", _whole),
    FigureInAll("hit_rate", "hit rate of sessions", in_percent),
    FigureInAll("profit_factor", "profit factor of sessions", decimal),
    FigureInAll("tail_ratio", "tail ratio", decimal),
    FigureInAll("trades", "trades", _whole),
    FigureInAll("holding_bars", "holding time, in bars", decimal),
    FigureInAll("turnover", "turnover", decimal),
    FigureInAll("exposure", "mean exposure", decimal),
    FigureInAll("largest_exposure", "largest exposure", decimal),
    FigureInAll("liquidations", "liquidations", _whole),
    FigureInAll("cost_drag", "cost drag on annual growth", in_percent),
    FigureInAll("alpha", "annual alpha to buy-and-hold", in_percent),
    FigureInAll("beta", "beta to buy-and-hold", decimal),
)
