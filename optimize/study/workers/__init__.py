"""Supervise worker processes, display their progress and send notifications."""
