"""`walkforge prune`."""

import dataclasses

from optimize.cli.confirmed import engine_of_removal
from optimize.report.format import gigabytes
from optimize.report.tables import Column, say, say_aside, show
from optimize.schemas.records import PruneConfig
from optimize.study.removal.prune import find_prunable, prune_runs

RUN_COLUMNS = (
    Column("study", "study", right=False),
    Column("trial", "trial"),
    Column("size_bytes", "size", gigabytes),
    Column("folder", "folder", right=False),
)


def prune(config: PruneConfig) -> None:
    """List the runs whose files are freed, and free them with confirm=true."""
    with engine_of_removal(config) as engine:
        if config.confirm:
            found = prune_runs(engine, config.database.url, config.output_dir, config.name, config.keep)
        else:
            found = find_prunable(engine, config.output_dir, config.name, config.keep)
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
