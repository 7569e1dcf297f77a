"""Views for queries: the tables of Optuna and Walkforge, joined, filtered and decoded.

A study is maximised. Drop the views around a schema upgrade of Optuna, which renames its tables: SQLite
refuses that while a view reads them. Both databases give the same columns, types and values; expressions
that differ between them are in view_dialects. SQLite needs version 3.38, for the operator `->`.
"""

import hashlib
import re
from collections.abc import Collection

from sqlalchemy import Connection, Engine, inspect, text

from optimize.database import has_table, lock_schema
from optimize.database.address import url_text
from optimize.errors import BadInputError
from optimize.results.schema_version import refuse_newer
from optimize.results.study_views import BARE_PARTS, STUDY_VIEWS, VIEW_PARTS
from optimize.results.tables import LUCK, RUNS, SESSION_RETURNS, WINDOWS
from optimize.results.view_dialects import DIALECTS

OPTUNA_TABLES = {"studies", "trials", "trial_values", "trial_params", "trial_system_attributes"}
OWN_COLUMNS = {"studies": {"study_id", "study_name"}, "trials": {"trial_id", "study_id", "state"}}
# Columns that an older version did not write.
ADDED_TO_RUNS = (
    "gate", "flags", "max_drawdown_bars", "random_quantile", "probe_score", "probe_lead", "probe_lead_error",
    "inputs",
)  # fmt: skip
CLOSED = "closed"  # user attribute of a trial over a lowered cap: FAIL to Optuna, but not counted as failed

# Of lease l: its run renewed it in time and did not give the trial back.
_HELD = "l.renewed_at > 0 AND l.renewed_at + l.lease_s >= <now>"

# The last attempt, and only if it is the one that ended the trial: an earlier attempt failed or was lost.
_FINISHING_RUN = """
SELECT last.run_uuid FROM wf_runs last
WHERE last.study_name = t.study_name AND last.trial_number = t.number AND last.state = CAST(t.state AS TEXT)
ORDER BY last.attempt DESC LIMIT 1
"""

# Infinity is legal in Optuna's JSON and SQLite would cast it to 0. CASE, because a server may evaluate the
# parts of an AND in any order, and the attributes of other keys are no numbers.
INFEASIBLE = """
SELECT 1 FROM trial_system_attributes a
WHERE a.trial_id = t.trial_id AND 1 = CASE
  WHEN a.key NOT LIKE 'constraints:%' THEN 0
  WHEN a.value_json = 'Infinity' THEN 1
  WHEN CAST(a.value_json AS DOUBLE PRECISION) > 0 THEN 1
  ELSE 0 END
"""

_GATE = """
SELECT last.gate FROM wf_runs last
WHERE last.study_name = s.study_name AND last.trial_number = t.number AND last.state = CAST(t.state AS TEXT)
ORDER BY last.attempt DESC LIMIT 1
"""

# A trial that counts in the cap, with its score where it is COMPLETE, feasible and passes the gates.
_ENDED = """
SELECT t.study_name, t.trial_id, t.number, t.state, t.gate,
  CASE WHEN t.state = 'COMPLETE' AND t.gate IS NULL AND NOT EXISTS (<infeasible>) THEN (
    SELECT v.value FROM trial_values v
    WHERE v.trial_id = t.trial_id AND v.objective = 0 AND v.value_type = 'FINITE') END AS score,
  (<parameter_set>) AS parameter_set, (<source>) AS source
FROM (
  SELECT s.study_name, t.trial_id, t.number, t.state,
    CASE WHEN t.state = 'COMPLETE' THEN (<gate>) END AS gate
  FROM studies s JOIN trials t ON t.study_id = s.study_id AND t.state IN ('COMPLETE', 'PRUNED')
) t
"""

# One row a parameter set, scored by the run of the lower median. A run that was PRUNED or that a gate blocks
# counts below every score: a set of which most runs were stopped, infeasible or blocked has no score and no
# row. FAIL counts nowhere.
_BEST_MODELS = """
SELECT t.study_name, t.number AS trial_number, t.score, t.runs, t.pruned_runs, t.score_min, t.score_max,
  CASE WHEN t.runs * (<repeats>) = 1 THEN 'single seed'
    ELSE CAST(t.runs * (<repeats>) AS TEXT) || ' seeds' END AS seeds,
  r.standard_error, r.total_return, r.max_drawdown, r.cost, r.trades, r.turnover, r.sharpe_zero_cost,
  r.buy_and_hold, (<parameters>) AS parameters, r.run_uuid, t.gated_runs, (<run.flags>) AS flags,
  (<run.random_quantile>) AS random_quantile, (<run.probe_score>) AS probe_score,
  (<run.probe_lead>) AS probe_lead, (<run.probe_lead_error>) AS probe_lead_error, (<run.inputs>) AS inputs,
  (SELECT COUNT(DISTINCT w."window") FROM wf_windows w WHERE w.run_uuid = r.run_uuid) AS windows,
  r.seconds, r.finished_at, l.sharpe_low, l.sharpe_high, l.psr, l.deflated_sharpe_ratio, l.chance_sharpe,
  l.p_flat, l.p_buy_and_hold, l.n_tries, l.as_of_trials,
  CASE WHEN r.run_uuid IS NULL THEN 'by_hand' ELSE COALESCE(t.given, 'sampler') END AS source
FROM (
  SELECT ended.*,
    COUNT(*) OVER same_set AS runs, COUNT(ended.gate) OVER same_set AS gated_runs,
    COUNT(*) OVER same_set - COUNT(ended.score) OVER same_set - COUNT(ended.gate) OVER same_set
      AS pruned_runs,
    MIN(ended.score) OVER same_set AS score_min, MAX(ended.score) OVER same_set AS score_max,
    MAX(ended.source) OVER same_set AS given,
    ROW_NUMBER() OVER (
      PARTITION BY ended.study_name, ended.parameter_set ORDER BY ended.score NULLS FIRST, ended.number
    ) AS place
  FROM (<ended>) ended
  WINDOW same_set AS (PARTITION BY ended.study_name, ended.parameter_set)
) t
LEFT JOIN wf_runs r ON r.run_uuid = (<finishing_run>)
LEFT JOIN (<luck>)
WHERE t.place = (t.runs + 1) / 2 AND t.score IS NOT NULL
"""

# Trials whose value stands and which no ranking, finalist or export may take.
_GATED_TRIALS = """
SELECT t.study_name, t.number AS trial_number, (<run.gate>) AS gate, (<run.flags>) AS flags, r.score,
  r.standard_error, r.total_return, r.max_drawdown, (<run.max_drawdown_bars>) AS max_drawdown_bars,
  r.trades, r.turnover, r.cost, r.run_uuid, r.finished_at
FROM (
  SELECT s.study_name, t.number, t.state
  FROM studies s JOIN trials t ON t.study_id = s.study_id AND t.state = 'COMPLETE'
) t
JOIN wf_runs r ON r.run_uuid = (<finishing_run>)
WHERE (<run.gate>) IS NOT NULL
"""

_LUCK = """
wf_luck l ON l.study_name = t.study_name AND l.parameter_set = r.parameter_set AND l.run_uuid = r.run_uuid
"""
_NO_LUCK = f"(SELECT {', '.join(f'NULL AS {column.name}' for column in LUCK.columns)}) l ON 1 = 0"

_REPEATS = """
SELECT CASE WHEN COUNT(DISTINCT w.repeat) > 1 THEN COUNT(DISTINCT w.repeat) ELSE 1 END
FROM wf_windows w WHERE w.run_uuid = r.run_uuid
"""

_TRIAL_WINDOWS = """
SELECT t.study_name, t.number AS trial_number, CAST(t.state AS TEXT) AS state, (<window_columns>)
FROM (
  SELECT s.study_name, t.number, t.state
  FROM studies s JOIN trials t ON t.study_id = s.study_id AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
) t
JOIN wf_windows w ON w.run_uuid = (<finishing_run>)
"""

# running: with a lease that has not expired; waiting: queued by hand, or asked for and without such a lease.
_STUDY_HEALTH = """
SELECT study_name, phase, cap, complete, pruned, running, asked - running + queued AS waiting, failed,
  CASE WHEN cap < complete + pruned + asked THEN 0 ELSE cap - complete - pruned - asked END AS remaining,
  (<pids>) AS pids,
  (<failures>) AS failures,
  (SELECT MAX(r.finished_at) FROM wf_runs r WHERE r.study_name = counts.study_name) AS last_finished_at,
  (SELECT AVG(r.seconds) FROM wf_runs r
    WHERE r.study_name = counts.study_name AND r.state IN ('COMPLETE', 'PRUNED')) AS seconds_per_trial
FROM (
  SELECT s.study_name, o.phase, o.n_trials AS cap,
    COUNT(CASE t.state WHEN 'COMPLETE' THEN 1 END) AS complete,
    COUNT(CASE t.state WHEN 'PRUNED' THEN 1 END) AS pruned,
    COUNT(CASE t.state WHEN 'RUNNING' THEN 1 END) AS asked,
    COUNT(CASE WHEN t.state = 'RUNNING' AND EXISTS (
      SELECT 1 FROM wf_leases l
      WHERE l.study_name = s.study_name AND l.trial_number = t.number AND (<held>)) THEN 1 END) AS running,
    COUNT(CASE t.state WHEN 'WAITING' THEN 1 END) AS queued,
    COUNT(CASE t.state WHEN 'FAIL' THEN 1 END) - COUNT(a.trial_id) AS failed
  FROM studies s
  LEFT JOIN wf_studies o ON o.study_name = s.study_name
  LEFT JOIN trials t ON t.study_id = s.study_id
  LEFT JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = '<closed>' AND t.state = 'FAIL'
  GROUP BY s.study_id, s.study_name, o.phase, o.n_trials
) counts
"""

READ_FROM_RUNS = [(name, RUNS) for name in ("best_models", "gated_trials", "parameter_sets")]
VIEWS = {
    "best_models": _BEST_MODELS,
    "gated_trials": _GATED_TRIALS,
    "trial_windows": _TRIAL_WINDOWS,
    "study_health": _STUDY_HEALTH,
    **STUDY_VIEWS,
}


def refuse_foreign(bind: Engine | Connection) -> None:
    """Refuse a database of a newer version, and one of another program with tables named like Optuna's."""
    refuse_newer(bind)
    found = inspect(bind)
    there = set(found.get_table_names())
    for table, columns in OWN_COLUMNS.items():
        if table in there and not {column["name"] for column in found.get_columns(table)} >= columns:
            raise BadInputError(
                f"database.url={url_text(bind.engine.url)}: the table {table!r} in it is another program's: "
                "name another database"
            )


def create_views(engine: Engine) -> bool:
    """Bring the views up to date where Optuna's tables exist; return whether they exist.

    Several processes may call this at once; a view that is up to date is not changed.
    """
    if not set(inspect(engine).get_table_names()) >= OPTUNA_TABLES:
        return False
    with engine.begin() as conn:
        lock_schema(conn)
        for name in VIEWS:
            statement = _statement(name, conn.dialect.name)
            if not _is_stored(conn, name, statement):
                conn.execute(text(f"DROP VIEW IF EXISTS {name}"))
                _create(conn, name, statement)
    return True


def drop_views(engine: Engine) -> None:
    """Remove the views, so that Optuna's tables may be renamed by an upgrade."""
    with engine.begin() as conn:
        lock_schema(conn)
        for name in VIEWS:
            conn.execute(text(f"DROP VIEW IF EXISTS {name}"))


def stale_views(conn: Connection) -> list[str]:
    """Return the views that are missing, or that another version made."""
    return [name for name in VIEWS if not _is_stored(conn, name, _statement(name, conn.dialect.name))]


def with_views(conn: Connection, sql: str) -> str:
    """Return a SELECT that reads the views as this version defines them, whichever the database holds.

    A database that cannot be written to may hold those of another version, or none.
    """
    named = [name for name in VIEWS if re.search(rf"\b{name}\b", sql)]
    lacking: set[str] = set()
    for name, table in (*READ_FROM_RUNS, ("trial_windows", WINDOWS), ("trial_returns", SESSION_RETURNS)):
        if name in named and has_table(conn, table.name):  # an older version did not write all columns
            written = {column["name"] for column in inspect(conn).get_columns(table.name)}
            lacking |= {column.name for column in table.columns} - written
    if "best_models" in named and ("parameter_set" in lacking or not has_table(conn, LUCK.name)):
        lacking.add(LUCK.name)
    views = [f"{name} AS ({view_body(name, conn.dialect.name, lacking)})" for name in named]
    return f"WITH {', '.join(views)}\n{sql}" if views else sql


def view_body(name: str, dialect: str, lacking: Collection[str] = ()) -> str:
    """Return the SELECT of a view in an SQL dialect; columns that the database lacks are NULL."""
    words = DIALECTS[dialect]
    parts = {
        "ended": _ENDED,
        "parameters": words.parameters,
        "parameter_set": words.parameter_set,
        "repeats": _REPEATS,
        "pids": words.pids,
        "failures": words.failures,
        "finishing_run": _FINISHING_RUN,
        "infeasible": INFEASIBLE,
        "gate": "NULL" if "gate" in lacking else _GATE,
        "drawdowns": "NULL" if "drawdowns_json" in lacking else "v.drawdowns_json",
    } | {f"run.{name}": "NULL" if name in lacking else f"r.{name}" for name in ADDED_TO_RUNS}
    body = VIEWS[name].replace("(<window_columns>)", _window_columns(lacking)).replace("<closed>", CLOSED)
    joined = _NO_LUCK if {LUCK.name, "parameter_set"} & set(lacking) else _LUCK.strip()
    body = body.replace("(<luck>)", joined)
    for part in BARE_PARTS:
        body = body.replace(f"(<{part}>)", VIEW_PARTS[dialect][part])
    for part, sql in (parts | VIEW_PARTS[dialect]).items():
        body = body.replace(f"(<{part}>)", f"({sql})")
    return body.replace("(<held>)", f"({_HELD.replace('<now>', words.now)})").strip()


def _window_columns(lacking: Collection[str]) -> str:
    """Return the columns one by one: a server fixes the meaning of * when a view is made."""
    names = [column.name for column in WINDOWS.columns]
    return ", ".join(f'NULL AS "{name}"' if name in lacking else f'w."{name}"' for name in names)


def _statement(name: str, dialect: str) -> str:
    return f"CREATE VIEW {name} AS {view_body(name, dialect)}"


def _is_stored(conn: Connection, name: str, statement: str) -> bool:
    """Return whether a view was made by this statement; SQLite stores it without IF NOT EXISTS."""
    if conn.dialect.name == "postgresql":  # does not keep the text of a view
        comment = text("SELECT obj_description(to_regclass(:name), 'pg_class')")
        return bool(conn.execute(comment, {"name": name}).scalar() == _mark(statement))
    found = text("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = :name")
    return bool(conn.execute(found, {"name": name}).scalar() == statement)


def _create(conn: Connection, name: str, statement: str) -> None:
    if conn.dialect.name == "postgresql":
        conn.execute(text(statement))
        conn.execute(text(f"COMMENT ON VIEW {name} IS '{_mark(statement)}'"))
    else:
        conn.exec_driver_sql(statement.replace("VIEW", "VIEW IF NOT EXISTS", 1))


def _mark(statement: str) -> str:
    return f"Walkforge {hashlib.sha256(statement.encode()).hexdigest()}"
