"""The search space, its storage, samplers and pruners."""
