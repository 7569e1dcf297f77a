"""Nested walk-forward: a whole study before each outer window, whose best trial trades the window."""
