"""Agents built and trained through stable-baselines3."""
