"""Exported agents: write, load, replay, evaluate and act."""
