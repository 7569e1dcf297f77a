"""`walkforge query`."""

import json
from typing import Any

from optimize.database import open_engine
from optimize.report.tables import Column, say, short, show, spell
from optimize.results.queries import check_query, find_study, list_queries, run_query
from optimize.schemas.records import QueryConfig

PARAMETERS = "parameters"


def query(config: QueryConfig) -> None:
    """Run a named SQL file for a study; without sql list the files."""
    if config.sql is None:
        rows: list[dict[str, Any]] = [{"sql": name, "does": does} for name, does in list_queries()]
        show(rows, [Column("sql", "sql", right=False), Column("does", "does", right=False)], config.format)
        return
    check_query(config.sql)
    engine = open_engine(config.database.url, read_only=True, busy_timeout_s=config.database.busy_timeout_s)
    study = find_study(engine, config.name)
    # Some queries read a study with its phases, by the name they share; the others find nothing under it.
    names, found = run_query(engine, config.sql, {"name": config.name})
    if not found and study != config.name:
        names, found = run_query(engine, config.sql, {"name": study})
    rows = [dict(zip(names, row, strict=True)) for row in found]
    if not rows and config.format == "table":
        say(f"sql={config.sql} name={config.name}: no rows")
        return
    told = PARAMETERS in names and config.format == "table"  # too wide for a column: a line for each row
    shown = [name for name in names if not (told and name == PARAMETERS)]
    show(rows, [Column(name, name, short, _is_number(rows, name)) for name in shown], config.format)
    if told:
        for row in rows:
            say(f"  {row[names[0]]:>3}  {spell(json.loads(row[PARAMETERS]))}")


def _is_number(rows: list[dict[str, Any]], name: str) -> bool:
    return all(isinstance(row[name], (int, float, type(None))) for row in rows)
