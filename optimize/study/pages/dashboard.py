"""What optuna-dashboard shows of a study: notes, pictures and figures; and the page itself."""

import errno
import os
import socket
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.exceptions import ExperimentalWarning
from optuna.trial import Trial
from optuna_dashboard import save_note, save_plotly_graph_object, wsgi
from optuna_dashboard.artifact import get_artifact_path
from sqlalchemy import inspect, text

from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.results.records import BaselineRecord, RunRecord, WindowRecord, load_baselines
from optimize.results.runs import complete_but_untold, windows_of
from optimize.search.storage import open_storage
from optimize.study.evidence import stored_evidence
from optimize.study.files import run_folder
from optimize.study.handle import Handle
from optimize.study.pages.guard import access, address_of, guarded, is_loopback
from optimize.study.pages.note import signed, study_note, trial_note
from optimize.study.pages.picture import Curve, hold_curves, trial_curves, write_csv, write_picture
from optimize.study.spec import MODEL_PHASE, TIMEFRAME_PHASE

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

ARTIFACTS = "artifacts"
PICTURE, TABLE = "equity.png", "equity.csv"
TOP = 5


def artifact_store(output_dir: str | Path) -> FileSystemArtifactStore:
    """Return the store of every study's artifacts, its folder created."""
    folder = Path(output_dir) / ARTIFACTS
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def decorate(
    handle: Handle,
    trial: Trial,
    run: RunRecord,
    windows: Sequence[WindowRecord],
    baselines: Sequence[BaselineRecord],
) -> None:
    """Give a trial that is about to be told its note, and the equity of its test windows as PNG and CSV."""
    curves = trial_curves(handle.spec.folder, windows)
    picture = _attach_equity(handle, trial, run, windows, baselines, curves) if curves else None
    save_note(trial, trial_note(run, windows, baselines, picture))


def _attach_equity(
    handle: Handle,
    trial: Trial,
    run: RunRecord,
    windows: Sequence[WindowRecord],
    baselines: Sequence[BaselineRecord],
    curves: Mapping[int, Curve],
) -> str:
    """Upload the equity as PNG and CSV; return the address of the picture on the dashboard."""
    folder = run_folder(handle.spec.folder, run.trial_number, run.run_uuid)
    first = next(iter(curves.values()))
    holds = hold_curves(baselines, run.spec["data"]["timeframe"], first.sessions)
    borders = sorted({row.test_start for row in windows})[1:]
    label = f"trial {run.trial_number}"
    title = f"{run.study_name}, {label}: {run.state if run.score is None else f'score {signed(run.score)}'}"
    _attach(handle, trial, folder / TABLE, lambda path: write_csv(path, curves))
    draw = partial(write_picture, title=title, label=label, curves=curves, holds=holds, borders=borders)
    return str(get_artifact_path(trial, _attach(handle, trial, folder / PICTURE, draw)))


def _attach(handle: Handle, trial: Trial, path: Path, write: Callable[[Path], None]) -> str:
    """Upload a file unless the trial has it, finish an upload that was cut short, return its id."""
    output_dir = Path(handle.spec.output_dir)
    stored = [meta for meta in get_all_artifact_meta(trial) if meta.filename == path.name]
    if stored and (output_dir / ARTIFACTS / stored[0].artifact_id).is_file():
        return stored[0].artifact_id
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.partial")
    write(unfinished)
    unfinished.replace(path)  # it can be drawn again: not worth a wait for the disk
    store = artifact_store(output_dir)
    if not stored:
        return upload_artifact(study_or_trial=trial, file_path=str(path), artifact_store=store)
    with path.open("rb") as stream:
        store.write(stored[0].artifact_id, stream)
    return stored[0].artifact_id


def decorate_study(handle: Handle) -> None:
    """Give a study its note and, once trials are complete, its figures; those of an earlier launch go."""
    # Plotly is needed here alone, once a study.
    from optimize.study.pages.figures import timeframe_figure, window_figure

    study, name = handle.study, handle.spec.name
    save_note(study, study_note(handle.spec))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # else the page says "Objective 0"
        study.set_metric_names([f"Sharpe ratio ({handle.spec.score.kind})"])
    with handle.engine.connect() as conn:
        runs = [run for run in complete_but_untold(conn, name) if run.state == "COMPLETE"]
        runs.sort(key=lambda run: (-(run.score or 0.0), run.trial_number))
        windows = {run.run_uuid: windows_of(conn, run.run_uuid) for run in runs}
        baselines = load_baselines(conn, name)
        evidence = stored_evidence(conn, name)
    if evidence is not None:
        save_plotly_graph_object(study, timeframe_figure(evidence), graph_object_id="timeframes")
    if not runs:
        return
    _save_equity(handle, runs[:TOP], windows, baselines)
    save_plotly_graph_object(study, window_figure(name, runs, windows), graph_object_id="windows")


def _save_equity(
    handle: Handle,
    runs: Sequence[RunRecord],
    windows: dict[str, list[WindowRecord]],
    baselines: Sequence[BaselineRecord],
) -> None:
    """Save the equity of the best trials; of several repeats the first is drawn."""
    from optimize.study.pages.figures import equity_figure

    curves = {}
    for run in runs:
        found = trial_curves(handle.spec.folder, windows[run.run_uuid])
        if found:
            curves[f"trial {run.trial_number} ({run.score:.2f})"] = next(iter(found.values()))
    if not curves:
        return
    best = next(iter(curves.values()))
    holds = hold_curves(baselines, runs[0].spec["data"]["timeframe"], best.sessions)
    figure = equity_figure(handle.spec.name, curves, holds)
    save_plotly_graph_object(handle.study, figure, graph_object_id="equity")


class DashboardServer(ThreadingMixIn, WSGIServer):
    """A WSGI server that answers several requests at once and never waits for one at its end."""

    daemon_threads = True


class QuietHandler(WSGIRequestHandler):
    """Answer without a line in the log for each request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing; errors still come through log_error."""


def serve(
    url: str,
    output_dir: str | Path,
    host: str,
    port: int,
    name: str | None = None,
    *,
    write: bool = False,
    hosts: Sequence[str] = (),
) -> None:
    """Show optuna-dashboard on the studies of a database until Ctrl-C; name opens that study's page.

    It is read-only unless `write` is set, which prints an address with a token; `hosts` are further names
    that it answers to.
    """
    allowed = access(host, hosts, write)
    page = "/dashboard" if name is None else f"/dashboard/studies/{_study_id(url, name)}"
    if name is None:
        _stored_studies(url)
    storage = open_storage(url)
    try:
        app = wsgi(storage, artifact_store=artifact_store(output_dir))
        with _bind(host, port, guarded(app, allowed)) as server:
            if not is_loopback(host):
                print(
                    f"warning: host={host} is reachable from other machines, and optuna-dashboard has no "
                    "password: whoever reaches it can read every study",
                    file=sys.stderr,
                )
            may = "" if write else "; read-only, write=true lets you change studies"
            address = address_of(host, server.server_port, page, allowed)
            print(f"{address}   (Ctrl-C stops it){may}", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        storage.engine.dispose()


def _bind(host: str, port: int, app: "WSGIApplication") -> WSGIServer:
    try:
        return make_server(host, port, app, server_class=DashboardServer, handler_class=QuietHandler)
    except socket.gaierror as error:
        raise BadInputError(
            f"host={host!r} is no address of this machine ({error.strerror}): use host=127.0.0.1"
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise BadInputError(f"host={host!r} is no address of this machine: use host=127.0.0.1") from None
        reason = "in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        raise BadInputError(
            f"port={port} cannot be opened on {host} ({reason}): choose another one, such as port={port + 1}"
        ) from None


def _study_id(url: str, name: str) -> int:
    """Return the id of a study, or of the last phase of a study in two phases."""
    stored = _stored_studies(url)
    for candidate in (name, f"{name}.{MODEL_PHASE}", f"{name}.{TIMEFRAME_PHASE}"):
        if candidate in stored:
            return stored[candidate]
    known = ", ".join(sorted(stored)) or "none yet"
    raise BadInputError(f"name={name!r}: this database holds no such study; it holds {known}")


def _stored_studies(url: str) -> dict[str, int]:
    """Return the id of each study; look without creating anything, so that a wrong URL leaves no file."""
    engine = open_engine(url, read_only=True)
    try:
        if not inspect(engine).has_table("studies"):
            raise BadInputError(
                "database.url: this database holds no studies; run a study first or set database.url"
            )
        with engine.connect() as conn:
            rows = conn.execute(text("SELECT study_name, study_id FROM studies ORDER BY study_id"))
            return {name: number for name, number in rows}
    finally:
        engine.dispose()
