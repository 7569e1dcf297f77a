"""The processes that run trials, on this machine or as tasks of a Ray cluster, and what they show."""
