"""One configuration from data to score: markets, windows, training, evaluation."""
