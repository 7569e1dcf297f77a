"""Walk-forward evaluation: windows, rollouts, metrics, baselines, score."""
