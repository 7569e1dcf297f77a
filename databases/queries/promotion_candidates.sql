-- Models above min_sharpe with min_trades trades in at least min_windows of the last_windows newest test windows
SELECT trial_number, score, windows, passed, worst_sharpe, fewest_trades, worst_drawdown, seeds
FROM (
  SELECT b.trial_number, b.score, b.seeds, COUNT(*) AS windows,
    SUM(CASE WHEN w.sharpe > COALESCE(CAST(:min_sharpe AS DOUBLE PRECISION), 0.0)
      AND w.trades >= COALESCE(CAST(:min_trades AS INTEGER), 1) THEN 1 ELSE 0 END) AS passed,
    MIN(w.sharpe) AS worst_sharpe, MIN(w.trades) AS fewest_trades, MIN(w.max_drawdown) AS worst_drawdown
  FROM best_models b
  JOIN (
    SELECT trial_number, "window", MIN(sharpe) AS sharpe, MIN(trades) AS trades,
      MIN(max_drawdown) AS max_drawdown, MAX("window") OVER (PARTITION BY trial_number) AS newest
    FROM trial_windows
    WHERE study_name = :name
    GROUP BY trial_number, "window"
  ) w ON w.trial_number = b.trial_number
  WHERE b.study_name = :name AND w."window" > w.newest - COALESCE(CAST(:last_windows AS INTEGER), 1000000)
  GROUP BY b.trial_number, b.score, b.seeds
) found
WHERE passed >= COALESCE(CAST(:min_windows AS INTEGER), windows)
ORDER BY passed DESC, score DESC, trial_number;
