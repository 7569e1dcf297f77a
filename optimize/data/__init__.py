"""From bars to a Market: providers, resampling, features, sessions, scaling."""
