"""The market an agent lives in."""
