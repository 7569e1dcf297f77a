-- The nested walk-forward of a study: best score before each outer window, and the result of its trade
SELECT w.test_start, w.test_end, b.study_name AS study_before, MAX(b.score) AS best_score_before, w.sharpe,
  w.total_return, w.trades, r.study_name AS trade
FROM wf_runs r
JOIN wf_windows w ON w.run_uuid = r.run_uuid
LEFT JOIN best_models b ON substr(b.study_name, 1, length(:name) + 6) = :name || '.outer'
  AND r.study_name LIKE replace(b.study_name, '.model', '') || '.trade_%'
WHERE substr(r.study_name, 1, length(:name) + 6) = :name || '.outer'
  AND r.study_name LIKE '%.trade_%' AND r.state IN ('COMPLETE', 'PRUNED')
GROUP BY w.test_start, w.test_end, b.study_name, w.sharpe, w.total_return, w.trades, r.study_name
ORDER BY w.test_start, r.study_name;
