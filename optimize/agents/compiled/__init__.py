"""Training without per-operation overhead: what stable-baselines3 computes, as compiled kernels."""
