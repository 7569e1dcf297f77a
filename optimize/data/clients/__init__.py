"""The market-data services that bars can be downloaded from, one client library a file."""
