"""Own tables beside the ones of Optuna: runs, leases, windows, baselines, exports."""
