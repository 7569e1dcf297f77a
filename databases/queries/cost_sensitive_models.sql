-- The models of a study that lose most of their Sharpe ratio to costs: zero-cost less net, the largest first
SELECT trial_number, score, sharpe_zero_cost, sharpe_zero_cost - score AS lost_to_costs, cost, total_return,
  turnover, trades
FROM best_models
WHERE study_name = :name AND sharpe_zero_cost IS NOT NULL
ORDER BY sharpe_zero_cost - score DESC, trial_number
LIMIT 20;
