"""A copy of the database of the exported study, which a test may change."""

from pathlib import Path

from sqlalchemy import text

from optimize.database import Engine, open_engine
from tests.optimize.study.bundles import Exports


def copied_engine(exports: Exports, folder: Path) -> Engine:
    """Return a copy of the database in a folder."""
    target = folder / "copy.db"
    with exports.context.engine.connect() as conn:
        conn.execute(text("VACUUM INTO :target"), {"target": str(target)})
    return open_engine(f"sqlite:///{target}")
