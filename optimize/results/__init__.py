"""Tables of Walkforge beside those of Optuna: studies, runs, leases, windows, baselines, events, exports."""
