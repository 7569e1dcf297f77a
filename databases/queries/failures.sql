-- Failures of a study and its phases by kind and message, the most frequent first; retried ones had a second try
SELECT study_name, failure_kind, failure_message, COUNT(*) AS failures, MIN(trial_number) AS first_trial,
  MAX(finished_at) AS last_at, SUM(CASE WHEN state = 'RETRIED' THEN 1 ELSE 0 END) AS retried
FROM wf_runs
WHERE state IN ('FAIL', 'RETRIED')
  AND (study_name = :name OR substr(study_name, 1, length(:name) + 1) = :name || '.')
GROUP BY study_name, failure_kind, failure_message
ORDER BY failures DESC, last_at DESC;
