"""Download bars from a provider, piece by piece, and resume an interrupted download."""
