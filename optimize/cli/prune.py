"""`walkforge prune`."""

import dataclasses

from optimize.database import open_engine
from optimize.report.format import gigabytes
from optimize.report.tables import Column, say, say_aside, show
from optimize.results.tables import create_tables
from optimize.schemas.records import PruneConfig
from optimize.study.prune import find_prunable, prune_runs
from optimize.study.spec import MISSING_NAME, check_name

RUN_COLUMNS = (
    Column("study", "study", right=False),
    Column("trial", "trial"),
    Column("size_bytes", "size", gigabytes),
    Column("folder", "folder", right=False),
)


def prune(config: PruneConfig) -> None:
    """List the runs whose files are freed, and free them with confirm=true."""
    check_name((config.name or MISSING_NAME).replace(".", "-"))
    url = config.database.url
    engine = open_engine(url, read_only=not config.confirm, busy_timeout_s=config.database.busy_timeout_s)
    try:
        if config.confirm:
            create_tables(engine)
            found = prune_runs(engine, url, config.output_dir, config.name, config.keep)
        else:
            found = find_prunable(engine, config.output_dir, config.name, config.keep)
    finally:
        engine.dispose()
    rows = [dataclasses.asdict(run) | {"folder": run.folder.as_posix()} for run in found]
    if rows or config.format != "table":
        show(rows, RUN_COLUMNS, config.format)
    tell = say if config.format == "table" else say_aside
    size = gigabytes(sum(run.size_bytes for run in found))
    if not found:
        tell(f"no files lie below the best {config.keep} parameter sets of {config.name}")
    elif config.confirm:
        tell(f"freed {size} of {len(found)} runs; `walkforge replay name=... trial=...` trains a model anew")
    else:
        tell(f"{size} of {len(found)} runs would be freed; nothing is removed yet: add confirm=true")
