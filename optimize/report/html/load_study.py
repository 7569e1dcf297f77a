"""The content of a study's report, from its records and files."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from optimize.database import Connection, Engine
from optimize.report.equity import hold_curves, trial_curves
from optimize.report.format import format_score
from optimize.report.html.study import SearchedKey, StudyContent
from optimize.report.luck import StudyLuck, lines_with_flags, luck_now, with_luck
from optimize.report.market_line import stored_line
from optimize.report.probe import probe_line
from optimize.report.selection import selection_line, selection_now
from optimize.results.finalists import finalist_holdouts, ranked_finalists, stress_of
from optimize.results.probes import load_probes, probe_rows
from optimize.results.queries import best_models, health_of
from optimize.results.records import load_baselines, load_study
from optimize.results.runs import finished_runs, run_of_trial, windows_of
from optimize.results.timeframe_verdict import stored_evidence

BOARD_ROWS = 30  # of the table of best models
MOST_CURVES = 5


def study_content(
    engine: Engine, url: str, name: str, folder: Path, keys: Sequence[SearchedKey]
) -> StudyContent:
    """Return the content of a study whose folder this is; `keys` are the importances of its searched keys."""
    rows = best_models(engine, name, BOARD_ROWS)
    with engine.connect() as conn:
        luck, lines = _judged(conn, url, name, rows[0].sessions_per_year if rows else None)
        rows = rows if luck is None else with_luck(rows, luck.sets)
        for row in rows[:1]:
            if (earned := probe_line(f"trial {row.trial_number}", row.score, asdict(row))) is not None:
                lines = [*lines, earned]
        best = [run for row in rows if (run := run_of_trial(conn, name, row.trial_number)) is not None]
        windows = {run.run_uuid: windows_of(conn, run.run_uuid) for run in best}
        baselines = load_baselines(conn, name)
        probes = probe_rows(load_probes(conn, name), rows[0].trial_number, rows[0].inputs) if rows else []
        curves = {}
        for run in best[:MOST_CURVES]:
            if found := trial_curves(folder, windows[run.run_uuid]):
                curves[f"trial {run.trial_number} ({format_score(run.score)})"] = next(iter(found.values()))
        first = next(iter(curves.values()), None)
        timeframe = str(best[0].spec.get("data", {}).get("timeframe")) if best else ""
        return StudyContent(
            name=name,
            market=stored_line(conn, name),
            lines=lines,
            rows=rows,
            runs=finished_runs(conn, name),
            windows=windows,
            curves=curves,
            holds={} if first is None else hold_curves(baselines, timeframe, first.sessions),
            baselines=[*baselines, *probes],
            keys=keys,
            luck=None if luck is None else luck.test,
            evidence=stored_evidence(conn, name),
            finalists=ranked_finalists(conn, name),
            stress=stress_of(conn, name),
            holdout=finalist_holdouts(conn, name),
            searched=_searched(conn, name),
        )


def _judged(
    conn: Connection, url: str, name: str, sessions_per_year: float | None
) -> tuple[StudyLuck | None, list[str]]:
    """Return the luck of a study, and the lines of its verdict and of its selection walk-forward."""
    record = load_study(conn, name)
    if record is None or sessions_per_year is None:
        return None, []
    luck = luck_now(conn, url, record, sessions_per_year)
    selection = selection_now(conn, record, sessions_per_year)
    lines = [] if luck is None else lines_with_flags(conn, luck.test)
    return luck, lines if selection is None else [*lines, selection_line(selection, record)]


def _searched(conn: Connection, name: str) -> str:
    health = health_of(conn, name)
    ended = f"{health['complete']} trials are complete and {health['pruned']} pruned"
    return f"{ended}, of at most {health['cap']}; {health['failed']} failed."
