"""`walkforge leaderboard`."""

import dataclasses
from collections.abc import Sequence

from envs.costs import CostSpec
from optimize.cli.timeframe_verdict import show_evidence
from optimize.database import Connection, Engine, open_engine
from optimize.database.address import in_words
from optimize.errors import BadInputError
from optimize.evaluate.captions import (
    ERROR_MEANINGS,
    LINEAR_PROBE,
    REBOUGHT_REASON,
    baseline_label,
    better_baseline,
)
from optimize.report.format import format_score, number, percent, share
from optimize.report.gates import blocked_line, gate_lines
from optimize.report.luck import INTERVALS, StudyLuck, lines_with_flags, luck_now, with_luck
from optimize.report.market_line import stored_line
from optimize.report.nested import earned_lines
from optimize.report.probe import probe_line
from optimize.report.tables import (
    ABOVE_RANDOM,
    COST_UNIT,
    EXPOSURE,
    FIGURES,
    FILLS,
    IN_SAMPLE,
    RANDOM,
    ZERO_COST,
    Column,
    say,
    show,
    show_json,
    spell,
)
from optimize.report.unscored import why_unscored
from optimize.report.verdict import LUCK_COLUMNS, LUCK_LEGEND, interval_of
from optimize.results.finalists import finalist_holdouts, ranked_finalists
from optimize.results.holdout import holdout_of_study, openings_of
from optimize.results.instrument_names import instruments_of
from optimize.results.launches import NO_MEANING, is_debug, typed_words
from optimize.results.probes import load_probes, probe_rows
from optimize.results.queries import (
    LeaderboardRow,
    all_studies,
    best_score,
    find_study,
    health_of,
    set_spreads,
    studies_of,
)
from optimize.results.queries import best_models as best_rows
from optimize.results.records import BaselineRecord, StudyRecord, load_baselines, load_study
from optimize.results.runs import count_gated
from optimize.results.states import SetSource
from optimize.results.study_names import is_nested, searched_name
from optimize.results.timeframe_verdict import stored_evidence
from optimize.schemas.records import LeaderboardConfig

TRIAL_COLUMNS = (
    Column("rank", "rank"),
    Column("trial_number", "trial"),
    Column("score", "score", format_score),
    Column("standard_error", "standard error", number(), detail=True),
    *LUCK_COLUMNS,
    Column("spread", "windows min/med/max"),
    Column("sharpe_zero_cost", "zero-cost Sharpe", format_score, detail=True),
    Column("sharpe_in_sample", "in-sample Sharpe", format_score, detail=True),
    Column("cost", "cost", share, detail=True),
    Column("total_return", "return", percent),
    Column("max_drawdown", "drawdown (sessions)", percent, detail=True),
    Column("max_drawdown_bars", "drawdown (bars)", percent, detail=True),
    Column("trades", "trades", number(0), detail=True),
    Column("exposure", "exposure", number(), detail=True),
    Column("buy_and_hold", "buy_and_hold", format_score, detail=True),
    Column("random_quantile", "above random", share),
    Column("probe_score", LINEAR_PROBE, format_score, detail=True),
)
REPEATED = (  # shown where a set of parameters has several runs
    Column("runs", "runs"),
    Column("mean", "mean score", format_score),
    Column("deviation", "deviation", number()),
    Column("seeds", "seeds", right=False),
)
SOURCE_COLUMN = Column("source", "source", right=False)  # shown where a set was given and not drawn
LISTED_COLUMNS = (
    Column("study", "study", right=False),
    Column("trials", "trials"),
    Column("best", "best score", format_score),
    Column("market", "market", right=False),
)
GIVEN_SETS = (
    "source: sampler, or a set that was given: by search.enqueue, by search.start_from (an earlier study) or "
    "by hand; one that was chosen by earlier results on these dates scores too high, and the tries behind "
    "those results are counted with these"
)
STATISTICS = {
    "joined": "Sharpe ratio of the session returns joined over all test windows",
    "mean_window": "Sharpe ratio, mean of the test windows",
    "median_window": "Sharpe ratio, median of the test windows",
    "lower_bound": "Sharpe ratio, mean of the test windows minus k standard errors",
}


def show_leaderboard(config: LeaderboardConfig) -> None:
    """Show the best trials of a study, one for each distinct set of parameters."""
    engine = open_engine(config.database.url, read_only=True, busy_timeout_s=config.database.busy_timeout_s)
    if (name := _chosen(engine, config)) is None:
        return
    rows = best_rows(engine, name, config.top_n)
    luck = _luck(engine, config.database.url, name, rows)
    rows = rows if luck is None else with_luck(rows, luck.sets)
    plain = [dataclasses.asdict(row) for row in rows]
    if config.format != "table":
        with engine.connect() as conn:
            evidence = stored_evidence(conn, name)
        if config.format == "json" and evidence is not None:
            show_json({"rows": plain, "evidence": dataclasses.asdict(evidence)})
        else:
            show(plain, TRIAL_COLUMNS, config.format, file=config.file)
        return
    if not rows:
        seen = f"`walkforge status name={config.name}{in_words(config.database.url)}`"
        with engine.connect() as conn:
            health, blocked = health_of(conn, name), blocked_line(count_gated(conn, name))
        ended = health["cap"] is not None and health["complete"] + health["pruned"] >= health["cap"]
        seen = f"{seen} shows where it is"
        waiting = f"study {name} has no complete trial yet; {seen}"
        if blocked:
            waiting = f"study {name} has no trial yet that may be ranked; {blocked}; {seen}"
        say(why_unscored(engine, name) if ended else waiting)
        return
    texts = [{"spread": _spread(row), "interval": interval_of(row)} for row in rows]
    shown = [each | text for each, text in zip(plain, texts, strict=True)]
    market, caption = _market(engine, name), _caption(engine, name, rows)  # an error comes before any output
    say(market)
    with engine.connect() as conn:
        verdict = [] if luck is None else lines_with_flags(conn, luck.test)
    for line in verdict:
        say(line)
    columns: Sequence[Column] = TRIAL_COLUMNS
    if any(row.runs > 1 for row in rows):
        spreads, columns = set_spreads(engine, name), (*TRIAL_COLUMNS, *REPEATED)
        shown = [each | spreads.get(each["trial_number"], {}) for each in shown]
    if any(row.source != SetSource.SAMPLER for row in rows):
        columns = (*columns, SOURCE_COLUMN)
    show(shown, columns, "table", title=f"best of study {name}")
    for row in rows:
        say(f"  rank {row.rank} (trial {row.trial_number}): {spell(row.parameters)}")
    say("")
    for line in caption:
        say(line)
    show_evidence(engine, name)


def _chosen(engine: Engine, config: LeaderboardConfig) -> str | None:
    """Return the study to show: the named one, or the only one; else list all of them and return None."""
    if config.name.strip("?"):
        return find_study(engine, config.name)
    studies = all_studies(engine)
    searched = [study for study in studies if not is_nested(study)]
    last = list({searched_name(study): study for study in searched}.values())  # of two phases
    if len(last) == 1:
        return last[0]
    rows = []
    for study in last:
        with engine.connect() as conn:
            health, best = health_of(conn, study), best_score(conn, study)
        trials = health["complete"] + health["pruned"]
        rows.append({"study": study, "trials": trials, "best": best, "market": _market(engine, study)})
    show(rows, LISTED_COLUMNS, config.format, file=config.file)
    if config.format == "table":
        more = f"`walkforge leaderboard name=STUDY{in_words(config.database.url)}` shows one"
        say(more if rows else "this database holds no study yet")
    return None


def _luck(engine: Engine, url: str, name: str, rows: Sequence[LeaderboardRow]) -> StudyLuck | None:
    """Return the luck of a study, measured anew where trials or tries were added since."""
    with engine.connect() as conn:
        record = load_study(conn, name)
        if record is None or not rows:
            return None
        return luck_now(conn, url, record, rows[0].sessions_per_year)


def _market(engine: Engine, name: str) -> str:
    with engine.connect() as conn:
        return stored_line(conn, name)


def _spread(row: LeaderboardRow) -> str:
    values = (row.window_sharpe_min, row.window_sharpe_median, row.window_sharpe_max)
    return " / ".join(map(format_score, values))


def _caption(engine: Engine, name: str, rows: Sequence[LeaderboardRow]) -> list[str]:
    """Return lines on the meaning of the score, its costs and its uncertainty."""
    with engine.connect() as conn:
        record, baselines = load_study(conn, name), load_baselines(conn, name)
        probes = probe_rows(load_probes(conn, name), rows[0].trial_number, rows[0].inputs)
        debug = is_debug(typed_words(conn, name))
    if record is None:
        raise BadInputError(f"study {name} has no record of its own: it was not started by `walkforge study`")
    scored, cost = record.spec["score"], CostSpec(**record.spec["cost"])
    anew = f" ({REBOUGHT_REASON})" if any(baseline.bought_anew for baseline in baselines) else ""
    best = rows[0]
    with engine.connect() as conn:
        earned = earned_lines(conn, record, best.sessions_per_year)
    several = ""
    if any(row.runs > 1 for row in rows):
        several = "; score = lower median of the runs of a parameter set"
    year = best.sessions_per_year
    factor = "" if year is None else f"; a year has {year:g} sessions"
    lines = [
        f"score: annualised {STATISTICS[scored['kind']]}, out of sample, net of all costs "
        f"({cost.describe()}, and financing){FILLS[record.spec['env']['fill']]}; {_span(best, baselines)}"
        f"{factor}{several}",
        f"standard error: {ERROR_MEANINGS[scored['kind']]}; buy_and_hold: its score on the same windows "
        f"at the same costs{anew}; {ZERO_COST}; {IN_SAMPLE}",
        LUCK_LEGEND,
        f"{FIGURES}; {COST_UNIT}; {EXPOSURE}; {RANDOM}; {ABOVE_RANDOM}",
        f"searched: {_searched(engine, name)}; the best of many is partly luck: expect less than its score",
    ]
    if any(row.source != SetSource.SAMPLER for row in rows):
        lines.append(GIVEN_SETS)
    if any(row.sharpe_low is None for row in rows):
        lines.append(
            f"no interval: only the {INTERVALS} best parameter sets have one, where returns allow it"
        )
    with engine.connect() as conn:
        lines += gate_lines(conn, name, rows)
    lines += earned
    with engine.connect() as conn:
        lines += [*finalists_line(conn, name), *_holdout(conn, name, record)]
    lines += [
        f"baseline {_label(baseline)} at {baseline.timeframe}: score {format_score(baseline.score)}"
        f"{_spread_of_seeds(baseline)}, "
        f"return {percent(baseline.total_return)}, cost {share(baseline.cost)}"
        for baseline in (*baselines, *probes)
    ]
    unbeaten = better_baseline(baselines, best.score)
    if debug:
        lines.append(f"the study was cut down by debug=tiny: {NO_MEANING}")
    if unbeaten is not None:
        lines.append(f"no trial beats the baseline {_label(unbeaten)}: nothing here is worth trading")
    if earned_by_probe := probe_line(f"trial {best.trial_number}", best.score, dataclasses.asdict(best)):
        lines.append(earned_by_probe)
    return lines


def finalists_line(conn: Connection, name: str) -> list[str]:
    """Return a line on the finalists of a study, none where none were ranked."""
    found = ranked_finalists(conn, name)
    if not found:
        return []
    best, place = found[0], in_words(conn.engine.url)
    again = f"`walkforge finalists name={searched_name(name)} top_n={len(found)}{place}` shows them again"
    return [
        f"finalists: {len(found)} parameter set{'s' * (len(found) != 1)} on fresh seeds, best lower bound "
        f"{format_score(best.lower_bound)} (trial {best.trial_number}); {again}"
    ]


def _holdout(conn: Connection, name: str, record: StudyRecord) -> list[str]:
    """Return a line on the holdout of a study and how often it was opened, none for an older study."""
    stated = record.spec.get("window", {}).get("holdout", ())
    kept = holdout_of_study(conn, name, stated, instruments_of(record.spec["data"]))
    if kept is None:
        return []
    count = len(openings_of(conn, kept.instruments, kept.first, kept.end))
    opened = f"opened {count} time{'s' * (count != 1)}" if count else "never opened"
    line = f"holdout: {kept.first} to {kept.end} (exclusive), in no window, {opened}"
    return [line, *_finalists_on_it(conn, name)]


def _finalists_on_it(conn: Connection, name: str) -> list[str]:
    """Return a line with the scores of the finalists on the holdout, none where it stayed closed for them."""
    measured = {each.run_uuid: each for each in finalist_holdouts(conn, name)}
    found = [
        (each, measured[each.run_uuid]) for each in ranked_finalists(conn, name) if each.run_uuid in measured
    ]
    if not found:
        return []
    scores = ", ".join(f"trial {each.trial_number} {format_score(on_it.score)}" for each, on_it in found)
    return [f"finalists on the holdout: {scores}; buy_and_hold {format_score(found[0][1].buy_and_hold)}"]


def _spread_of_seeds(baseline: BaselineRecord) -> str:
    """Return how many random policies a baseline is the median of, and where most of their scores lie."""
    if baseline.seeds is None:
        return ""
    low, high = format_score(baseline.score_low), format_score(baseline.score_high)
    return f" (median of {baseline.seeds} random policies, 5 to 95 %: {low} to {high})"


def _label(baseline: BaselineRecord) -> str:
    return baseline_label(baseline.name, baseline.bought_anew)


def _span(best: LeaderboardRow, baselines: Sequence[BaselineRecord]) -> str:
    """Return how much time stands behind a score; without stored baselines only that of the windows."""
    told = next((each.windows["sessions"] for each in baselines if each.windows), None)
    sessions = "" if told is None else f" with {sum(map(len, told))} sessions in all"
    return f"{best.windows} test window{'s' * (best.windows != 1)}{sessions}"


def _searched(engine: Engine, name: str) -> str:
    """Return how many trials stand behind the best one, over all phases of the study."""
    phases = studies_of(engine, searched_name(name))
    parts = []
    with engine.connect() as conn:
        for phase in phases:
            health = health_of(conn, phase)
            complete, pruned = health["complete"], health["pruned"]
            parts.append(f"{complete + pruned} trials in {phase} ({complete} complete, {pruned} pruned)")
    return ", ".join(parts)
