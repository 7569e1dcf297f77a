-- Models above min_sharpe with min_trades trades in at least min_windows of the last_windows newest test windows
SELECT trial_number, score, windows, passed, worst_sharpe, fewest_trades, worst_drawdown, seeds, flags, source
FROM (
  SELECT trial_number, score, seeds, flags, source, COUNT(*) AS windows,
    SUM(CASE WHEN sharpe > COALESCE(CAST(:min_sharpe AS DOUBLE PRECISION), 0.0)
      AND trades >= COALESCE(CAST(:min_trades AS INTEGER), 1) THEN 1 ELSE 0 END) AS passed,
    MIN(sharpe) AS worst_sharpe, MIN(trades) AS fewest_trades, MIN(max_drawdown) AS worst_drawdown
  FROM (
    SELECT b.trial_number, b.score, b.seeds, b.flags, b.source, w."window", MIN(w.sharpe) AS sharpe,
      MIN(w.trades) AS trades, MIN(w.max_drawdown) AS max_drawdown, MAX(w."window") OVER (PARTITION BY b.trial_number) AS newest
    FROM best_models b
    JOIN wf_windows w ON w.run_uuid = b.run_uuid
    WHERE b.study_name = :name
    GROUP BY b.trial_number, b.score, b.seeds, b.flags, b.source, w."window"
  ) worst
  WHERE "window" > newest - COALESCE(CAST(:last_windows AS INTEGER), 1000000)
  GROUP BY trial_number, score, seeds, flags, source
) found
WHERE passed >= COALESCE(CAST(:min_windows AS INTEGER), windows)
ORDER BY passed DESC, score DESC, trial_number;
