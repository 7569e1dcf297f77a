"""Views on parameter sets, session returns, probes, the selection walk-forward, holdouts and finalists."""

from optimize.results.events import EventKind
from optimize.results.states import SetSource

LEARNING_SAMPLERS = ("tpe", "cmaes")  # they propose later trials by the scores of earlier ones
SEARCH_PHASE = "model"  # its space was chosen by the scores of phase 1
STARTING_POINT_OF = "starting_point_of"  # user attribute of a trial: source of the set that it was given
ERRORS = 1.96  # standard errors on either side, of a 95 % interval

# Of a trial whose set no sampler drew; NULL for the others.
_SET_SOURCE = f"""
COALESCE(
  (SELECT CASE WHEN a.value_json = '"{SetSource.START_FROM}"' THEN '{SetSource.START_FROM}'
    ELSE '{SetSource.ENQUEUE}' END
    FROM trial_user_attributes a WHERE a.trial_id = t.trial_id AND a.key = '{STARTING_POINT_OF}'),
  (SELECT '{SetSource.BY_HAND}'
    FROM trial_system_attributes a WHERE a.trial_id = t.trial_id AND a.key = 'fixed_params'))
"""

# One row a parameter set, also where it has no score. A sum of floats depends on its order, so that the
# order is stated.
PARAMETER_SETS = """
SELECT t.study_name, t.number AS trial_number, (<timeframe>) AS timeframe, t.runs, t.scored_runs,
  t.gated_runs, t.mean,
  CASE WHEN t.scored_runs > 1 THEN sqrt(t.squares / (t.scored_runs - 1)) END AS deviation,
  t.score AS median, t.score_min, t.score_max, (<parameters>) AS parameters
FROM (
  SELECT placed.*, SUM((placed.score - placed.mean) * (placed.score - placed.mean)) OVER whole AS squares
  FROM (
    SELECT ended.*,
      COUNT(*) OVER whole AS runs, COUNT(ended.score) OVER whole AS scored_runs,
      COUNT(ended.gate) OVER whole AS gated_runs,
      AVG(ended.score) OVER whole AS mean,
      MIN(ended.score) OVER whole AS score_min, MAX(ended.score) OVER whole AS score_max,
      ROW_NUMBER() OVER rising AS place
    FROM (<ended>) ended
    WINDOW rising AS (
      PARTITION BY ended.study_name, ended.parameter_set ORDER BY ended.score NULLS FIRST, ended.number),
      whole AS (
      PARTITION BY ended.study_name, ended.parameter_set ORDER BY ended.score NULLS FIRST, ended.number
      ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
  ) placed
  WINDOW whole AS (
    PARTITION BY placed.study_name, placed.parameter_set ORDER BY placed.score NULLS FIRST, placed.number
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
) t
LEFT JOIN wf_runs r ON r.run_uuid = (<finishing_run>)
WHERE t.place = (t.runs + 1) / 2
"""

# One row a study: the newest stored measurement, and how many trials have ended by now.
SELECTION_WALK_FORWARD = f"""
SELECT m.study_name, m.sharpe, m.standard_error, m.sharpe - {ERRORS} * m.standard_error AS interval_low,
  m.sharpe + {ERRORS} * m.standard_error AS interval_high, m.random_choice, m.sessions, m.as_of_trials,
  (SELECT COUNT(*) FROM wf_runs r WHERE r.study_name = m.study_name AND r.state IN ('COMPLETE', 'PRUNED'))
    AS ended_trials,
  CASE WHEN m.phase = '{SEARCH_PHASE}' OR m.sampler IN {LEARNING_SAMPLERS} OR m.given IS NOT NULL
    THEN 'optimistic' ELSE 'exact' END AS meaning,
  m.measured_at
FROM (
  SELECT e.study_name, e.at AS measured_at, o.phase, (<sampler>) AS sampler, (<given>) AS given,
    (<selection_figures>)
  FROM wf_events e LEFT JOIN wf_studies o ON o.study_name = e.study_name
  WHERE e.event_id = (
    SELECT MAX(l.event_id) FROM wf_events l
    WHERE l.study_name = e.study_name AND l.kind = '{EventKind.SELECTION}')
) m
"""

# One row an opening and symbol; openings of a symbol that share a session are counted.
HOLDOUT_OPENED = """
SELECT o.opening_id, s.value AS symbol, o.first AS first_session, o."end" AS end_session,
  (SELECT COUNT(*) FROM wf_holdout_openings p WHERE p.opening_id <= o.opening_id
    AND p.first < o."end" AND p."end" > o.first
    AND EXISTS (SELECT 1 FROM (<symbols_of_p>) q WHERE q.value = s.value)) AS times_opened,
  o.study_name, o.run_uuid, o.bundle, o.purpose, o.host, o.opened_at
FROM wf_holdout_openings o JOIN (<symbol_rows>)
"""

# One row a finalist, with the loss from search score to fresh score and its stress tests.
FINALISTS_RANKED = """
SELECT f.study_name, f.rank, f.trial_number, f.search_score, f.fresh_score,
  f.search_score - f.fresh_score AS winners_curse, f.lower_bound, f.upper_bound, f.score_mean,
  f.score_deviation, f.score_min, f.score_max, f.seeds, f.infeasible, f.random_quantile, f.gate, f.flags,
  (SELECT s.score FROM wf_finalist_stress s WHERE s.run_uuid = f.run_uuid AND s.scenario = 'costs_x2')
    AS score_costs_x2,
  (SELECT s.score FROM wf_finalist_stress s WHERE s.run_uuid = f.run_uuid AND s.scenario = 'costs_x3')
    AS score_costs_x3,
  (SELECT s.score FROM wf_finalist_stress s WHERE s.run_uuid = f.run_uuid AND s.scenario = 'delay_1')
    AS score_delay_1,
  (SELECT s.score FROM wf_finalist_stress s WHERE s.run_uuid = f.run_uuid AND s.scenario = 'worst_price')
    AS score_worst_price,
  (SELECT h.score FROM wf_finalist_holdouts h WHERE h.run_uuid = f.run_uuid) AS score_holdout,
  (SELECT h.buy_and_hold FROM wf_finalist_holdouts h WHERE h.run_uuid = f.run_uuid) AS buy_and_hold_holdout,
  f.parameters_json AS parameters, f.run_uuid, f.measured_at
FROM wf_finalists f
"""

# One row a session of each window; a drawdown is NULL where an older version measured the window.
TRIAL_RETURNS = """
SELECT t.study_name, t.number AS trial_number, CAST(t.state AS TEXT) AS state, v."window", v.repeat,
  day.value AS session, r.value AS "return", low.value AS drawdown
FROM (
  SELECT s.study_name, t.number, t.state
  FROM studies s JOIN trials t ON t.study_id = s.study_id AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
) t
JOIN wf_returns v ON v.run_uuid = (<finishing_run>)
JOIN wf_sessions d ON d.study_name = t.study_name AND d."window" = v."window"
JOIN (<session_rows>)
"""

_SESSION_ROWS = """json_each(v.returns_json) r JOIN json_each(d.sessions_json) day ON day.key = r.key
LEFT JOIN json_each((<drawdowns>)) low ON low.key = r.key"""
_SESSION_ROWS_POSTGRESQL = """LATERAL (
  SELECT CAST(element AS double precision) AS value, place
  FROM json_array_elements_text(CAST(v.returns_json AS json)) WITH ORDINALITY AS each(element, place)
) r ON TRUE
JOIN LATERAL (
  SELECT element AS value, place
  FROM json_array_elements_text(CAST(d.sessions_json AS json)) WITH ORDINALITY AS each(element, place)
) day ON day.place = r.place
LEFT JOIN LATERAL (
  SELECT CAST(element AS double precision) AS value, place
  FROM json_array_elements_text(CAST((<drawdowns>) AS json)) WITH ORDINALITY AS each(element, place)
) low ON low.place = r.place"""

# One row an outer window of a nested walk-forward: its newest trade.
OUTER_WINDOWS = f"""
SELECT e.study_name, (<outer_figures>), e.at AS traded_at
FROM wf_events e
WHERE e.kind = '{EventKind.OUTER_WINDOW}' AND e.event_id = (
  SELECT MAX(l.event_id) FROM wf_events l
  WHERE l.study_name = e.study_name AND l.kind = '{EventKind.OUTER_WINDOW}'
    AND (<outer_of_l>) = (<outer_of_e>))
"""

# One row a choice of inputs that a trial observed.
PROBES_MEASURED = """
SELECT p.study_name, p.timeframe, p.lookback, p.score, p.sharpe_zero_cost, p.total_return, p.cost,
  p.turnover, p.seconds,
  (SELECT COUNT(DISTINCT r.trial_number) FROM wf_runs r
    WHERE r.study_name = p.study_name AND r.inputs = p.inputs) AS trials,
  (SELECT MAX(r.score) FROM wf_runs r
    WHERE r.study_name = p.study_name AND r.inputs = p.inputs AND r.state = 'COMPLETE' AND r.gate IS NULL)
    AS best_trial_score,
  p.features_json AS features, p.inputs
FROM wf_probes p
"""

STUDY_VIEWS = {
    "probes": PROBES_MEASURED,
    "outer_windows": OUTER_WINDOWS,
    "trial_returns": TRIAL_RETURNS,
    "finalists": FINALISTS_RANKED,
    "parameter_sets": PARAMETER_SETS,
    "selection_walk_forward": SELECTION_WALK_FORWARD,
    "holdout_openings": HOLDOUT_OPENED,
}
_FIGURES = {  # of a stored measurement: column and key
    "sharpe": "sharpe",
    "standard_error": "standard_error",
    "random_choice": "random_choice",
    "sessions": "sessions",
    "as_of_trials": "trials",
}
_COUNTS = ("sessions", "as_of_trials")


_OUTER = {  # of a traded outer window: column, and key with the kind
    '"window"': ("window", "bigint"),
    "test_start": ("test_start", "text"),
    "test_end": ("test_end", "text"),
    "sessions": ("sessions", "bigint"),
    "study_before": ("inner", "text"),
    "n_trials": ("n_trials", "bigint"),
    "finalists": ("finalists", "bigint"),
    "trials": ("trials", "bigint"),
    "score_before": ("score", "double precision"),
    "sharpe": ("sharpe", "double precision"),
    "total_return": ("growth", "double precision"),
    "trade": ("trader", "text"),
}


def _figures_postgresql() -> str:
    kinds = {name: "bigint" if name in _COUNTS else "double precision" for name in _FIGURES}
    return ", ".join(
        f"CAST(CAST(e.detail_json AS json) ->> '{key}' AS {kinds[name]}) AS {name}"
        for name, key in _FIGURES.items()
    )


BARE_PARTS = ("selection_figures", "outer_figures", "symbol_rows", "session_rows")  # without parentheses
VIEW_PARTS: dict[str, dict[str, str]] = {  # expressions that differ between the kinds of database
    "sqlite": {
        "source": _SET_SOURCE.strip(),
        "timeframe": "r.spec_json ->> '$.data.timeframe'",
        "sampler": "o.spec_json ->> '$.sampler.name'",
        "given": "COALESCE(o.spec_json ->> '$.search.start_from', o.spec_json ->> '$.search.enqueue[0]')",
        "selection_figures": ", ".join(
            f"e.detail_json ->> '$.{key}' AS {name}" for name, key in _FIGURES.items()
        ),
        "outer_figures": ", ".join(
            f"e.detail_json ->> '$.{key}' AS {name}" for name, (key, _) in _OUTER.items()
        ),
        "outer_of_l": "l.detail_json ->> '$.window'",
        "outer_of_e": "e.detail_json ->> '$.window'",
        "symbol_rows": "json_each(o.symbols_json) s",
        "session_rows": _SESSION_ROWS,
        "symbols_of_p": "SELECT value FROM json_each(p.symbols_json)",
    },
    "postgresql": {
        "source": _SET_SOURCE.strip(),
        "timeframe": "CAST(r.spec_json AS json) -> 'data' ->> 'timeframe'",
        "sampler": "CAST(o.spec_json AS json) -> 'sampler' ->> 'name'",
        "given": "COALESCE(CAST(o.spec_json AS json) -> 'search' ->> 'start_from', "
        "CAST(o.spec_json AS json) -> 'search' -> 'enqueue' ->> 0)",
        "selection_figures": _figures_postgresql(),
        "outer_figures": ", ".join(
            f"CAST(CAST(e.detail_json AS json) ->> '{key}' AS {kind}) AS {name}"
            for name, (key, kind) in _OUTER.items()
        ),
        "outer_of_l": "CAST(l.detail_json AS json) ->> 'window'",
        "outer_of_e": "CAST(e.detail_json AS json) ->> 'window'",
        "symbol_rows": "LATERAL json_array_elements_text(CAST(o.symbols_json AS json)) AS s(value) ON TRUE",
        "session_rows": _SESSION_ROWS_POSTGRESQL,
        "symbols_of_p": "SELECT json_array_elements_text(CAST(p.symbols_json AS json)) AS value",
    },
}
