"""Serve optuna-dashboard and draw its figures."""
