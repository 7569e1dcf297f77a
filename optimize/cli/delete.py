"""`walkforge delete`."""

from optimize.cli.confirmed import engine_of_removal
from optimize.report.format import gigabytes
from optimize.report.tables import Column, say, say_aside, short, show
from optimize.schemas.records import DeleteConfig
from optimize.study.removal.delete import Deletion, delete_study, find_deletable

PART_COLUMNS = (
    Column("study", "study", right=False),
    Column("part", "part", right=False),
    Column("rows", "rows", short),
)


def delete(config: DeleteConfig) -> None:
    """List the rows and files of a study, and remove them with confirm=true."""
    with engine_of_removal(config) as engine:
        if config.confirm:
            found = delete_study(engine, config.database.url, config.output_dir, config.name, config.exports)
        else:
            found = find_deletable(engine, config.output_dir, config.name, config.exports)
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
    rows += [{"study": one.study, "part": path.as_posix(), "rows": None} for path in one.paths]
    if one.pictures:
        files = f"{len(one.pictures)} files of its trials in {one.pictures[0].parent.as_posix()}"
        rows.append({"study": one.study, "part": files, "rows": None})
    return rows
