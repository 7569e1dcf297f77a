"""Compiled training and evaluation: networks, on-policy and off-policy learners, fused rollouts."""
