"""`walkforge leaderboard`."""

import dataclasses
from collections.abc import Sequence

from sqlalchemy import Engine

from envs.costs import CostSpec
from optimize.cli.evidence import show_evidence
from optimize.cli.tables import (
    COST_UNIT,
    EXPOSURE,
    FILLS,
    Column,
    number,
    percent,
    say,
    share,
    show,
    show_json,
    signed,
    spell,
)
from optimize.compose import LeaderboardConfig
from optimize.database import open_engine
from optimize.database.address import in_words
from optimize.errors import BadInputError
from optimize.evaluate.baselines import BOUGHT_ANEW
from optimize.results.queries import LeaderboardRow, find_study, health_of, studies_of
from optimize.results.queries import leaderboard as best_rows
from optimize.results.records import BaselineRecord, load_baselines, load_study
from optimize.study.evidence import stored_evidence

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
    Column("exposure", "exposure", number()),
    Column("buy_and_hold", "buy & hold", signed()),
)
STATISTICS = {
    "joined": "Sharpe ratio of the session returns joined over all test windows",
    "mean_window": "Sharpe ratio, mean of the test windows",
    "median_window": "Sharpe ratio, median of the test windows",
    "lower_bound": "Sharpe ratio, mean of the test windows minus k standard errors",
}


def leaderboard(config: LeaderboardConfig) -> None:
    """Show the best trials of a study, one for each distinct set of parameters."""
    engine = open_engine(config.database.url, read_only=True, busy_timeout_s=config.database.busy_timeout_s)
    name = find_study(engine, config.name)
    rows = best_rows(engine, name, config.top_n)
    plain = [dataclasses.asdict(row) for row in rows]
    if config.format != "table":
        with engine.connect() as conn:
            evidence = stored_evidence(conn, name)
        if config.format == "json" and evidence is not None:
            show_json({"rows": plain, "evidence": dataclasses.asdict(evidence)})
        else:
            show(plain, COLUMNS, config.format)
        return
    if not rows:
        seen = f"`walkforge status name={config.name}{in_words(config.database.url)}`"
        say(f"study {name} has no complete trial yet; {seen} shows where it is")
        return
    shown = [each | {"spread": _spread(row)} for each, row in zip(plain, rows, strict=True)]
    show(shown, COLUMNS, "table", title=f"best of study {name}")
    for row in rows:
        say(f"  rank {row.rank} (trial {row.trial_number}): {spell(row.parameters)}")
    say("")
    for line in _caption(engine, name, rows[0]):
        say(line)
    show_evidence(engine, name)


def _spread(row: LeaderboardRow) -> str:
    values = (row.window_sharpe_min, row.window_sharpe_median, row.window_sharpe_max)
    return " / ".join(signed()(value) for value in values)


def _caption(engine: Engine, name: str, best: LeaderboardRow) -> list[str]:
    """Return what the score is, what it contains and how far it can be trusted."""
    with engine.connect() as conn:
        record, baselines = load_study(conn, name), load_baselines(conn, name)
    if record is None:
        raise BadInputError(f"study {name} has no record of its own: it was not started by `walkforge study`")
    score, cost = record.spec["score"], CostSpec(**record.spec["cost"])
    anew = f" ({BOUGHT_ANEW})" if any(baseline.bought_anew for baseline in baselines) else ""
    lines = [
        f"score: annualised {STATISTICS[score['kind']]}, out of sample, net of all costs "
        f"({cost.describe()}, and financing){FILLS[record.spec['env']['fill']]}; {_span(best, baselines)}",
        "std err: of the mean over windows; buy & hold: its score on the same windows at the same "
        f"costs{anew}",
        f"{COST_UNIT}; {EXPOSURE}",
        f"searched: {_searched(engine, name)}; the best of many is partly luck: expect less than its score",
    ]
    lines += [
        f"baseline {baseline.name} ({baseline.timeframe}): score {signed()(baseline.score)}, "
        f"return {percent(baseline.total_return)}, cost {share(baseline.cost)}"
        for baseline in baselines
    ]
    unbeaten = best_baseline(baselines, best.score)
    if unbeaten is not None:
        lines.append(f"no trial beats the baseline {unbeaten.name}: nothing here is worth trading")
    return lines


def best_baseline(baselines: Sequence[BaselineRecord], score: float) -> BaselineRecord | None:
    """Return the best of the baselines that score at least as well as a trial, or None."""
    better = [each for each in baselines if each.score is not None and each.score >= score]
    return max(better, key=lambda each: each.score or 0.0, default=None)


def _span(best: LeaderboardRow, baselines: Sequence[BaselineRecord]) -> str:
    """Return how much time stands behind a score; a record without its baselines knows the windows alone."""
    told = next((each.windows["sessions"] for each in baselines if each.windows), None)
    sessions = "" if told is None else f" with {sum(map(len, told))} sessions in all"
    return f"{best.windows} test window{'s' * (best.windows != 1)}{sessions}"


def _searched(engine: Engine, name: str) -> str:
    """Return how many trials stand behind the best one, over all phases of the study."""
    phases = studies_of(engine, name.rpartition(".")[0] or name)
    parts = []
    with engine.connect() as conn:
        for phase in phases:
            health = health_of(conn, phase)
            complete, pruned = health["complete"], health["pruned"]
            parts.append(f"{complete + pruned} trials in {phase} ({complete} complete, {pruned} pruned)")
    return ", ".join(parts)
