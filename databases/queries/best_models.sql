-- The ten best models of a study, one row a parameter set: its median run, how far its runs lie apart, and its luck
SELECT trial_number, score, runs, score_min, score_max, seeds, standard_error, sharpe_zero_cost, buy_and_hold,
  total_return, max_drawdown, cost, trades, turnover, windows, sharpe_low, sharpe_high, deflated_sharpe_ratio,
  p_flat, p_buy_and_hold, n_tries, as_of_trials, random_quantile, flags, source, parameters
FROM best_models
WHERE study_name = :name
ORDER BY score DESC, trial_number
LIMIT 10;
