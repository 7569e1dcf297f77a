-- Models of a study by their share of test windows with a positive Sharpe ratio; of each window the worst repeat
SELECT trial_number, score, COUNT(*) AS windows, SUM(CASE WHEN sharpe > 0 THEN 1 ELSE 0 END) AS positive,
  MIN(sharpe) AS worst_sharpe, MAX(sharpe) AS best_sharpe, MIN(total_return) AS worst_return,
  MIN(max_drawdown) AS worst_drawdown, MIN(trades) AS fewest_trades
FROM (
  SELECT b.trial_number, b.score, w."window", MIN(w.sharpe) AS sharpe, MIN(w.total_return) AS total_return,
    MIN(w.max_drawdown) AS max_drawdown, MIN(w.trades) AS trades
  FROM best_models b
  JOIN wf_windows w ON w.run_uuid = b.run_uuid
  WHERE b.study_name = :name
  GROUP BY b.trial_number, b.score, w."window"
) found
GROUP BY trial_number, score
ORDER BY 1.0 * SUM(CASE WHEN sharpe > 0 THEN 1 ELSE 0 END) / COUNT(*) DESC, MIN(sharpe) DESC, trial_number
LIMIT 20;
