"""Claim, execute, record and close the trials of a study."""
