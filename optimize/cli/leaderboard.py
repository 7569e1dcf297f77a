"""`walkforge leaderboard`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, text

from envs.costs import CostSpec
from optimize.cli.tables import FILLS, Column, number, percent, say, share, short, show, signed
from optimize.compose import RecordsConfig
from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.results.queries import LeaderboardRow, find_study, studies_of
from optimize.results.queries import leaderboard as best_rows
from optimize.results.records import load_baselines, load_study

COLUMNS = (
    Column("rank", "rank"),
    Column("trial_number", "trial"),
    Column("score", "score", signed()),
    Column("standard_error", "std err", number()),
    Column("spread", "windows min/med/max"),
    Column("sharpe_zero_cost", "no-cost Sharpe", signed()),
    Column("cost", "cost", share),
    Column("total_return", "return", percent),
    Column("max_drawdown", "drawdown", percent),
    Column("trades", "trades", number(0)),
    Column("buy_and_hold", "buy & hold", signed()),
)
STATISTICS = {
    "joined": "Sharpe ratio of the session returns joined over all test windows",
    "mean_window": "Sharpe ratio, mean of the test windows",
    "median_window": "Sharpe ratio, median of the test windows",
    "lower_bound": "Sharpe ratio, mean of the test windows minus k standard errors",
}


def leaderboard(config: RecordsConfig) -> None:
    """Show the best trials of a study, one for each distinct set of parameters."""
    engine = open_engine(config.database.url, read_only=True, busy_timeout_s=config.database.busy_timeout_s)
    name = find_study(engine, config.name)
    rows = best_rows(engine, name, config.limit)
    plain = [dataclasses.asdict(row) for row in rows]
    if config.format != "table":
        show(plain, COLUMNS, config.format)
        return
    if not rows:
        say(
            f"study {name} has no complete trial yet; `walkforge status name={config.name}` shows where it is"
        )
        return
    shown = [each | {"spread": _spread(row)} for each, row in zip(plain, rows, strict=True)]
    show(shown, COLUMNS, "table", title=f"best of study {name}")
    for row in rows:
        say(f"  {row.rank:>3}  {spell(row.parameters)}")
    say("")
    for line in _caption(engine, name, rows[0].score):
        say(line)


def spell(parameters: Mapping[str, Any]) -> str:
    """Return parameters in short: the last word of each path, numbers in four digits."""
    words = [f"{path.rpartition('.')[2]}={short(value)}" for path, value in sorted(parameters.items())]
    return " ".join(words) or "the defaults"


def _spread(row: LeaderboardRow) -> str:
    values = (row.window_sharpe_min, row.window_sharpe_median, row.window_sharpe_max)
    return " / ".join(signed()(value) for value in values)


def _caption(engine: Engine, name: str, best: float) -> list[str]:
    """Return what the score is, what it contains and how far it can be trusted."""
    with engine.connect() as conn:
        record, baselines = load_study(conn, name), load_baselines(conn, name)
    if record is None:
        raise BadInputError(f"study {name} has no record of its own: it was not started by `walkforge study`")
    score, cost = record.spec["score"], CostSpec(**record.spec["cost"])
    lines = [
        f"score: annualised {STATISTICS[score['kind']]}, out of sample, net of all costs "
        f"({cost.describe()}, and financing){FILLS[record.spec['env']['fill']]}",
        "std err: of the mean over windows; buy & hold: its score on the same windows at the same costs",
        f"searched: {_searched(engine, name)}; the best of many is partly luck: expect less than its score",
    ]
    lines += [
        f"baseline {baseline.name} ({baseline.timeframe}): score {signed()(baseline.score)}, "
        f"return {percent(baseline.total_return)}, cost {share(baseline.cost)}"
        for baseline in baselines
    ]
    scores = [(baseline.score, baseline.name) for baseline in baselines if baseline.score is not None]
    if scores and max(scores)[0] >= best:
        lines.append(f"no trial beats the baseline {max(scores)[1]}: there is nothing here to export")
    return lines


def _searched(engine: Engine, name: str) -> str:
    """Return how many trials stand behind the best one, over all phases of the study."""
    phases = studies_of(engine, name.rpartition(".")[0] or name)
    health = text("SELECT complete, pruned FROM study_health WHERE study_name = :name")
    parts = []
    with engine.connect() as conn:
        for phase in phases:
            complete, pruned = conn.execute(health, {"name": phase}).one()
            parts.append(f"{complete + pruned} trials in {phase} ({complete} complete, {pruned} pruned)")
    return ", ".join(parts)
