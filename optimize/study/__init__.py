"""The study engine: exact cap, phases, workers, export, dashboard."""
