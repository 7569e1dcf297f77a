"""`walkforge delete`."""

from optimize.database import open_engine
from optimize.report.format import gigabytes
from optimize.report.tables import Column, say, say_aside, short, show
from optimize.results.tables import create_tables
from optimize.schemas.records import DeleteConfig
from optimize.study.delete import Deletion, delete_study, find_deletable
from optimize.study.spec import MISSING_NAME, check_name

PART_COLUMNS = (
    Column("study", "study", right=False),
    Column("part", "part", right=False),
    Column("rows", "rows", short),
)


def delete(config: DeleteConfig) -> None:
    """List the rows and files of a study, and remove them with confirm=true."""
    check_name((config.name or MISSING_NAME).replace(".", "-"))
    url = config.database.url
    engine = open_engine(url, read_only=not config.confirm, busy_timeout_s=config.database.busy_timeout_s)
    try:
        if config.confirm:
            create_tables(engine)
            found = delete_study(engine, url, config.output_dir, config.name, config.exports)
        else:
            found = find_deletable(engine, config.output_dir, config.name, config.exports)
    finally:
        engine.dispose()
    show([row for one in found for row in _rows(one)], PART_COLUMNS, config.format)
    tell = say if config.format == "table" else say_aside
    size = gigabytes(sum(one.size_bytes for one in found))
    names = ", ".join(one.study for one in found)
    kept = "its tries stay counted and its holdout stays kept"
    if config.confirm:
        tell(f"removed {names} ({size} of files); {kept}")
    else:
        tell(f"{names} would be removed ({size} of files), {kept}; nothing is removed yet: add confirm=true")
    if not config.exports:
        tell("exported bundles stay: exports=true removes them as well")


def _rows(one: Deletion) -> list[dict[str, object]]:
    """Return a row for each table and each path of a study."""
    rows: list[dict[str, object]] = [
        {"study": one.study, "part": table, "rows": count} for table, count in one.rows.items()
    ]
    return rows + [{"study": one.study, "part": path.as_posix(), "rows": None} for path in one.paths]
