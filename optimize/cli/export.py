"""`walkforge export`."""

import dataclasses
import json

from optimize.compose import ExportConfig
from optimize.database import open_engine
from optimize.errors import require
from optimize.study.export import Exported, export_best
from optimize.study.spec import MISSING_NAME, check_name


def export(config: ExportConfig) -> None:
    """Export the best trials of a study as bundles, and say how each came out and what to do next."""
    check_name((config.name or MISSING_NAME).replace(".", "-"))
    require(config.format != "csv", "format", config.format, "table or json for export")
    url = config.database.url
    open_engine(url, read_only=True).dispose()  # a database that is not there is refused, not made
    engine = open_engine(url, busy_timeout_s=config.database.busy_timeout_s)
    try:
        exported = export_best(engine, config.output_dir, config.name, config.top_n)
    finally:
        engine.dispose()
    if config.format == "json":
        print(json.dumps([dataclasses.asdict(one) for one in exported], indent=2, default=str))
    else:
        print("\n".join(_lines(exported, config)))


def _lines(exported: list[Exported], config: ExportConfig) -> list[str]:
    width = max(len(one.folder.as_posix()) for one in exported)
    lines = [
        f"{one.rank:>2}  trial {one.trial:<5} score {one.score:>8.4f}  "
        f"{one.folder.as_posix():<{width}}  {one.outcome}"
        for one in exported
    ]
    if len(exported) < config.top_n:
        lines.append(f"top_n={config.top_n} were asked for; {len(exported)} distinct trials are feasible")
    first = exported[0].folder.as_posix()
    return [*lines, "", "next:", f"  read {first}/CARD.md", f"  walkforge replay bundle={first}"]
