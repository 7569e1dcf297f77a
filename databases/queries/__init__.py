"""Named SQL files, packaged as optimize.queries."""
