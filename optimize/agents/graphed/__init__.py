"""Updates of stable-baselines3 as CUDA graphs: one step over static tensors, captured once and replayed."""
