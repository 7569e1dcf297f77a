-- Time that a study and its phases took, by the end of their runs: hours of workers, seconds a run, first and last
SELECT study_name, state, COUNT(*) AS runs, SUM(seconds) / 3600.0 AS worker_hours, AVG(seconds) AS seconds_per_run,
  MAX(seconds) AS longest_run, MIN(started_at) AS first_started_at, MAX(finished_at) AS last_finished_at
FROM wf_runs
WHERE study_name = :name OR substr(study_name, 1, length(:name) + 1) = :name || '.'
GROUP BY study_name, state
ORDER BY study_name, state;
