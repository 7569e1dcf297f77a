"""Attach missing figures and reports of trials: in and after a launch, and when the dashboard is opened."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import OptunaError

from envs.plain import from_plain
from optimize.database import Engine, SQLAlchemyError, has_table, open_engine
from optimize.errors import WalkforgeError, message_of
from optimize.report.luck import refresh_luck
from optimize.report.selection import record_selection
from optimize.results.queries import all_studies, best_models, health_of
from optimize.results.records import load_study
from optimize.results.tables import STUDIES
from optimize.study.context import StudyContext, open_study
from optimize.study.dashboard.attach import attach_reports, attach_study_report
from optimize.study.spec import StudySpec

DRAWN = "figures_of"  # user attribute of a study: number of complete trials in its figures
REPORTS_AT_ONCE = 20  # reports of a study attached before the page opens
REPORTS_PER_POLL = 500  # reports of a study attached at each poll while the page is open
REPORT_POLL_S = 10.0  # polling interval for newly finished trials while the page is open


def attach_figures(context: StudyContext, echo: Callable[[str], None]) -> None:
    """Attach a study's figures and the reports of its best trials.

    A failure is reported in one line, because trials do not depend on pictures.
    """
    try:
        with context.engine.connect() as conn:
            complete = health_of(conn, context.spec.name)["complete"]
        _record_selection(context)
        refresh_luck(context.engine, context.spec.name)
        best = attach_study_report(context)
        context.study.set_user_attr(DRAWN, complete)
        attach_reports(context, among=best)
    except (OSError, OptunaError, SQLAlchemyError, WalkforgeError) as error:
        echo(not_drawn(context.spec.name, message_of(error)))


def not_drawn(name: str, reason: str) -> str:
    """Return the line on the figures of a study that could not be drawn."""
    return f"{name}: its figures could not be drawn ({reason}); `walkforge dashboard` draws them"


def has_newer_trials(context: StudyContext) -> bool:
    """Return whether a study has other complete trials than its figures show."""
    with context.engine.connect() as conn:
        complete = health_of(conn, context.spec.name)["complete"]
    return bool(complete) and context.study.user_attrs.get(DRAWN) != complete


def _record_selection(context: StudyContext) -> None:
    """Store the selection walk-forward of a study that has a scored trial."""
    best = best_models(context.engine, context.spec.name, 1)
    with context.engine.begin() as conn:
        record = load_study(conn, context.spec.name)
        if best and best[0].sessions_per_year is not None and record is not None:
            record_selection(conn, record, best[0].sessions_per_year)


def attach_missing(
    url: str,
    output_dir: str | Path,
    echo: Callable[[str], None],
    most: int | None = REPORTS_AT_ONCE,
    ended: Callable[[], bool] = lambda: False,
) -> None:
    """Attach the figures of every study that has more complete trials than they show, and missing reports.

    `most` limits the reports of each study; once `ended` returns true no further one is begun.
    """
    engine = open_engine(url, read_only=True)
    try:
        if not has_table(engine, STUDIES.name):  # the page names the fault of such a database
            return
        waiting = [spec for name in all_studies(engine) if (spec := _spec(engine, name)) is not None]
    finally:
        engine.dispose()
    for spec in waiting:
        here = dataclasses.replace(spec.database, url=url)
        try:
            context = open_study(dataclasses.replace(spec, database=here, output_dir=str(output_dir)))
        except (OSError, SQLAlchemyError, WalkforgeError) as error:
            echo(f"{spec.name}: its figures could not be drawn ({message_of(error)})")
            continue
        try:
            if has_newer_trials(context):
                attach_figures(context, echo)
            attach_reports(context, most=most, ended=ended)
        except (OSError, OptunaError, SQLAlchemyError, WalkforgeError) as error:
            echo(f"{spec.name}: its notes could not be written ({message_of(error)})")
        finally:
            context.close()


@contextmanager
def attaching(url: str, output_dir: str | Path, echo: Callable[[str], None]) -> Iterator[None]:
    """Attach reports in a thread, of waiting trials and of trials that finish meanwhile.

    The thread ends silently if the database or its folder is read-only.
    """
    ended = threading.Event()

    def attach() -> None:
        refused: list[str] = []
        while not refused and not ended.wait(REPORT_POLL_S):
            attach_missing(url, output_dir, refused.append, REPORTS_PER_POLL, ended.is_set)

    thread = threading.Thread(target=attach, name="reports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=REPORT_POLL_S)


def _spec(engine: Engine, name: str) -> StudySpec | None:
    """Return the stored spec of a study, or None for one that another program or version wrote."""
    with engine.connect() as conn:
        record = load_study(conn, name)
    try:
        return None if record is None else from_plain(StudySpec, dict(record.spec))
    except WalkforgeError:
        return None
