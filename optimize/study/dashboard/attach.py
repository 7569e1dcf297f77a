"""Attach notes, pictures and figures to finished trials and studies for optuna-dashboard.

A launch attaches those of the best trials at its end, `walkforge dashboard` the rest; workers attach none.
"""

import json
import mimetypes
import sys
import uuid
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from optuna.artifacts import FileSystemArtifactStore
from optuna.exceptions import ExperimentalWarning
from optuna.trial import Trial
from optuna_dashboard import save_note, save_plotly_graph_object
from optuna_dashboard.artifact import get_artifact_path

from optimize.atomic import replacing
from optimize.report.equity import Curve, hold_curves, trial_curves, write_csv, write_picture
from optimize.report.format import decimal, format_score
from optimize.report.luck import lines_with_flags
from optimize.report.notes import study_note, trial_note
from optimize.results.event_log import events, log_event
from optimize.results.events import NoteFailed
from optimize.results.luck import LuckRecord, load_luck, load_luck_sets
from optimize.results.probes import load_probe
from optimize.results.queries import without_note
from optimize.results.records import BaselineRecord, RunRecord, WindowRecord, load_baselines
from optimize.results.runs import finished_runs, parameter_set, windows_of, windows_of_study
from optimize.results.states import RunState
from optimize.results.timeframe_verdict import stored_evidence
from optimize.search.storage import trial_id
from optimize.study.context import StudyContext
from optimize.study.importance import measure_importance
from optimize.study.shared_folder import ARTIFACTS
from optimize.walkforward.files import run_folder

REPORTS_LOCK = ".reports.lock"  # in the artifact folder: one process at a time attaches reports
PICTURE, TABLE = "equity.png", "equity.csv"
TOP = 5


def artifact_store(output_dir: str | Path) -> FileSystemArtifactStore:
    """Return the store of every study's artifacts, its folder created."""
    folder = Path(output_dir) / ARTIFACTS
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def attach_reports(
    context: StudyContext,
    among: Collection[int] | None = None,
    most: int | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> int:
    """Attach note and picture to finished trials that have none, best first; return the number of attempts.

    `among` limits the trials, `most` their number, and it stops once `ended` returns true. While another
    process attaches reports it returns 0.
    """
    folder = Path(context.spec.output_dir) / ARTIFACTS
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / REPORTS_LOCK, timeout=0):
            with context.engine.connect() as conn:
                numbers = without_note(conn, context.spec.name)
                chosen = [number for number in numbers if among is None or number in among][:most]
                runs = {run.trial_number: run for run in finished_runs(conn, context.spec.name, chosen)}
                baselines = load_baselines(conn, context.spec.name)
                luck = {each.parameter_set: each for each in load_luck_sets(conn, context.spec.name)}
            with context.storage.system_attrs_read_once():
                for tried, number in enumerate(chosen):
                    if ended():
                        return tried
                    if number in runs:  # a trial may have a later run that has not finished
                        of_set = luck.get(parameter_set(runs[number].parameters))
                        _attach_or_record(context, runs[number], baselines, of_set)
            return len(chosen)
    except Timeout:
        return 0


def _attach_or_record(
    context: StudyContext, run: RunRecord, baselines: Sequence[BaselineRecord], luck: LuckRecord | None
) -> None:
    """Attach the report of a trial; on failure record one event and keep the trial."""
    try:
        with context.engine.connect() as conn:
            windows = windows_of(conn, run.run_uuid)
            probe = load_probe(conn, run.study_name, run.inputs)
        beside = baselines if probe is None else [*baselines, probe.as_baseline()]
        attach_report(context, run, windows, beside, luck)
    except Exception as error:  # such as a full disk or a lost file
        subject = f"trial {run.trial_number} has no note or picture: "
        with context.engine.begin() as conn:
            known = events(conn, context.spec.name, NoteFailed)
            if not any(event.message.startswith(subject) for event in known):
                message = f"{subject}{type(error).__name__}: {error}"
                print(message, file=sys.stderr)
                log_event(conn, context.spec.name, message, NoteFailed())


def attach_report(
    context: StudyContext,
    run: RunRecord,
    windows: Sequence[WindowRecord],
    baselines: Sequence[BaselineRecord],
    luck: LuckRecord | None = None,
) -> None:
    """Attach the note of a trial, and the equity of its test windows as PNG and CSV."""
    trial = Trial(context.study, trial_id(context.storage, context.spec.name, run.trial_number))
    curves = trial_curves(context.spec.folder, windows)
    picture = _attach_equity(context, trial, run, windows, baselines, curves) if curves else None
    save_note(trial, trial_note(run, windows, baselines, picture, luck))


def _attach_equity(
    context: StudyContext,
    trial: Trial,
    run: RunRecord,
    windows: Sequence[WindowRecord],
    baselines: Sequence[BaselineRecord],
    curves: Mapping[int, Curve],
) -> str:
    """Store the equity as PNG and CSV; return the address of the picture on the dashboard."""
    folder = run_folder(context.spec.folder, run.trial_number, run.run_uuid)
    first = next(iter(curves.values()))
    holds = hold_curves(baselines, run.spec["data"]["timeframe"], first.sessions)
    borders = sorted({row.test_start for row in windows})[1:]
    label = f"trial {run.trial_number}"
    title = f"{run.study_name}, {label}: {run.state if run.score is None else f'score {decimal(run.score)}'}"
    _attach_file(context, run, folder / TABLE, lambda path: write_csv(path, curves))
    draw = partial(write_picture, title=title, label=label, curves=curves, holds=holds, borders=borders)
    return str(get_artifact_path(trial, _attach_file(context, run, folder / PICTURE, draw)))


def _attach_file(context: StudyContext, run: RunRecord, path: Path, write: Callable[[Path], None]) -> str:
    """Store a file among the artifacts of a trial, once; return its id.

    Optuna locks the attributes of finished trials, so the entry is one of the study, where the page finds it.
    """
    storage, name = context.storage, context.spec.name
    study_id = storage.get_study_id_from_name(name)
    prefix = f"dashboard:artifacts:{trial_id(storage, name, run.trial_number)}:"
    known = [
        json.loads(value)
        for key, value in storage.get_study_system_attrs(study_id).items()
        if key.startswith(prefix)
    ]
    stored = [entry["artifact_id"] for entry in known if entry is not None and entry["filename"] == path.name]
    output_dir = Path(context.spec.output_dir)
    if stored and (output_dir / ARTIFACTS / stored[0]).is_file():
        return str(stored[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as unfinished:  # not durable: it can be drawn again
        write(unfinished)
    artifact = str(stored[0] if stored else uuid.uuid4())
    with path.open("rb") as stream:
        artifact_store(output_dir).write(artifact, stream)
    if not stored:
        kind, encoding = mimetypes.guess_type(path.name)
        entry = {"artifact_id": artifact, "filename": path.name, "mimetype": kind, "encoding": encoding}
        storage.set_study_system_attr(study_id, prefix + artifact, json.dumps(entry))
    return artifact


def attach_study_report(context: StudyContext) -> list[int]:
    """Replace the note and figures of a study; return its best trials."""
    # Plotly is loaded only here, once a study.
    from optimize.report.figures import timeframe_figure, window_figure

    study, name = context.study, context.spec.name
    with context.engine.connect() as conn:
        luck = load_luck(conn, name)
        verdict = [] if luck is None else lines_with_flags(conn, luck)
    save_note(study, study_note(name, context.spec, context.spec.space, context.spec.n_trials, verdict))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # without a name the page shows "Objective 0"
        study.set_metric_names([f"Sharpe ratio ({context.spec.score.kind})"])
    with context.engine.connect() as conn:
        runs = [run for run in finished_runs(conn, name) if run.state == RunState.COMPLETE]
        runs.sort(key=lambda run: (-(run.score or 0.0), run.trial_number))
        windows = windows_of_study(conn, name)
        baselines = load_baselines(conn, name)
        evidence = stored_evidence(conn, name)
    if evidence is not None:
        save_plotly_graph_object(study, timeframe_figure(evidence), graph_object_id="timeframes")
    if runs:
        _save_equity(context, runs[:TOP], windows, baselines)
        _save_search(context, runs)
        save_plotly_graph_object(study, window_figure(name, runs, windows), graph_object_id="windows")
    return [run.trial_number for run in runs[:TOP]]


def _save_equity(
    context: StudyContext,
    runs: Sequence[RunRecord],
    windows: dict[str, list[WindowRecord]],
    baselines: Sequence[BaselineRecord],
) -> None:
    """Save the equity of the best trials; of several repeats the first is drawn."""
    from optimize.report.dashboard_figures import best_figures
    from optimize.report.figures import equity_figure

    curves, drawn = {}, set()
    for run in runs:
        found = trial_curves(context.spec.folder, windows[run.run_uuid])
        if found:
            curves[f"trial {run.trial_number} ({format_score(run.score)})"] = next(iter(found.values()))
            drawn.add(run.run_uuid)
    if not curves:
        return
    best = next(iter(curves.values()))
    holds = hold_curves(baselines, runs[0].spec["data"]["timeframe"], best.sessions)
    figure = equity_figure(context.spec.name, curves, holds)
    save_plotly_graph_object(context.study, figure, graph_object_id="equity")
    year = (runs[0].metrics or {}).get("sessions_per_year")
    if year is not None and runs[0].run_uuid in drawn:
        risk_free = context.spec.score.risk_free
        for name, each in best_figures(
            context.spec.name, runs[0].trial_number, best, holds, year, risk_free
        ).items():
            save_plotly_graph_object(context.study, each, graph_object_id=name)


def _save_search(context: StudyContext, runs: Sequence[RunRecord]) -> None:
    """Save the figures of all trials: costs, and the importance of the searched keys."""
    from optimize.report.dashboard_figures import costs_figure, keys_figure
    from optimize.report.html.study import SearchedKey

    study, name = context.study, context.spec.name
    save_plotly_graph_object(study, costs_figure(name, runs), graph_object_id="costs")
    keys = [
        SearchedKey(each.key, each.value, each.shuffled_mean, each.shuffled_high)
        for each in measure_importance(study)
    ]
    if keys:
        save_plotly_graph_object(study, keys_figure(name, keys), graph_object_id="importance")
