"""The content of a trial's report, from its records and files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from envs.types import DateArray
from optimize.data.sessions import DAYS_PER_YEAR
from optimize.database import Connection
from optimize.report.equity import Curve, hold_curves, trial_curves
from optimize.report.html.trial import TrialContent, words_of
from optimize.report.luck import luck_of_set_now
from optimize.report.market_line import stored_line
from optimize.report.probe import probe_line
from optimize.results.probes import load_probe
from optimize.results.records import RunRecord, WindowRecord, load_baselines
from optimize.results.runs import windows_of
from optimize.walkforward.files import TRADES, find_returns


def trial_content(conn: Connection, url: str, folder: Path, run: RunRecord, place: str) -> TrialContent:
    """Return the content of a trial whose study has this folder; `place` names the database in a command."""
    windows = windows_of(conn, run.run_uuid)
    curves = trial_curves(folder, windows)
    timeframe = str(run.spec.get("data", {}).get("timeframe"))
    baselines = [row for row in load_baselines(conn, run.study_name) if row.timeframe == timeframe]
    if (probe := load_probe(conn, run.study_name, run.inputs)) is not None:
        baselines.append(probe.as_baseline())
    sessions = next(iter(curves.values())).sessions if curves else np.array([], "datetime64[D]")
    tested = f", tested {windows[0].test_start} to {windows[-1].test_end}" if windows else ""
    metrics = run.metrics or {}
    earned = probe_line(f"trial {run.trial_number}", run.score, metrics)
    content = TrialContent(
        title=f"{run.study_name}, trial {run.trial_number}",
        market=stored_line(conn, run.study_name) + tested,
        run=run,
        windows=windows,
        curves=curves,
        free=free_curves(folder, windows),
        holds=hold_curves(baselines, timeframe, sessions),
        baselines=baselines,
        trades=None,
        sessions_per_year=metrics.get("sessions_per_year") or _sessions_per_year(sessions),
        commands=[
            words_of("walkforge", "replay", f"name={run.study_name}", f"trial={run.trial_number}") + place,
            f"run {run.run_uuid}, data {run.data_fingerprint[:12]}, seed entropy {list(run.entropy)}",
        ],
        luck=luck_of_set_now(conn, url, run),
        notes=[] if earned is None else [earned],
    )
    if not curves:
        return content
    return with_trades(content, folder)


def with_trades(content: TrialContent, folder: Path) -> TrialContent:
    """Return the content with the fills of the repeat that is drawn, over all windows."""
    tables = [
        pq.read_table(path)
        for row in content.windows
        if row.repeat == content.shown and row.returns_path is not None
        if (path := (folder / row.returns_path).parent / TRADES).is_file()
    ]
    return replace(content, trades=pa.concat_tables(tables)) if tables else content


def free_curves(folder: Path, windows: list[WindowRecord]) -> dict[int, Curve]:
    """Return the curves of the same actions without costs by repeat, where the files of all windows exist."""
    parts: dict[int, list[Curve]] = {}
    for row in sorted(windows, key=lambda each: (each.repeat, each.window)):
        found = None if row.returns_path is None else find_returns(folder / row.returns_path)
        if found is not None:
            parts.setdefault(row.repeat, []).append(Curve(found[0], found[1].free_returns))
    return {
        repeat: Curve(
            np.concatenate([each.sessions for each in curves]),
            np.concatenate([each.returns for each in curves]),
        )
        for repeat, curves in parts.items()
    }


def _sessions_per_year(sessions: DateArray) -> float:
    """Return how many sessions a year has, for runs of a version that did not store it."""
    if len(sessions) < 2:
        return DAYS_PER_YEAR
    days = (sessions[-1] - sessions[0]).astype("timedelta64[D]").astype(float)
    return float((len(sessions) - 1) / days * DAYS_PER_YEAR)
