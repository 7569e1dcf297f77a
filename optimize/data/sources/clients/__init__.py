"""One client for each provider of market data."""
