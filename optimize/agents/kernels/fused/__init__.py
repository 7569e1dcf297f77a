"""Evaluation of a policy inside one compiled loop over the bars."""
