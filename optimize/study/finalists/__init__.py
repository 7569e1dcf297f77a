"""Finalists: the best parameter sets of a study, retrained on fresh seeds and tested under worse markets."""
