"""The views that people and queries read: Optuna's tables and ours, joined, filtered and decoded.

A study is maximised. Drop the views around a schema upgrade of Optuna, which renames its tables: SQLite
refuses that while a view reads them. They need SQLite 3.38, for the operator `->`.
"""

from sqlalchemy import Connection, Engine, inspect, text

OPTUNA_TABLES = {"studies", "trials", "trial_values", "trial_params", "trial_system_attributes"}

# A categorical is stored as the index of its choice. Floats come out with 15 digits, which is for reading:
# a trial is run again from wf_runs.parameters_json.
_PARAMETERS = """
SELECT json_group_object(decoded.param_name, json(decoded.value)) FROM (
  SELECT p.param_name, CASE
    WHEN json_extract(p.distribution_json, '$.name') = 'CategoricalDistribution' THEN
      p.distribution_json -> ('$.attributes.choices[' || CAST(p.param_value AS INTEGER) || ']')
    WHEN json_extract(p.distribution_json, '$.name') LIKE 'Int%' THEN CAST(p.param_value AS INTEGER)
    ELSE json_quote(p.param_value) END AS value
  FROM trial_params p WHERE p.trial_id = t.trial_id ORDER BY p.param_name) decoded
"""

# The last attempt, and only if it is the one that ended the trial: an earlier attempt failed or was lost.
_FINISHING_RUN = """
SELECT last.run_uuid FROM wf_runs last
WHERE last.study_name = s.study_name AND last.trial_number = t.number AND last.state = t.state
ORDER BY last.attempt DESC LIMIT 1
"""

# Infinity is legal in Optuna's JSON and would be cast to 0.
_INFEASIBLE = """
SELECT 1 FROM trial_system_attributes a
WHERE a.trial_id = t.trial_id AND a.key LIKE 'constraints:%'
  AND (a.value_json = 'Infinity' OR CAST(a.value_json AS REAL) > 0)
"""

_BEST_MODELS = f"""
SELECT study_name, trial_number, score, standard_error, total_return, max_drawdown, cost, trades, turnover,
  sharpe_zero_cost, buy_and_hold, parameters, run_uuid, windows, seconds, finished_at
FROM (
  SELECT found.*, r.standard_error, r.total_return, r.max_drawdown, r.cost, r.trades, r.turnover,
    r.sharpe_zero_cost, r.buy_and_hold, r.seconds, r.finished_at,
    (SELECT COUNT(DISTINCT w."window") FROM wf_windows w WHERE w.run_uuid = found.run_uuid) AS windows,
    ROW_NUMBER() OVER (
      PARTITION BY found.study_name, found.parameters ORDER BY found.score DESC, found.trial_number) AS place
  FROM (
    SELECT s.study_name, t.number AS trial_number, v.value AS score,
      ({_PARAMETERS}) AS parameters, ({_FINISHING_RUN}) AS run_uuid
    FROM studies s
    JOIN trials t ON t.study_id = s.study_id AND t.state = 'COMPLETE'
    JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0 AND v.value_type = 'FINITE'
    WHERE NOT EXISTS ({_INFEASIBLE})
  ) found
  LEFT JOIN wf_runs r ON r.run_uuid = found.run_uuid
) WHERE place = 1
"""

_TRIAL_WINDOWS = f"""
SELECT s.study_name, t.number AS trial_number, t.state, w.*
FROM studies s
JOIN trials t ON t.study_id = s.study_id AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
JOIN wf_windows w ON w.run_uuid = ({_FINISHING_RUN})
"""

_STUDY_HEALTH = """
SELECT study_name, phase, cap, complete, pruned, running, waiting, failed,
  MAX(0, cap - complete - pruned - running) AS remaining,
  (SELECT group_concat(pid) FROM (
    SELECT DISTINCT l.pid FROM wf_leases l
    WHERE l.study_name = counts.study_name AND l.renewed_at > 0 ORDER BY l.pid)) AS pids,
  (SELECT json_group_object(kind, n) FROM (
    SELECT f.failure_kind AS kind, COUNT(*) AS n FROM wf_runs f
    WHERE f.study_name = counts.study_name AND f.state = 'FAIL'
    GROUP BY f.failure_kind ORDER BY f.failure_kind)) AS failures,
  (SELECT MAX(r.finished_at) FROM wf_runs r WHERE r.study_name = counts.study_name) AS last_finished_at,
  (SELECT AVG(r.seconds) FROM wf_runs r
    WHERE r.study_name = counts.study_name AND r.state IN ('COMPLETE', 'PRUNED')) AS seconds_per_trial
FROM (
  SELECT s.study_name, o.phase, o.n_trials AS cap,
    COUNT(CASE t.state WHEN 'COMPLETE' THEN 1 END) AS complete,
    COUNT(CASE t.state WHEN 'PRUNED' THEN 1 END) AS pruned,
    COUNT(CASE t.state WHEN 'RUNNING' THEN 1 END) AS running,
    COUNT(CASE t.state WHEN 'WAITING' THEN 1 END) AS waiting,
    COUNT(CASE t.state WHEN 'FAIL' THEN 1 END) AS failed
  FROM studies s
  LEFT JOIN wf_studies o ON o.study_name = s.study_name
  LEFT JOIN trials t ON t.study_id = s.study_id
  GROUP BY s.study_id, s.study_name, o.phase, o.n_trials
) counts
"""

VIEWS = {"best_models": _BEST_MODELS, "trial_windows": _TRIAL_WINDOWS, "study_health": _STUDY_HEALTH}


def create_views(engine: Engine) -> bool:
    """Bring the views up to date where Optuna's tables exist; say whether they do.

    Several processes may do so at once; a view that is up to date is not touched.
    """
    if not set(inspect(engine).get_table_names()) >= OPTUNA_TABLES:
        return False
    with engine.begin() as conn:
        for name, body in VIEWS.items():
            statement = f"CREATE VIEW {name} AS {body.strip()}"
            if _stored(conn, name) != statement:
                conn.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
                conn.exec_driver_sql(statement.replace("VIEW", "VIEW IF NOT EXISTS", 1))
    return True


def drop_views(engine: Engine) -> None:
    """Remove the views, so that Optuna's tables may be renamed by an upgrade."""
    with engine.begin() as conn:
        for name in VIEWS:
            conn.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")


def _stored(conn: Connection, name: str) -> str | None:
    """Return the statement that made a view, or None; SQLite leaves IF NOT EXISTS out of it."""
    found = text("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = :name")
    return conn.execute(found, {"name": name}).scalar()
