-- Every test window of the ten best models of a study, best model first
SELECT b.trial_number, b.score, w."window", w.repeat, w.test_start, w.test_end, w.sharpe, w.sharpe_zero_cost,
  w.total_return, w.max_drawdown, w.cost, w.trades, w.exposure
FROM (
  SELECT trial_number, score FROM best_models
  WHERE study_name = :name
  ORDER BY score DESC, trial_number
  LIMIT 10
) b
JOIN trial_windows w ON w.study_name = :name AND w.trial_number = b.trial_number
ORDER BY b.score DESC, b.trial_number, w."window", w.repeat;
