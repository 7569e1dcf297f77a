"""Checks of bars before anything is built on them: rows, prices, volume, sessions, span."""
