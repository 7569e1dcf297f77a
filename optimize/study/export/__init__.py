"""Bundles: the best trials made self-contained, and replayed before they get their name."""
