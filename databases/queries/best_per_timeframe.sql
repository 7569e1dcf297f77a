-- The best parameter set of each timeframe of a study and its phases, the best timeframe first
SELECT study_name, timeframe, trial_number, score, runs, seeds, standard_error, sharpe_zero_cost, buy_and_hold,
  trades, flags, source, parameters
FROM (
  SELECT b.*, s.timeframe, ROW_NUMBER() OVER (
    PARTITION BY b.study_name, s.timeframe ORDER BY b.score DESC, b.trial_number) AS place
  FROM best_models b
  JOIN parameter_sets s ON s.study_name = b.study_name AND s.trial_number = b.trial_number
) placed
WHERE place = 1 AND (study_name = :name OR substr(study_name, 1, length(:name) + 1) = :name || '.')
ORDER BY score DESC, study_name, trial_number;
