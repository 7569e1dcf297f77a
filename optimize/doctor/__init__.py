"""Examine a machine, a database and its studies, and repair them."""
