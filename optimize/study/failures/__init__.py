"""Classify failures, retry passing ones, stop a study that keeps failing."""
