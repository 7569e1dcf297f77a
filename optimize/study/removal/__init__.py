"""Remove a study, or free the files of its lower ranks, while nothing works on it."""
