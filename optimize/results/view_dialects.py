"""SQL expressions of the views that differ between SQLite and PostgreSQL."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """SQL expressions of one kind of database."""

    parameters: str  # of trial t, by name: {"agent.net":"small","agent.n_steps":64}
    parameter_set: str  # of trial t, exact: equal texts for equal values only
    pids: str  # of the workers that hold a trial of study `counts`
    failures: str  # of study `counts`, number of runs by kind
    now: str  # seconds since the epoch, as leases count them


_CHOICE_SQLITE = "(p.distribution_json -> ('$.attributes.choices[' || CAST(p.param_value AS INTEGER) || ']'))"
_CHOICE_POSTGRESQL = (
    "(CAST(p.distribution_json AS json) -> 'attributes' -> 'choices' -> CAST(p.param_value AS integer))"
)

# A categorical is stored as the index of its choice, and a choice that is a list as its JSON text. Floats
# have 15 digits here; the exact values of a trial are in wf_runs.parameters_json.
_SQLITE = Dialect(
    parameters=f"""
SELECT json_group_object(decoded.param_name, json(decoded.value)) FROM (
  SELECT p.param_name, CASE
    WHEN json_extract(p.distribution_json, '$.name') = 'CategoricalDistribution' THEN
      CASE WHEN {_CHOICE_SQLITE} LIKE '"[%' AND json_valid({_CHOICE_SQLITE} ->> '$')
        THEN {_CHOICE_SQLITE} ->> '$' ELSE {_CHOICE_SQLITE} END
    WHEN json_extract(p.distribution_json, '$.name') LIKE 'Int%' THEN CAST(p.param_value AS INTEGER)
    ELSE json_quote(p.param_value) END AS value
  FROM trial_params p WHERE p.trial_id = t.trial_id ORDER BY p.param_name) decoded
""",
    parameter_set="""
SELECT group_concat(quote(named.param_name) || '=' || quote(named.param_value + 0.0)) FROM (
  SELECT p.param_name, p.param_value FROM trial_params p
  WHERE p.trial_id = t.trial_id ORDER BY p.param_name) named
""",
    pids="""
SELECT group_concat(pid) FROM (
  SELECT DISTINCT l.pid FROM wf_leases l
  WHERE l.study_name = counts.study_name AND (<held>) ORDER BY l.pid)
""",
    failures="""
SELECT json_group_object(kind, n) FROM (
  SELECT f.failure_kind AS kind, COUNT(*) AS n FROM wf_runs f
  WHERE f.study_name = counts.study_name AND f.state = 'FAIL'
  GROUP BY f.failure_kind ORDER BY f.failure_kind)
""",
    now="(julianday('now') - 2440587.5) * 86400.0",
)

# A double cast to numeric keeps the same 15 digits; names are ordered by bytes, whatever the locale.
_POSTGRESQL = Dialect(
    parameters=f"""
SELECT '{{' || COALESCE(string_agg(
  CAST(to_json(CAST(decoded.param_name AS text)) AS text) || ':' || decoded.value,
  ',' ORDER BY decoded.param_name COLLATE "C"), '') || '}}' FROM (
  SELECT p.param_name, CASE
    WHEN CAST(p.distribution_json AS json) ->> 'name' = 'CategoricalDistribution' THEN
      CASE WHEN {_CHOICE_POSTGRESQL} #>> '{{}}' LIKE '[%]' THEN {_CHOICE_POSTGRESQL} #>> '{{}}'
        ELSE CAST({_CHOICE_POSTGRESQL} AS text) END
    WHEN CAST(p.distribution_json AS json) ->> 'name' LIKE 'Int%' THEN
      CAST(CAST(p.param_value AS bigint) AS text)
    WHEN CAST(p.value AS text) ~ '[.e]' THEN CAST(p.value AS text)
    ELSE CAST(p.value AS text) || '.0' END AS value
  FROM (
    SELECT *, CAST(CAST(param_value AS numeric) AS double precision) AS value FROM trial_params
  ) p WHERE p.trial_id = t.trial_id) decoded
""",
    parameter_set="""
SELECT string_agg(quote_literal(p.param_name) || '=' || encode(float8send(p.param_value + 0.0), 'hex'),
  ',' ORDER BY p.param_name COLLATE "C") FROM trial_params p WHERE p.trial_id = t.trial_id
""",
    pids="""
SELECT string_agg(CAST(held.pid AS text), ',' ORDER BY held.pid) FROM (
  SELECT DISTINCT l.pid FROM wf_leases l
  WHERE l.study_name = counts.study_name AND (<held>)) held
""",
    failures="""
SELECT '{' || COALESCE(string_agg(
  CAST(to_json(kinds.kind) AS text) || ':' || kinds.n, ',' ORDER BY kinds.kind COLLATE "C"), '')
  || '}' FROM (
  SELECT f.failure_kind AS kind, COUNT(*) AS n FROM wf_runs f
  WHERE f.study_name = counts.study_name AND f.state = 'FAIL'
  GROUP BY f.failure_kind) kinds
""",
    now="CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
)

DIALECTS = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
