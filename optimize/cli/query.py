"""`walkforge query`."""

import json
from typing import Any

from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.report.luck import refresh_for_reading
from optimize.report.tables import Column, say, short, show, spell
from optimize.results.queries import (
    check_query,
    find_study,
    list_queries,
    query_parameters,
    run_query,
    shows_luck,
    studies_of,
)
from optimize.schemas.records import QUERY_PARAMETERS, QueryConfig

PARAMETERS = "parameters"


def query(config: QueryConfig) -> None:
    """Run a named SQL file for a study; without sql list the files."""
    if config.sql is None:
        rows: list[dict[str, Any]] = [{"sql": name, "does": does} for name, does in list_queries()]
        columns = [Column("sql", "sql", right=False), Column("does", "does", right=False)]
        show(rows, columns, config.format, file=config.file)
        return
    given = _parameters(config, config.sql)
    engine = open_engine(config.database.url, read_only=True, busy_timeout_s=config.database.busy_timeout_s)
    study = find_study(engine, config.name)
    fresh = not shows_luck(config.sql) or all(
        [refresh_for_reading(engine, config.database.url, each) for each in studies_of(engine, config.name)]
    )
    # Some queries read a study with its phases, by the name they share; the others find nothing under it.
    names, found = run_query(engine, config.sql, {"name": config.name} | given)
    if not found and study != config.name:
        names, found = run_query(engine, config.sql, {"name": study} | given)
    rows = [dict(zip(names, row, strict=True)) for row in found]
    if not rows and config.format == "table":
        say(f"sql={config.sql} name={config.name}: no rows")
        return
    told = PARAMETERS in names and config.format == "table"  # too wide for a column: a line for each row
    shown = [name for name in names if not (told and name == PARAMETERS)]
    columns = [Column(name, name, short, _is_number(rows, name)) for name in shown]
    show(rows, columns, config.format, file=config.file)
    if told:
        for row in rows:
            say(f"  {row[names[0]]:>3}  {spell(json.loads(row[PARAMETERS]))}")
    if not fresh and config.format == "table":
        say("the columns of luck are as of as_of_trials trials: the database cannot be written to")


def _parameters(config: QueryConfig, sql: str) -> dict[str, Any]:
    """Return the parameters of a query beside its study, and refuse those that it does not take."""
    check_query(sql)
    wanted = set(query_parameters(sql))
    for key in QUERY_PARAMETERS:
        if key not in wanted and getattr(config, key) is not None:
            taken = ", ".join(sorted(wanted))
            raise BadInputError(f"{key}={getattr(config, key)!r}: sql={sql} does not take it, only {taken}")
    return {key: getattr(config, key) for key in QUERY_PARAMETERS if key in wanted}


def _is_number(rows: list[dict[str, Any]], name: str) -> bool:
    return all(isinstance(row[name], (int, float, type(None))) for row in rows)
