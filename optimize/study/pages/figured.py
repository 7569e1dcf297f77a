"""Figures of a study for whoever looks: after a launch, however it ended, and on first reading."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from optuna.exceptions import OptunaError
from sqlalchemy import Engine, inspect
from sqlalchemy.exc import SQLAlchemyError

from optimize.database import open_engine
from optimize.errors import WalkforgeError, message_of
from optimize.results.queries import all_studies, health_of
from optimize.results.records import load_study
from optimize.results.tables import STUDIES
from optimize.study.handle import Handle, open_study
from optimize.study.pages.dashboard import decorate_study
from optimize.study.spec import StudySpec, from_plain

DRAWN = "figures_of"  # user attribute of a study: complete trials in its figures
Say = Callable[[str], None]


def draw_figures(handle: Handle, say: Say) -> None:
    """Attach a study's figures; a failure is one line, because trials do not depend on pictures."""
    try:
        with handle.engine.connect() as conn:
            complete = health_of(conn, handle.spec.name)["complete"]
        decorate_study(handle)
        handle.study.set_user_attr(DRAWN, complete)
    except (OSError, OptunaError, SQLAlchemyError, WalkforgeError) as error:
        reason = message_of(error)
        say(
            f"{handle.spec.name}: its figures could not be drawn ({reason}); `walkforge dashboard` draws them"
        )


def draw_missing(url: str, output_dir: str | Path, say: Say) -> None:
    """Attach the figures of every study that has more complete trials than its figures show."""
    engine = open_engine(url, read_only=True)
    try:
        if not inspect(engine).has_table(STUDIES.name):  # the page names what is wrong with such a database
            return
        waiting = [spec for name in all_studies(engine) if (spec := _spec(engine, name)) is not None]
    finally:
        engine.dispose()
    for spec in waiting:
        here = dataclasses.replace(spec.database, url=url)
        try:
            handle = open_study(dataclasses.replace(spec, database=here, output_dir=str(output_dir)))
        except (OSError, SQLAlchemyError, WalkforgeError) as error:
            say(f"{spec.name}: its figures could not be drawn ({message_of(error)})")
            continue
        try:
            with handle.engine.connect() as conn:
                complete = health_of(conn, spec.name)["complete"]
            if complete and handle.study.user_attrs.get(DRAWN) != complete:
                draw_figures(handle, say)
        finally:
            handle.close()


def _spec(engine: Engine, name: str) -> StudySpec | None:
    """Return the stored spec of a study, or None for one that another program or version wrote."""
    with engine.connect() as conn:
        record = load_study(conn, name)
    try:
        return None if record is None else from_plain(StudySpec, dict(record.spec))
    except WalkforgeError:
        return None
