"""`walkforge finalists`."""

from collections.abc import Callable
from typing import Any

from optimize.report.finalists import (
    MEANING,
    SAME_WINDOWS,
    finalist_rows,
    shrinkage_line,
    shrinkage_of,
    stress_reasons,
)
from optimize.report.format import format_score, number, share
from optimize.report.tables import Column, say, say_aside, show, show_json, spell
from optimize.schemas.studies import FinalistsConfig
from optimize.study.finalists.run import FinalistResults, FinalistSettings, run_finalists
from optimize.study.finalists.stress import STRESS_MEANINGS, volume_scenario
from optimize.study.workers.signals import lasting_output

COLUMNS = (
    Column("rank", "rank"),
    Column("trial_number", "trial"),
    Column("search_score", "search", format_score),
    Column("fresh_score", "fresh", format_score),
    Column("lower_bound", "low", format_score),
    Column("upper_bound", "high", format_score),
    Column("seeds", "seeds"),
    Column("score_mean", "mean", format_score),
    Column("score_deviation", "deviation", number()),
    Column("score_min", "lowest", format_score),
    Column("score_max", "highest", format_score),
    Column("random_quantile", "above random", share),
)
HOLDOUT_COLUMNS = (
    Column("score_holdout", "holdout", format_score),
    Column("score_holdout_min", "lowest", format_score),
    Column("score_holdout_max", "highest", format_score),
    Column("buy_and_hold_holdout", "buy_and_hold", format_score),
)
GATE_COLUMN = Column("gate", "gate", lambda value: value or "-", right=False)


def finalists(config: FinalistsConfig) -> int:
    """Retrain the best parameter sets of a study on fresh seeds, stress-test them and show their ranking."""
    settings = FinalistSettings(
        name=config.name,
        top_n=config.top_n,
        seeds=config.seeds,
        volume_share=config.volume_share,
        holdout=config.holdout,
        output_dir=config.output_dir,
        data_path=config.data.path,
        extensions=config.extensions,
        database=config.database,
        worker=config.worker,
    )
    echo: Callable[[str], None] = say if config.format == "table" else say_aside
    with lasting_output():
        try:
            results = run_finalists(settings, echo)
        except KeyboardInterrupt:
            echo(f"the finalists of {config.name} are interrupted: the same command resumes them")
            return 1
        _show(config, results)
    failed = [run for run in results.runs if run.failure_message is not None and run.score is None]
    for run in failed:
        say_aside(f"trial {run.trial_number}, seed {run.seed} failed: {run.failure_message}")
    return 1 if failed else 0


def _show(config: FinalistsConfig, results: FinalistResults) -> None:
    rows = finalist_rows(results.finalists, results.runs, results.stress, results.holdout)
    if config.format == "json":
        found = shrinkage_of(results.finalists)
        curse = (
            None if found is None else {"search": found.search, "fresh": found.fresh, "sets": found.finalists}
        )
        show_json({"finalists": rows, "shrinkage": curse, "picture": str(results.picture)})
        return
    stored = list(dict.fromkeys(name for row in rows for name in row["stress"]))
    scenarios = sorted(stored, key=lambda name: [*STRESS_MEANINGS, name].index(name))
    flat: list[dict[str, Any]] = [row | row["stress"] for row in rows]
    tested = [Column(name, name.replace("_", " "), format_score) for name in scenarios]
    gated = [GATE_COLUMN] if any(row["gate"] is not None for row in rows) else []
    if config.format == "csv":
        show(flat, [*COLUMNS, GATE_COLUMN, *tested, *HOLDOUT_COLUMNS, Column("run_uuid", "run")], "csv")
        return
    show(flat, [*COLUMNS, *gated], "table", title=f"finalists of study {results.study}")
    show(
        flat,
        [*COLUMNS[:2], COLUMNS[3], *tested],
        "table",
        title="stress tests: score of the run of the median fresh seed",
    )
    if results.holdout:
        span = f"{results.holdout[0].first} to {results.holdout[0].end} (exclusive)"
        title = f"holdout, {span}: the median seed, and the range of all seeds"
        show(flat, [*COLUMNS[:2], COLUMNS[3], *HOLDOUT_COLUMNS], "table", title=title)
    for row in rows:
        say(f"  rank {row['rank']} (trial {row['trial_number']}): {spell(row['parameters'])}")
    say("")
    for line in (shrinkage_line(results.finalists), MEANING, SAME_WINDOWS):
        say(line)
    meanings = STRESS_MEANINGS | {volume_scenario(config.volume_share): _of_volume(config.volume_share)}
    say("; ".join(f"{name}: {meanings[name]}" for name in scenarios if name in meanings))
    for line in stress_reasons(results.stress):
        say(line)
    say(f"picture: {results.picture}")


def _of_volume(volume_share: float) -> str:
    return f"an order trades at most {share(volume_share)} of its bar's volume"
