-- Models of a study by their share of test windows with a positive Sharpe ratio; of each window the worst repeat
SELECT b.trial_number, b.score, COUNT(*) AS windows, SUM(CASE WHEN w.sharpe > 0 THEN 1 ELSE 0 END) AS positive,
  MIN(w.sharpe) AS worst_sharpe, MAX(w.sharpe) AS best_sharpe, MIN(w.total_return) AS worst_return,
  MIN(w.max_drawdown) AS worst_drawdown, MIN(w.trades) AS fewest_trades
FROM best_models b
JOIN (
  SELECT trial_number, "window", MIN(sharpe) AS sharpe, MIN(total_return) AS total_return,
    MIN(max_drawdown) AS max_drawdown, MIN(trades) AS trades
  FROM trial_windows
  WHERE study_name = :name
  GROUP BY trial_number, "window"
) w ON w.trial_number = b.trial_number
WHERE b.study_name = :name
GROUP BY b.trial_number, b.score
ORDER BY 1.0 * SUM(CASE WHEN w.sharpe > 0 THEN 1 ELSE 0 END) / COUNT(*) DESC, MIN(w.sharpe) DESC, b.trial_number
LIMIT 20;
