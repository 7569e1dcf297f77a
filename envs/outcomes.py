"""Outcomes of a step or a rollout of one account, shared by the ledger and every kernel that calls it."""

COMPLETED, RUINED, BAD_OBSERVATION, BAD_ACTION, BAD_EQUITY, BAD_REWARD = range(6)
"""BAD_... marks the value that was NaN or infinite, or an action outside its space."""
