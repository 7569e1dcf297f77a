"""The two phases of a study: timeframe first, model second."""
