"""Sources of bars: files, providers and a synthetic market."""
