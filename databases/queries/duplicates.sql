-- Parameter sets of a study that were tried several times, the most uncertain first: how far seeds move the score
SELECT trial_number, runs, scored_runs, median, mean, deviation, score_min, score_max, parameters
FROM parameter_sets
WHERE study_name = :name AND runs > 1
ORDER BY deviation DESC NULLS LAST, runs DESC, trial_number;
