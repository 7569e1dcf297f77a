-- How far a study and its phases are: trials by state, what remains, who runs, what failed
SELECT *
FROM study_health
WHERE study_name = :name OR substr(study_name, 1, length(:name) + 1) = :name || '.'
ORDER BY study_name;
