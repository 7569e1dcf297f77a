-- The nested walk-forward of a study: best score before each outer window, and the result of its newest trade
SELECT o.test_start, o.test_end, o.study_before, o.score_before AS best_score_before, o.sharpe, o.total_return,
  w.trades, o.trade
FROM outer_windows o
LEFT JOIN wf_runs r ON r.study_name = o.trade AND r.state IN ('COMPLETE', 'PRUNED')
LEFT JOIN wf_windows w ON w.run_uuid = r.run_uuid
WHERE o.study_name = :name OR o.study_name = :name || '.model' OR o.study_name = :name || '.timeframe'
ORDER BY o.test_start;
